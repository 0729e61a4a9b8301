//! Emits to the keys that the event lists.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// One `addressed` for each key. An empty key stands for the key of the route.
#[handler(description = "Emits to keys", emits = ["addressed"])]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let keys: Vec<String> = event.json()?;
    let emission = |key: String| {
        let plain = Emission::bytes("addressed", "text/plain", event.id.clone().into_bytes());
        if key.is_empty() { plain } else { plain.routing_key(key) }
    };
    Ok(keys.into_iter().map(emission).collect())
}
