//! Emits its input as often as the attribute `emit` says, else once.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// One emission, or the number in `emit`.
#[handler(description = "Gives back what it gets", emits = ["echoed"])]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let count = event.attribute("emit").and_then(|text| text.parse().ok()).unwrap_or(1);
    let emission = Emission::bytes("echoed", &event.content_type, event.data.clone());
    Ok(vec![emission; count])
}
