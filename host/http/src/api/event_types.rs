//! `GET /api/v1/events/types`

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::backend::ApiState;
use crate::openapi::problem_response::ProblemResponse;
use crate::view::event_type::EventTypeView;

/// The event types.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TypesView {
    /// Event types in the order of their names.
    types: Vec<EventTypeView>,
}

/// Show the event types
///
/// The response lists the event types of `[event-types]` in the running configuration.
#[utoipa::path(
    get,
    path = "/api/v1/events/types",
    tag = "events",
    operation_id = "listEventTypes",
    security((), ("token" = [])),
    responses(
        (status = 200, description = "Every event type", body = TypesView),
        ProblemResponse<401>,
    )
)]
pub(crate) async fn show_types(State(shared): State<ApiState>) -> Json<TypesView> {
    Json(TypesView { types: shared.backend.event_types() })
}
