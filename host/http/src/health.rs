//! Probes, in Kubernetes manners: live is the process alone, ready follows the broker both ways.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;

/// How the daemon is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Health {
    /// `ok`, `degraded` (something below is not as it should be) or `draining`.
    pub status: &'static str,
    /// Our version.
    pub version: &'static str,
    /// The broker.
    pub broker: BrokerHealth,
    /// Every configured route.
    pub routes: BTreeMap<String, RouteHealth>,
    /// What is wrong now; the same as the metric `trunkline_condition`.
    pub conditions: Vec<ConditionView>,
    /// Whether events can be taken: broker connected, not draining.
    #[serde(skip)]
    #[schema(ignore)]
    pub ready: bool,
}

/// Something that is wrong now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConditionView {
    /// Its kind: one of a closed set, see the documentation of `/health`.
    #[schema(value_type = String)]
    pub condition: &'static str,
    /// The route, queue or store that it is about; empty where there is only one.
    pub subject: String,
    /// What happened, as a sentence.
    pub detail: String,
    /// Since when, RFC 3339.
    #[schema(format = DateTime)]
    pub since: String,
}

/// The answer of a probe.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Probe {
    /// `ok` or `unavailable`.
    status: &'static str,
    /// Why the broker is not connected, where that is the reason.
    error: Option<String>,
}

/// The broker, without credentials.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BrokerHealth {
    /// `embedded` or `amqp://host:port/vhost`.
    pub broker: String,
    /// Usable now.
    pub connected: bool,
    /// It told us to stop publishing.
    pub blocked: bool,
    /// Sessions made so far.
    pub session: u64,
    /// Which broker answered last, as it says itself; null for the embedded one.
    #[schema(examples("RabbitMQ"))]
    pub product: Option<String>,
    /// Its version.
    #[schema(examples("4.0.5"))]
    pub version: Option<String>,
    /// What it refused when the topology was declared.
    pub refused: Vec<String>,
    /// Why it is not connected.
    pub error: Option<String>,
}

/// A route.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RouteHealth {
    /// The plugin's name.
    pub plugin: String,
    /// sha-256 of the plugin that runs.
    pub digest: Option<String>,
    /// Why the route does not run.
    pub error: Option<String>,
}

/// What is answered however many connections there are: every path that tells how the daemon is.
pub(super) const PROBES: [&str; 7] =
    ["/livez", "/readyz", "/health", "/health/live", "/health/ready", "/health/rabbitmq", "/metrics"];

/// Everything at a glance
#[utoipa::path(
    get,
    path = "/health",
    tag = "health",
    operation_id = "getHealth",
    responses(
        (status = 200, description = "All is as it should be", body = Health),
        (status = 503, description = "Something is not: degraded, or draining", body = Health),
    )
)]
pub(super) async fn summary(State(shared): State<Shared>) -> (StatusCode, Json<Health>) {
    let health = shared.backend.health();
    (code(health.status == "ok"), Json(health))
}

/// Whether the process answers
///
/// Also at `/livez`. Says nothing of the broker: its outage is no reason to restart the daemon.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "health",
    operation_id = "getLive",
    responses((status = 200, description = "It does", body = Probe))
)]
pub(super) async fn live() -> Json<Probe> {
    Json(Probe { status: "ok", error: None })
}

/// Whether events can be taken
///
/// Also at `/readyz`. The broker is connected, and the daemon neither starts nor drains.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "health",
    operation_id = "getReady",
    responses((status = 200, description = "Yes", body = Probe), (status = 503, description = "Not now", body = Probe))
)]
pub(super) async fn ready(State(shared): State<Shared>) -> (StatusCode, Json<Probe>) {
    let health = shared.backend.health();
    let status = if health.ready { "ok" } else { "unavailable" };
    (code(health.ready), Json(Probe { status, error: health.broker.error }))
}

/// The broker
///
/// RabbitMQ or the embedded one, without credentials.
#[utoipa::path(
    get,
    path = "/health/rabbitmq",
    tag = "health",
    operation_id = "getBrokerHealth",
    responses(
        (status = 200, description = "Connected", body = BrokerHealth),
        (status = 503, description = "Not connected", body = BrokerHealth),
    )
)]
pub(super) async fn broker(State(shared): State<Shared>) -> (StatusCode, Json<BrokerHealth>) {
    let broker = shared.backend.health().broker;
    (code(broker.connected), Json(broker))
}

fn code(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
