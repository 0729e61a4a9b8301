//! Panics.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// Panics with a text that the dead letter must carry.
#[handler]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    panic!("guest says no to {}", event.id);
}
