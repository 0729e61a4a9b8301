//! Connections to RabbitMQ: refused logins, silent peers, and sessions that end too often.

mod logins;
mod relay;
mod sessions;
mod silent;

use serde_json::Value;
use trunkline_support::{Daemon, eventually};

/// Waits until `/health/rabbitmq` gives this reason for the missing broker.
async fn told(daemon: &Daemon, reason: &str) -> String {
    eventually(reason, || {
        let (status, text) = daemon.get("/health/rabbitmq");
        let health: Value = serde_json::from_str(&text).expect("JSON");
        let error = health["error"].as_str().unwrap_or_default().to_owned();
        async move { (status == 503 && error.contains(reason)).then_some(error) }
    })
    .await
}

/// The detail of a raised condition in `/health`.
fn condition(daemon: &Daemon, kind: &str) -> Option<String> {
    let health: Value = serde_json::from_str(&daemon.get("/health").1).expect("JSON");
    let conditions = health["conditions"].as_array().expect("a list").clone();
    let found = conditions.iter().find(|condition| condition["condition"] == kind)?;
    Some(found["detail"].as_str().expect("a text").to_owned())
}

/// The numbers of threads and open files of a process.
fn held(daemon: &Daemon) -> (usize, usize) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", daemon.pid())).expect("/proc").count();
    (count("task"), count("fd"))
}
