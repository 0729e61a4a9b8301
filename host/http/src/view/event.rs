//! An event to publish, and the confirmation of a published event.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// An event to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// Event type. The event type is also the routing key, unless `[event-types]` or `routing_key` sets another routing key.
    #[schema(example = "call.ended", min_length = 1, max_length = 255)]
    pub r#type: String,
    /// Data of the event. The daemon keeps the data byte for byte.
    #[schema(value_type = serde_json::Value)]
    pub data: Box<RawValue>,
    /// Id of the event. The default is a new UUID version 7. The daemon accepts an event with a repeated id, but does not publish
    /// the event again.
    #[schema(max_length = 255)]
    pub id: Option<String>,
    /// Source of the event. The default is `/trunkline/api`.
    pub source: Option<String>,
    /// Subject of the event.
    pub subject: Option<String>,
    /// Time of the event, in RFC 3339. The default is the current time.
    #[schema(format = DateTime)]
    pub time: Option<String>,
    /// Exchange to which the event is published. The default is the default exchange of routes.toml.
    #[schema(max_length = 255)]
    pub exchange: Option<String>,
    /// Routing key of the message. The default is `key` of the event type, else the event type itself.
    #[schema(max_length = 255)]
    pub routing_key: Option<String>,
    /// AMQP priority of the message.
    pub priority: Option<u8>,
    /// Name of the queue that receives the reply of a route with `emit = { reply = true }`. Clients may name a queue only with
    /// `[http] reserved = true`.
    #[schema(max_length = 255)]
    pub reply_to: Option<String>,
    /// AMQP `correlation-id` of the message, which a reply to the event carries too. The default is the id of the event.
    #[schema(max_length = 255)]
    pub correlation_id: Option<String>,
    /// Tenant of the event.
    #[serde(rename = "organizationId")]
    pub organization_id: Option<String>,
    /// User of the event.
    #[serde(rename = "userId")]
    pub user_id: Option<String>,
    /// Further attributes of the event.
    #[serde(default)]
    pub attributes: std::collections::BTreeMap<String, String>,
}

/// An event that the broker has confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Accepted {
    /// Id of the event.
    pub id: String,
    /// Exchange that the event was published to.
    pub exchange: String,
    /// Routing key that the event was published with.
    pub routing_key: String,
    /// False if no queue is bound for the event. The broker then discards the event.
    pub routed: bool,
    /// True if an event with this id was accepted before. The daemon then does not publish the event again.
    pub repeated: bool,
}
