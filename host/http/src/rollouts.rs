//! `GET /api/v1/rollouts`, `POST /api/v1/rollouts/ROUTE/promote|abort`

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::Answers;
use super::{Problem, Shared};

/// A canary and where its trial stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RolloutView {
    /// The route.
    pub route: String,
    /// The plugin that `plugin` names.
    pub stable: String,
    /// The plugin on trial.
    pub canary: String,
    /// Its share in percent.
    pub percent: f64,
    /// Whether the trial decides by itself.
    pub auto: bool,
    /// Digests, `phase` (`trial`, `promoted`, `rolled-back`), reason, and what was counted.
    pub trial: serde_json::Value,
}

/// What a trial is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum RolloutOrder {
    /// The canary gets everything.
    Promote,
    /// The canary gets nothing.
    Abort,
}

/// Every canary
///
/// Those that got an event at least, and where their trials stand.
#[utoipa::path(
    get,
    path = "/api/v1/rollouts",
    tag = "operation",
    operation_id = "listRollouts",
    security((), ("token" = [])),
    responses((status = 200, description = "The canaries", body = Vec<RolloutView>), Answers<401>)
)]
pub(super) async fn list(State(shared): State<Shared>) -> Json<Vec<RolloutView>> {
    Json(shared.backend.rollouts())
}

/// End the trial of a canary
///
/// `promote` gives it everything, `abort` nothing, until routes.toml or a file says otherwise.
#[utoipa::path(
    post,
    path = "/api/v1/rollouts/{route}/{order}",
    tag = "operation",
    operation_id = "orderRollout",
    security((), ("token" = [])),
    params(
        ("route" = String, Path, description = "Name of the route"),
        ("order" = RolloutOrder, Path, description = "What is to become of the canary"),
    ),
    responses(
        (status = 200, description = "The canary as it is now", body = RolloutView),
        Answers<400>, Answers<401>, Answers<404>,
    )
)]
pub(super) async fn order(
    State(shared): State<Shared>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Response {
    let Ok(Path((route, order))) = path else {
        return Problem::bad_request("the path is not UTF-8").into_response();
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
