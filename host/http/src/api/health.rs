//! The health paths. `/health/live` reports the process alone. `/health/ready` follows the broker.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::backend::ApiState;
use crate::view::health::{BrokerHealth, Health};

/// The result of a probe.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Probe {
    /// Result of the probe: `ok` or `unavailable`.
    status: &'static str,
    /// Reason why the daemon has no session with the broker. Null while the daemon has a session.
    error: Option<String>,
}

/// The paths that the daemon answers also when every connection slot is in use.
pub(crate) const PROBES: [&str; 7] =
    ["/livez", "/readyz", "/health", "/health/live", "/health/ready", "/health/rabbitmq", "/metrics"];

/// Show the health of the daemon
#[utoipa::path(
    get,
    path = "/health",
    tag = "health",
    operation_id = "getHealth",
    responses(
        (status = 200, description = "The status of the daemon is `ok`", body = Health),
        (status = 503, description = "The status of the daemon is `degraded` or `draining`", body = Health),
    )
)]
pub(crate) async fn summary(State(shared): State<ApiState>) -> (StatusCode, Json<Health>) {
    let health = shared.backend.health();
    (code(health.status == "ok"), Json(health))
}

/// Liveness probe
///
/// The path `/livez` is an alias of `/health/live`. The probe does not check the broker, because an outage of the broker is
/// no reason to restart the daemon.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "health",
    operation_id = "getLive",
    responses((status = 200, description = "The process answers", body = Probe))
)]
pub(crate) async fn live() -> Json<Probe> {
    Json(Probe { status: "ok", error: None })
}

/// Readiness probe
///
/// The path `/readyz` is an alias of `/health/ready`. The daemon is ready while the daemon has a session with the broker and is
/// neither starting nor draining.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "health",
    operation_id = "getReady",
    responses((status = 200, description = "The daemon accepts events", body = Probe), (status = 503, description = "The daemon does not accept events now", body = Probe))
)]
pub(crate) async fn ready(State(shared): State<ApiState>) -> (StatusCode, Json<Probe>) {
    let health = shared.backend.health();
    let status = if health.ready { "ok" } else { "unavailable" };
    (code(health.ready), Json(Probe { status, error: health.broker.error }))
}

/// Show the state of the broker
///
/// The broker is RabbitMQ or the embedded broker. The response contains no credentials.
#[utoipa::path(
    get,
    path = "/health/rabbitmq",
    tag = "health",
    operation_id = "getBrokerHealth",
    responses(
        (status = 200, description = "The daemon has a session with the broker", body = BrokerHealth),
        (status = 503, description = "The daemon has no session with the broker", body = BrokerHealth),
    )
)]
pub(crate) async fn broker(State(shared): State<ApiState>) -> (StatusCode, Json<BrokerHealth>) {
    let broker = shared.backend.health().broker;
    (code(broker.connected), Json(broker))
}

fn code(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
