//! `GET /api/v1/rollouts`, `POST /api/v1/rollouts/ROUTE/promote|abort`

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};

use crate::backend::ApiState;
use crate::openapi::problem_response::ProblemResponse;
use crate::problem::Problem;
use crate::view::rollout::{RolloutOrder, RolloutView};

/// List the canaries
///
/// The response lists every canary that got at least one event, with the state of the canary's trial.
#[utoipa::path(
    get,
    path = "/api/v1/rollouts",
    tag = "operation",
    operation_id = "listRollouts",
    security((), ("token" = [])),
    responses((status = 200, description = "The canaries", body = Vec<RolloutView>), ProblemResponse<401>)
)]
pub(crate) async fn list(State(shared): State<ApiState>) -> Json<Vec<RolloutView>> {
    Json(shared.backend.rollouts())
}

/// End the trial of a canary
///
/// After `promote`, the canary gets every event. After `abort`, the canary gets no event. The order applies until routes.toml
/// or the file of a plugin changes.
#[utoipa::path(
    post,
    path = "/api/v1/rollouts/{route}/{order}",
    tag = "operation",
    operation_id = "orderRollout",
    security((), ("token" = [])),
    params(
        ("route" = String, Path, description = "Name of the route"),
        ("order" = RolloutOrder, Path, description = "Order for the canary"),
    ),
    responses(
        (status = 200, description = "The canary after the order", body = RolloutView),
        ProblemResponse<400>, ProblemResponse<401>, ProblemResponse<404>,
    )
)]
pub(crate) async fn order(
    State(shared): State<ApiState>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Response {
    let Ok(Path((route, order))) = path else {
        return Problem::bad_request("the path must be UTF-8 in percent-encoding").into_response();
    };
    let order = match order.as_str() {
        "promote" => RolloutOrder::Promote,
        "abort" => RolloutOrder::Abort,
        _ => return Problem::not_found().into_response(),
    };
    match shared.backend.order_rollout(&route, order).await {
        Ok(view) => Json(view).into_response(),
        Err(problem) => problem.into_response(),
    }
}
