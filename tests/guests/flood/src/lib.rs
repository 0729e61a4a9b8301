//! Emits more events than `limits.emissions` allows.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// Ten thousand emissions.
#[handler]
fn handle(_event: Event) -> Result<Vec<Emission>, Failure> {
    Ok(vec![Emission::bytes("flooded", "text/plain", Vec::new()); 10_000])
}
