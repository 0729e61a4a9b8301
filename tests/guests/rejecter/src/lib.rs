//! Rejects every event.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// Rejects the event.
#[handler]
fn handle(_event: Event) -> Result<Vec<Emission>, Failure> {
    Err(Failure::reject("not my kind of event"))
}
