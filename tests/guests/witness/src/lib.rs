//! Emits the fields of its event.

use trunkline_plugin::json::json;
use trunkline_plugin::{Emission, Event, Failure, handler};

/// One `seen` with every field but the data.
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
        "reply_to": event.reply_to,
        "correlation_id": event.correlation_id,
        "content_encoding": event.content_encoding,
        "redelivered": event.redelivered,
        "own_id": event.own_id,
    });
    Ok(vec![Emission::json("seen", &seen)?])
}
