//! Emits to the keys that it is told.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// One `addressed` a key; an empty one is the route's.
#[handler(description = "Emits to keys", emits = ["addressed"])]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let keys: Vec<String> = event.json()?;
    let emission = |key: String| {
        let plain = Emission::bytes("addressed", "text/plain", event.id.clone().into_bytes());
        if key.is_empty() { plain } else { plain.routing_key(key) }
    };
    Ok(keys.into_iter().map(emission).collect())
}
