//! Takes memory until there is none.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// Allocates and touches.
#[handler]
fn handle(_event: Event) -> Result<Vec<Emission>, Failure> {
    let mut kept = Vec::new();
    loop {
        kept.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}
