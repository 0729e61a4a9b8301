//! `GET /metrics`

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::backend::ApiState;

/// Show the metrics
///
/// The response has the metrics of the daemon in the text format 0.0.4 of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    operation_id = "getMetrics",
    responses((status = 200, description = "Every metric", body = String, content_type = "text/plain"))
)]
pub(crate) async fn show(State(shared): State<ApiState>) -> Response {
    let text = shared.backend.metrics();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
