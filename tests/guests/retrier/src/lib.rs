//! Succeeds at the attempt that the body names.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// Asks for a retry until that attempt.
#[handler]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let text = std::str::from_utf8(&event.data).unwrap_or_default();
    let wanted: u32 = text.trim().parse().map_err(|_| Failure::reject("the body is no number of attempts"))?;
    if event.attempt < wanted {
        return Err(Failure::retry(format!("attempt {} of {wanted}", event.attempt)));
    }
    let emission = Emission::bytes("managed", "text/plain", event.attempt.to_string().into_bytes());
    Ok(vec![emission.attribute("key", event.routing_key.clone())])
}
