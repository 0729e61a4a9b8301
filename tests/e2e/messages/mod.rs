//! Messages of other programs: CloudEvents, content codings, headers of every AMQP type, and JSON without a content type.

mod cloudevents;
mod codings;
mod headers;
mod shown;

use std::collections::BTreeMap;

use serde_json::Value;
use trunkline_broker::{Broker, Publication};
use trunkline_event::Message;

async fn put(broker: &Broker, publication: Publication) {
    let published = broker.publish(vec![publication]).await;
    drop(published.expect("confirmed"));
}

/// The fields that the guest `witness` saw, by the id of the event.
fn seen(messages: &[Message]) -> BTreeMap<String, Value> {
    let fields = |message: &Message| {
        let seen: Value = serde_json::from_slice(&message.body).expect("JSON");
        (seen["id"].as_str().expect("an id").to_owned(), seen)
    };
    messages.iter().map(fields).collect()
}

/// The attributes among the fields that the guest `witness` saw.
fn attributes(seen: &Value) -> BTreeMap<String, String> {
    serde_json::from_value::<Vec<(String, String)>>(seen["attributes"].clone()).expect("pairs").into_iter().collect()
}
