//! Sleeps as many milliseconds as the body says.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// Sleeps, then emits its input.
#[handler]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let text = std::str::from_utf8(&event.data).unwrap_or_default();
    let pause = text.trim().parse().map_err(|_| Failure::reject("the body is no number of milliseconds"))?;
    std::thread::sleep(std::time::Duration::from_millis(pause));
    Ok(vec![Emission::bytes("slept", "text/plain", event.data.clone())])
}
