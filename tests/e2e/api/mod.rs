//! The HTTP API on both brokers: types with schemas, batches, repeated ids, hooks, queues.

mod hooks;
mod ids;
mod queues;
mod reserved;
pub mod senders;
mod settings;
mod types;

use serde_json::{Value, json};
use trunkline_support::{Daemon, eventually, patience};

/// `POST` with further headers, for any status.
pub fn send(daemon: &Daemon, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let request = ureq::post(daemon.url(path)).config().timeout_global(Some(patience()));
    let mut request = request.http_status_as_error(false).build();
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.send(body).expect("an answer");
    let text = response.body_mut().read_to_string().expect("a text");
    (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn event(kind: &str, data: &Value) -> Value {
    json!({ "type": kind, "data": data })
}

fn publish(daemon: &Daemon, event: &Value) -> (u16, Value) {
    daemon.post("/api/v1/events", &event.to_string())
}

fn get(daemon: &Daemon, path: &str) -> Value {
    let (status, text) = daemon.get(path);
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).expect("JSON")
}

/// One queue of `GET /api/v1/events/queues`, once it is as wanted.
async fn queue(daemon: &Daemon, name: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("queue {name}"), || {
        let all: Value = serde_json::from_str(&daemon.get("/api/v1/events/queues").1).expect("JSON");
        let queues = all["queues"].as_array().map(Vec::as_slice).unwrap_or_default();
        let found = queues.iter().find(|queue| queue["name"] == name).filter(|queue| is_wanted(queue)).cloned();
        async move { found }
    })
    .await
}
