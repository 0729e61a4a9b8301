//! Emits its input as often as the attribute `emit` says, else once. Rejects an event with the attribute `poison`, and
//! traps on an event with the attribute `trap`.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// One emission, the number in `emit`, or none.
#[handler(description = "Gives back what it gets, and rejects poison", emits = ["echoed"])]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    if event.attribute("poison").is_some() {
        return Err(Failure::reject("poison"));
    }
    assert!(event.attribute("trap").is_none(), "trapped, as the attribute says");
    let count = event.attribute("emit").and_then(|text| text.parse().ok()).unwrap_or(1);
    let emission = Emission::bytes("echoed", &event.content_type, event.data.clone());
    Ok(vec![emission; count])
}
