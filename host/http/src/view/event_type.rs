//! An event type of routes.toml.

use serde::Serialize;
use utoipa::ToSchema;

/// An event type of `[event-types]` in routes.toml. Events of other types may be published too.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EventTypeView {
    /// Event type.
    pub r#type: String,
    /// Routing key of events of the type. A request may set another routing key.
    pub key: String,
    /// Priority of events of the type. A request may set another priority.
    pub priority: Option<u8>,
    /// Description of the event type.
    pub description: Option<String>,
    /// JSON Schema of the data.
    pub schema: Option<serde_json::Value>,
}
