//! The REST side on both brokers: types with schemas, batches, repeated ids, hooks, queues.

mod hooks;
mod ids;
mod queues;
mod settings;
mod types;

use serde_json::{Value, json};
use trunkline_support::{Daemon, eventually};

/// `POST` with further headers, whatever the status.
fn send(daemon: &Daemon, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let mut request = ureq::post(daemon.url(path)).config().http_status_as_error(false).build();
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
        let all = get(daemon, "/api/v1/events/queues");
        let found = all["queues"].as_array().expect("a list").iter().find(|queue| queue["name"] == name).cloned();
        let found = found.filter(&is_wanted);
        async move { found }
    })
    .await
}
