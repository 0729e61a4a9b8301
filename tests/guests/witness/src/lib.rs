//! Tells what it was told of an event.

use trunkline_plugin::json::json;
use trunkline_plugin::{Emission, Event, Failure, handler};

/// One `seen` with everything but the data.
#[handler(description = "Tells what it sees", emits = ["seen"])]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let seen = json!({
        "id": event.id,
        "source": event.source,
        "type": event.kind,
        "subject": event.subject,
        "routing_key": event.routing_key,
        "exchange": event.exchange,
        "tenant": event.tenant,
        "user": event.user,
        "attempt": event.attempt,
        "attributes": event.attributes,
    });
    Ok(vec![Emission::json("seen", &seen)?])
}
