//! Events and emissions.

use bytes::Bytes;

/// An event as a plugin receives it (`trunkline:plugin/types.event`), with facts that only the host uses.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Identity of the event, at most 255 bytes: the AMQP `message-id`, the envelope's id, or a new one ([`Event::own_id`]).
    pub id: String,
    /// Whether the sender gave the id. Otherwise the daemon made a new id for the message.
    pub own_id: bool,
    /// Origin of the event, a URI reference as in CloudEvents, e.g. `communications` or `/exchange/ocelot.events`.
    pub source: String,
    /// Event type, e.g. `call.ended`.
    pub kind: String,
    /// Subject of the event, as in CloudEvents.
    pub subject: Option<String>,
    /// Time of the event, RFC 3339.
    pub time: Option<String>,
    /// Media type of `data`.
    pub content_type: String,
    /// The payload, without any envelope.
    pub data: Bytes,
    /// The routing key that the event was published with.
    pub routing_key: String,
    /// The exchange that the event was published to; empty for the nameless exchange.
    pub exchange: String,
    /// The tenant that the event belongs to.
    pub tenant: Option<String>,
    /// The user that the event belongs to.
    pub user: Option<String>,
    /// Number of the attempt, from 1. Each retry adds one.
    pub attempt: u32,
    /// Further attributes: CloudEvents extensions, the envelope's metadata, headers of the sender. Names are unique.
    pub attributes: Vec<(String, String)>,
    /// The property `correlation-id` of the message. On an emission of a route, the id of the event that began the chain.
    pub correlation_id: Option<String>,
    /// The property `reply-to` of the message: the queue to which the sender wants the reply.
    pub reply_to: Option<String>,
    /// The property `content-encoding` of the message. `data` is decoded.
    pub content_encoding: Option<String>,
    /// Whether the broker may have delivered the message before.
    pub redelivered: bool,
    /// Hops from the first event of the chain to this event.
    pub hops: u32,
    /// W3C trace context, passed on unchanged.
    pub traceparent: Option<String>,
}

impl Event {
    /// Id of the event that began the chain of this event; the event's own id when it began the chain.
    #[must_use]
    pub fn chain_id(&self) -> &str {
        self.correlation_id.as_deref().unwrap_or(&self.id)
    }
}

/// A new event that a plugin returns (`trunkline:plugin/types.emission`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Emission {
    /// Type of the new event, e.g. `planning.task.created`.
    pub kind: String,
    /// The payload, without any envelope.
    pub data: Bytes,
    /// Media type of `data`; `application/json` when absent.
    pub content_type: Option<String>,
    /// Routing key in place of the route's `emit.key`.
    pub routing_key: Option<String>,
    /// Subject of the new event.
    pub subject: Option<String>,
    /// Further attributes.
    pub attributes: Vec<(String, String)>,
    /// AMQP priority, 0 to 255.
    pub priority: Option<u8>,
    /// Replaces the index in the emission's id.
    pub dedupe_key: Option<String>,
    /// Shortest time until the event is published, in milliseconds.
    pub deliver_after_ms: Option<u64>,
}
