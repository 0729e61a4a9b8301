//! Code that the tests of the embedded store share: events for a queue without a consumer, and a check that all of them
//! are stored.

use std::collections::BTreeSet;

use serde_json::Value;
use trunkline_support::{Daemon, eventually, patience};

use super::{handled, id};
use crate::bench::{Bench, drain};

pub(super) const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-kept]
bind = "keep"
[queues.$P-out]
bind = "echoed"
[routes.$P-echo]
from = "echo"
plugin = "echo"
"#;

/// A route that consumes the kept events and emits events without a queue, which makes room.
pub(super) const DRAIN: &str = r#"
[routes.$P-drain]
queue = "$P-kept"
plugin = "echo"
emit = { key = "unbound" }
"#;

/// A publish that was not confirmed.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    pub(super) id: String,
    pub(super) status: u16,
    pub(super) retry_after: Option<u64>,
    pub(super) problem: Value,
}

/// Publishes into the queue without a consumer, with a unique id; gives the id of a confirmed event.
pub(super) fn keep(daemon: &Daemon, data: &str) -> Result<String, Box<Refused>> {
    let id = uuid::Uuid::now_v7().to_string();
    let body = serde_json::json!({ "type": "keep", "id": id, "data": data }).to_string();
    let request = ureq::post(daemon.url("/api/v1/events")).config().timeout_global(Some(patience()));
    let request = request.http_status_as_error(false).build().header("content-type", "application/json");
    let mut response = request.send(body).expect("an answer");
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let text = response.body_mut().read_to_string().expect("a text");
    match response.status().as_u16() {
        202 => Ok(id),
        status => {
            let problem = serde_json::from_str(&text).unwrap_or(Value::String(text));
            Err(Box::new(Refused { id, status, retry_after, problem }))
        }
    }
}

/// Publishes until an event is refused; gives the confirmed ids and the refusal.
pub(super) fn keep_until_refused(daemon: &Daemon, data: &str) -> (BTreeSet<String>, Refused) {
    let mut confirmed = BTreeSet::new();
    loop {
        match keep(daemon, data) {
            Ok(id) => confirmed.insert(id),
            Err(refused) => return (confirmed, *refused),
        };
        assert!(confirmed.len() < 10_000, "nothing is ever refused");
    }
}

pub(super) fn health(daemon: &Daemon) -> Value {
    serde_json::from_str(&daemon.get("/health").1).expect("JSON")
}

/// The session of the daemon's broker.
pub(super) fn session(daemon: &Daemon) -> u64 {
    health(daemon)["broker"]["session"].as_u64().unwrap_or_default()
}

/// The detail of a raised condition.
pub(super) fn condition(daemon: &Daemon, word: &str) -> Option<String> {
    let health = health(daemon);
    let raised = health["conditions"].as_array()?.iter().find(|raised| raised["condition"] == word)?;
    raised["detail"].as_str().map(str::to_owned)
}

/// Waits until a condition is raised; gives its detail.
pub(super) async fn raised(daemon: &Daemon, word: &str) -> String {
    eventually(word, || {
        let detail = condition(daemon, word);
        async move { detail }
    })
    .await
}

/// Waits until the daemon is healthy without a restart and accepts events again; gives the id of one.
pub(super) async fn heals(daemon: &Daemon) -> String {
    let id = eventually("an event is taken again", || {
        let kept = keep(daemon, "again").ok();
        async move { kept }
    })
    .await;
    eventually("all is well", || {
        let health = health(daemon);
        let well = health["status"] == "ok" && daemon.get("/readyz").0 == 200;
        async move { well.then_some(()) }
    })
    .await;
    id
}

/// Checks that every confirmed event is in the store, and that the store accepts more; gives the stored ids.
pub(super) async fn is_all_there(bench: &Bench, confirmed: &BTreeSet<String>) -> BTreeSet<String> {
    let daemon = bench.start(ROUTES).await;
    handled(&daemon, "echo", 1).await;
    let more = keep(&daemon, "more").expect("it is confirmed");
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    let mut found = BTreeSet::new();
    while !found.contains(&more) {
        found.extend(drain(&broker, &bench.queue("$P-kept"), 1).await.iter().map(id));
    }
    let lost: Vec<&String> = confirmed.difference(&found).collect();
    assert!(lost.is_empty(), "confirmed and lost: {lost:?}");
    println!("{} confirmed, all there", confirmed.len());
    found
}
