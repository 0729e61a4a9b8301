//! The event that a handler gets.

use serde::Deserialize;

use crate::Failure;

/// One event. `trunkline:plugin/types.event` in the WIT folder defines each field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Id of the event, the same for every attempt.
    pub id: String,
    /// Source of the event: a URI reference, as in CloudEvents 1.0.
    pub source: String,
    /// Event type, for example `call.ended`.
    pub kind: String,
    /// Subject of the event, as in CloudEvents 1.0.
    pub subject: Option<String>,
    /// Time of the event, RFC 3339.
    pub time: Option<String>,
    /// Media type of `data`.
    pub content_type: String,
    /// The payload, without an envelope.
    pub data: Vec<u8>,
    /// Routing key of the message.
    pub routing_key: String,
    /// Exchange to which the message was published.
    pub exchange: String,
    /// Organisation to which the event belongs. The host copies the organisation to every emission.
    pub tenant: Option<String>,
    /// User to whom the event belongs. The host copies the user to every emission.
    pub user: Option<String>,
    /// Number of the attempt, counted from 1.
    pub attempt: u32,
    /// Attributes of the event, as names and values.
    pub attributes: Vec<(String, String)>,
    /// Queue to which the sender wants the reply. A route with `emit = { reply = true }` sends an emission without a
    /// routing key to this queue.
    pub reply_to: Option<String>,
    /// The AMQP property `correlation-id`.
    pub correlation_id: Option<String>,
    /// The AMQP property `content-encoding`. The host has decoded `data` already.
    pub content_encoding: Option<String>,
    /// Whether the broker may have delivered the message before.
    pub redelivered: bool,
    /// Whether the sender gave the id. Otherwise the host made the id.
    pub own_id: bool,
}

impl Event {
    /// Deserialises the payload.
    ///
    /// # Errors
    /// Returns a rejection with the position of the problem. The same bytes would fail at every attempt.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        // `from_slice` does not check texts that the type leaves out, so the whole payload is checked first.
        let text = std::str::from_utf8(&self.data);
        let text = text.map_err(|error| Failure::reject(format!("{}: not valid UTF-8: {error}", self.kind)))?;
        serde_json::from_str(text).map_err(|error| Failure::reject(format!("{}: {error}", self.kind)))
    }

    /// Returns the value of an attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
