//! The request for a stream of events, and the items that the stream sends.

use std::collections::BTreeMap;

use futures_util::stream::BoxStream;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A request for a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamRequest {
    /// Exchange of the stream. The default is the default exchange of routes.toml.
    pub exchange: Option<String>,
    /// Patterns for routing keys. An empty list selects every event.
    pub patterns: Vec<String>,
    /// The id of the last event that a reconnecting client received.
    pub last_event_id: Option<String>,
}

/// An item of a stream.
#[derive(Debug)]
pub enum StreamItem {
    /// The first item, with its id.
    Ready(String, StreamReady),
    /// An event, with the id that a reconnecting client sends.
    Event(String, Box<StreamEvent>),
    /// Events may have been lost for this client.
    Gap(StreamGap),
    /// A comment that keeps the connection open.
    KeepAlive,
}

/// The data of `event: ready`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StreamReady {
    /// Name of the stream. The name is the part of every item's `id` before the dot.
    pub stream: String,
    /// True if the stream resumes after the last event id of the client.
    pub resumed: bool,
    /// Exchange of the stream.
    pub exchange: String,
    /// Topic patterns of the stream.
    pub patterns: Vec<String>,
    /// Time in seconds for which the broker keeps events for a disconnected client.
    pub expires_s: u64,
}

/// The data of `event: gap`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StreamGap {
    /// Reason for the gap: `expired`, `overflow` or `passed`. A gap is `expired` if the queue of the stream was deleted, for
    /// example because the client was disconnected for too long. A gap is `overflow` if more events arrived than the queue keeps.
    /// A gap is `passed` if the queue no longer keeps the event with the last event id.
    pub reason: &'static str,
    /// Reason for the gap, as a sentence.
    pub detail: String,
}

/// An event of a stream. Either `data` or `data_base64` is present.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StreamEvent {
    /// Id of the event. A repeated event has the same id.
    pub id: String,
    /// Event type.
    pub r#type: String,
    /// Source of the event.
    pub source: String,
    /// Time of the event, in RFC 3339, if the message has a time.
    #[schema(format = DateTime)]
    pub time: Option<String>,
    /// Exchange that the event was published to.
    pub exchange: String,
    /// Routing key that the event was published with.
    pub routing_key: String,
    /// Tenant of the event.
    pub tenant: Option<String>,
    /// User of the event.
    pub user: Option<String>,
    /// Media type of the data.
    pub content_type: String,
    /// Data of the event, if the data is JSON. The data may be JSON with any content type. The field contains no line breaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<Box<RawValue>>,
    /// Data of the event in base64, if the data is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub data_base64: Option<String>,
    /// Further attributes of the event.
    pub attributes: BTreeMap<String, String>,
}

/// A stream ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StreamTicket {
    /// Value for the parameter `ticket` of a stream.
    pub ticket: String,
    /// Time in seconds within which the stream ticket opens a stream.
    pub expires_s: u64,
}

/// The items of a stream. The stream ends when the daemon stops. The client can then resume the stream on another daemon.
pub type StreamItems = BoxStream<'static, StreamItem>;
