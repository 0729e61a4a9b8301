//! Grants of plugins: granted access works, and all other access is denied.

mod dns;
mod emit;
mod http;
mod kv;
mod lock;
mod secrets;
pub mod server;
mod signatures;
mod tls;

use serde_json::Value;
use trunkline_support::Daemon;

/// Publishes over HTTP, with or without an organisation, and gives the id.
pub fn publish(daemon: &Daemon, kind: &str, tenant: Option<&str>, data: &Value) -> String {
    let mut body = serde_json::json!({ "type": kind, "data": data });
    if let Some(tenant) = tenant {
        body["organizationId"] = tenant.into();
    }
    let (status, accepted) = daemon.post("/api/v1/events", &body.to_string());
    assert_eq!(status, 202, "{accepted}");
    accepted["id"].as_str().expect("an id").to_owned()
}

/// Publishes, waits for the outcome of the event, and reads the plugin's emission.
pub async fn answer(daemon: &Daemon, kind: &str, tenant: Option<&str>, data: &Value) -> Value {
    let id = publish(daemon, kind, tenant, data);
    let settled = daemon.settled(&id).await;
    assert_eq!(settled["outcome"], "ack", "{settled}\n{}", daemon.log());
    let emitted: Vec<Value> = serde_json::from_str(settled["emitted"].as_str().expect("a list")).expect("JSON");
    serde_json::from_str(emitted[0]["data"].as_str().expect("data")).expect("JSON")
}

/// The reason why a plugin does not run, from its route in `/health`.
pub fn refusal(daemon: &Daemon, route: &str) -> String {
    let (_, text) = daemon.get("/health");
    let health: Value = serde_json::from_str(&text).expect("JSON");
    health["routes"][route]["error"].as_str().unwrap_or_default().to_owned()
}
