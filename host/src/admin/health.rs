//! Probes, in Kubernetes manners: live is the process alone, ready follows the broker both ways.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use super::Shared;

/// How the daemon is.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// `ok`, `degraded` (something below is not as it should be) or `draining`.
    pub status: &'static str,
    /// Our version.
    pub version: &'static str,
    /// The broker.
    pub broker: BrokerHealth,
    /// Every configured route.
    pub routes: BTreeMap<String, RouteHealth>,
    /// Whether events can be taken: broker connected, not draining.
    #[serde(skip)]
    pub ready: bool,
}

/// The broker, without credentials.
#[derive(Debug, Clone, Serialize)]
pub struct BrokerHealth {
    /// `embedded` or `amqp://host:port/vhost`.
    pub broker: String,
    /// Usable now.
    pub connected: bool,
    /// It told us to stop publishing.
    pub blocked: bool,
    /// Sessions made so far.
    pub session: u64,
    /// What it refused when the topology was declared.
    pub refused: Vec<String>,
    /// Why it is not connected.
    pub error: Option<String>,
}

/// A route.
#[derive(Debug, Clone, Serialize)]
pub struct RouteHealth {
    /// The plugin's name.
    pub plugin: String,
    /// sha-256 of the plugin that runs.
    pub digest: Option<String>,
    /// Why the route does not run.
    pub error: Option<String>,
}

pub(super) async fn summary(State(shared): State<Shared>) -> (StatusCode, Json<Health>) {
    let health = shared.backend.health();
    (code(health.status == "ok"), Json(health))
}

pub(super) async fn live() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "ok" }))
}

pub(super) async fn ready(State(shared): State<Shared>) -> (StatusCode, Json<serde_json::Value>) {
    let health = shared.backend.health();
    let status = if health.ready { "ok" } else { "unavailable" };
    (code(health.ready), Json(serde_json::json!({ "status": status, "error": health.broker.error })))
}

pub(super) async fn broker(State(shared): State<Shared>) -> (StatusCode, Json<BrokerHealth>) {
    let broker = shared.backend.health().broker;
    (code(broker.connected), Json(broker))
}

fn code(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
