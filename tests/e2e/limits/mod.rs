//! Limits of plugins: hostile components, each ended by the limit for it, and the effect on other routes.
//!
//! The figures that these tests print are kept in tests/guests/RESULTS.md.

mod compile;
mod crash;
mod load;
mod neighbours;
mod quick;
mod table;

use serde_json::Value;
use trunkline_event::Message;
use trunkline_support::Daemon;

use crate::bench::{Bench, drain};

/// Publishes one event; gives its id.
fn publish(daemon: &Daemon, kind: &str, data: &str) -> String {
    let body = serde_json::json!({ "type": kind, "data": data, "id": uuid::Uuid::now_v7().to_string() });
    let (status, accepted) = daemon.post("/api/v1/events", &body.to_string());
    assert_eq!((status, &accepted["routed"]), (202, &Value::Bool(true)), "{accepted}");
    accepted["id"].as_str().expect("an id").to_owned()
}

/// The only dead letter of a route, after its daemon has ended.
async fn dead_letter(bench: &Bench, routes: &str, route: &str) -> Message {
    let broker = bench.open(routes).await;
    let mut letters = drain(&broker, &bench.queue(&format!("$P-{route}.dlq")), 1).await;
    broker.close(trunkline_support::patience()).await;
    assert_eq!(letters.len(), 1, "{route}");
    letters.remove(0)
}

fn header<'a>(message: &'a Message, name: &str) -> &'a str {
    message.properties.headers.text(name).unwrap_or_default()
}
