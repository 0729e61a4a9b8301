//! Never ends.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// Loops.
#[handler]
fn handle(_event: Event) -> Result<Vec<Emission>, Failure> {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}
