//! Emits with a delay of as many milliseconds as the body says. Logs two lines and rejects a body that is not a number.

use std::time::Duration;

use trunkline_plugin::{Emission, Event, Failure, handler, log};

/// One delayed emission.
#[handler]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let text = String::from_utf8_lossy(&event.data).into_owned();
    log::info("looking at the body");
    let Ok(ms) = text.trim().parse() else {
        log::warn(&format!("{text:?} is no number"));
        return Err(Failure::reject("the body is no number of milliseconds"));
    };
    Ok(vec![Emission::bytes("later", "text/plain", event.data.clone()).deliver_after(Duration::from_millis(ms))])
}
