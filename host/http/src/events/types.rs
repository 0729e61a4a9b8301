//! `GET /api/v1/events/types`

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Shared;
use crate::openapi::Answers;

/// A type of event that routes.toml describes. Others may be published too.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EventTypeView {
    /// The type.
    pub r#type: String,
    /// The routing key it is published with, unless the request has another.
    pub key: String,
    /// The priority it is published with, unless the request has another.
    pub priority: Option<u8>,
    /// What it is for.
    pub description: Option<String>,
    /// JSON Schema of its data.
    pub schema: Option<serde_json::Value>,
}

/// Types of events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TypesView {
    /// In the order of their names.
    types: Vec<EventTypeView>,
}

/// Show the types of events
///
/// Those of `[event-types]` in routes.toml, as they are now.
#[utoipa::path(
    get,
    path = "/api/v1/events/types",
    tag = "events",
    operation_id = "listEventTypes",
    security((), ("token" = [])),
    responses(
        (status = 200, description = "All of them", body = TypesView),
        Answers<401>,
    )
)]
pub(crate) async fn show_types(State(shared): State<Shared>) -> Json<TypesView> {
    Json(TypesView { types: shared.backend.event_types() })
}
