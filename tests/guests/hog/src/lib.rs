//! Takes memory until the limit.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// Allocates memory and touches every page.
#[handler]
fn handle(_event: Event) -> Result<Vec<Emission>, Failure> {
    let mut kept = Vec::new();
    loop {
        kept.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}
