//! `GET /api/v1/rollouts`, `POST /api/v1/rollouts/ROUTE/promote|abort`

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{Problem, Shared};

/// A canary and where its trial stands.
#[derive(Debug, Clone, Serialize)]
pub struct RolloutView {
    /// The route.
    pub route: String,
    /// The plugin that `plugin` names.
    pub stable: String,
    /// The plugin on trial.
    pub canary: String,
    /// Its share.
    pub percent: f64,
    /// Whether the trial decides by itself.
    pub auto: bool,
    /// Digests, `phase` (`trial`, `promoted`, `rolled-back`), reason, and what was counted.
    pub trial: serde_json::Value,
}

/// What a trial is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutOrder {
    /// The canary gets everything.
    Promote,
    /// The canary gets nothing.
    Abort,
}

pub(super) async fn list(State(shared): State<Shared>) -> Json<Vec<RolloutView>> {
    Json(shared.backend.rollouts())
}

pub(super) async fn order(State(shared): State<Shared>, Path((route, order)): Path<(String, String)>) -> Response {
    let order = match order.as_str() {
        "promote" => RolloutOrder::Promote,
        "abort" => RolloutOrder::Abort,
        _ => return Problem::not_found().into_response(),
    };
    match shared.backend.order_rollout(&route, order) {
        Ok(view) => Json(view).into_response(),
        Err(problem) => problem.into_response(),
    }
}
