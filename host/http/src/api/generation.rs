//! `GET /api/v1/generation`, `POST /api/v1/reload`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::backend::ApiState;
use crate::openapi::problem_response::ProblemResponse;
use crate::view::generation::{GenerationView, Reloaded};

/// Show the running generation
///
/// The response has the number and the digests of the running generation. The response also has the result of the last
/// reload and of the last refused reload.
#[utoipa::path(
    get,
    path = "/api/v1/generation",
    tag = "operation",
    operation_id = "getGeneration",
    security((), ("token" = [])),
    responses((status = 200, description = "The running generation", body = GenerationView), ProblemResponse<401>)
)]
pub(crate) async fn show(State(shared): State<ApiState>) -> Json<GenerationView> {
    Json(shared.backend.generation())
}

/// Reload the configuration
///
/// The daemon reads the configuration and the plugins again. The daemon adopts a valid configuration completely. If the
/// configuration or a plugin is invalid, the daemon keeps the running generation. The field `errors` of the problem document
/// then lists every reason.
#[utoipa::path(
    post,
    path = "/api/v1/reload",
    tag = "operation",
    operation_id = "reload",
    security((), ("token" = [])),
    responses(
        (status = 200, description = "The daemon adopted a new generation, or nothing changed", body = Reloaded),
        ProblemResponse<401>, ProblemResponse<409>, ProblemResponse<503>,
    )
)]
pub(crate) async fn reload(State(shared): State<ApiState>) -> Response {
    match shared.backend.reload().await {
        Ok(reloaded) => Json(reloaded).into_response(),
        Err(problem) => problem.into_response(),
    }
}
