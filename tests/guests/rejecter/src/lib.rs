//! Wants nothing.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// Rejects.
#[handler]
fn handle(_event: Event) -> Result<Vec<Emission>, Failure> {
    Err(Failure::reject("not my kind of event"))
}
