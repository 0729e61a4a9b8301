//! The words of the domain: what every other module speaks in, and nothing that knows a wire or a guest.
//!
//! A *delivery* comes in, an [`Event`] is what a plugin sees of it, an [`Emission`] is what the plugin gives back, a
//! [`Message`] is either of them on the wire. Knows no broker, no engine and no file.

#![deny(unsafe_code)]

mod clock;
mod header_key;
mod message;
mod name;
mod outcome;
mod pattern;
mod reason;

pub use clock::{millis, now_ms};
pub use header_key::{HeaderKey, KEY_MIN_BYTES, OWN_PREFIX, Trust};
pub use message::{HeaderValue, Headers, KEPT_PREFIX, LimitError, Message, Properties, limits};
pub use name::{ExchangeName, NameError, PluginName, QueueName, RouteName, RoutingKey};
pub use outcome::{Failure, Outcome};
pub use pattern::{PATTERN_WORDS_MAX, PatternSet};
pub use reason::Reason;

use bytes::Bytes;
use uuid::Uuid;

/// What a plugin is handed for one delivery (`trunkline:plugin/types.event`), plus what the host keeps beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Identity of the event, at most 255 bytes: the AMQP `message-id`, the envelope's id, or a new one ([`Event::own_id`]).
    pub id: String,
    /// Whether the id is the sender's. Otherwise the daemon made it, anew for each message that came without one.
    pub own_id: bool,
    /// Who made it, a URI reference as in CloudEvents, e.g. `communications` or `/exchange/ocelot.events`.
    pub source: String,
    /// What happened, e.g. `call.ended`.
    pub kind: String,
    /// What it is about, as in CloudEvents.
    pub subject: Option<String>,
    /// When it happened, RFC 3339.
    pub time: Option<String>,
    /// Media type of `data`.
    pub content_type: String,
    /// The payload, without any envelope.
    pub data: Bytes,
    /// The key it was published with.
    pub routing_key: String,
    /// The exchange it was published to; empty for the default exchange.
    pub exchange: String,
    /// The organisation it belongs to.
    pub tenant: Option<String>,
    /// The user it belongs to.
    pub user: Option<String>,
    /// 1 for the first try, counted up by each retry.
    pub attempt: u32,
    /// Further attributes: CloudEvents extensions, the envelope's metadata.
    pub attributes: Vec<(String, String)>,
    /// Id of the event that began the chain this one belongs to; its own id when it began one.
    pub correlation_id: String,
    /// Emissions between the root event and this one.
    pub hops: u32,
    /// W3C trace context, passed on untouched.
    pub traceparent: Option<String>,
}

/// What a plugin gives back (`trunkline:plugin/types.emission`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Emission {
    /// Type of the new event, e.g. `planning.task.created`.
    pub kind: String,
    /// The payload, without any envelope.
    pub data: Bytes,
    /// Media type of `data`; `application/json` when absent.
    pub content_type: Option<String>,
    /// Overrides the route's `emit.key`.
    pub routing_key: Option<String>,
    /// What the new event is about.
    pub subject: Option<String>,
    /// Further attributes.
    pub attributes: Vec<(String, String)>,
    /// AMQP priority, 0 to 255.
    pub priority: Option<u8>,
    /// Stands in for the index in the emission's id.
    pub dedupe_key: Option<String>,
    /// Publish no sooner than this many milliseconds from now.
    pub deliver_after_ms: Option<u64>,
}

/// The namespace of emission ids: uuid v5 of "trunkline:emission" in the URL namespace of RFC 9562.
const EMISSION_NAMESPACE: Uuid = Uuid::from_u128(0x6d5c_1f0e_9b57_5f0b_8e55_0f6f_7c7a_2b11);

/// The id of an emission: uuid v5 of the input's id, the route and the index, or the plugin's own dedupe key instead
/// of the index. Neither time nor attempt nor plugin digest goes in, so a redelivery gives the same ids even when the
/// plugin was replaced in between.
#[must_use]
pub fn emission_id(input_id: &str, route: &RouteName, index: usize, dedupe_key: Option<&str>) -> String {
    let mut name = Vec::with_capacity(input_id.len() + route.as_str().len() + 24);
    // Length prefixes keep ("a", "bc") and ("ab", "c") apart.
    for part in [input_id, route.as_str()] {
        name.extend_from_slice(&(part.len() as u64).to_be_bytes());
        name.extend_from_slice(part.as_bytes());
    }
    match dedupe_key {
        Some(key) => {
            name.push(b'k');
            name.extend_from_slice(key.as_bytes());
        }
        None => {
            name.push(b'i');
            name.extend_from_slice(&(index as u64).to_be_bytes());
        }
    }
    Uuid::new_v5(&EMISSION_NAMESPACE, &name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str) -> RouteName {
        RouteName::new(name).expect("valid")
    }

    #[test]
    fn emission_ids_are_stable_and_apart() {
        let id = emission_id("event-1", &route("a"), 0, None);
        assert_eq!(id, emission_id("event-1", &route("a"), 0, None), "the same emission has the same id");
        let others = [
            emission_id("event-1", &route("a"), 1, None),
            emission_id("event-1", &route("b"), 0, None),
            emission_id("event-2", &route("a"), 0, None),
            emission_id("event-1", &route("a"), 0, Some("task")),
            emission_id("event-1a", &route("x"), 0, None),
            emission_id("event-1", &route("ax"), 0, None),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(&id, other);
            assert!(!others[index + 1..].contains(other), "{other} twice");
        }
        let keyed = emission_id("event-1", &route("a"), 0, Some("task"));
        assert_eq!(keyed, emission_id("event-1", &route("a"), 7, Some("task")), "a dedupe key replaces the index");
    }

    #[test]
    fn emission_ids_never_change_between_versions() {
        // A new release that gave other ids would defeat every consumer's dedupe in the middle of a redelivery.
        assert_eq!(emission_id("e", &route("r"), 0, None), "6a7fa669-6cd6-5096-a7a4-3710dc5e30d5");
    }
}
