//! The dead letters of delayed messages, which are the same on both brokers.

use trunkline_event::{ExchangeName, Message, QueueName, Reason};

/// Name of the dead-letter queue of delayed messages.
pub const DELAYED_DEAD_LETTERS: &str = "trunkline.delay.dlq";
/// The longest error text in a header.
const ERROR_MAX_BYTES: usize = 1024;

/// Headers of a dead letter.
pub(crate) const REASON: &str = "trunkline-reason";
pub(crate) const ERROR: &str = "trunkline-error";
/// Attempts of the event. The attempts begin with 1 again when the dead letter comes back.
const ATTEMPT: &str = "trunkline-attempt";
/// The end of the event's TTL. A dead letter has no TTL.
const EXPIRES: &str = "trunkline-expires";

/// The dead-letter queue of delayed messages.
pub(crate) fn delayed_dead_letter_queue() -> QueueName {
    QueueName::new(DELAYED_DEAD_LETTERS).expect("short and not empty")
}

/// The dead letter of a delayed message: a copy for [`DELAYED_DEAD_LETTERS`], with the reason and the error.
pub(crate) fn delayed_dead_letter(message: &Message, reason: Reason, error: &str) -> Message {
    let mut copy = message.copy();
    copy.exchange = ExchangeName::default_exchange();
    copy.routing_key = delayed_dead_letter_queue().as_key();
    copy.properties.expiration = None;
    copy.properties.headers.remove(ATTEMPT);
    copy.properties.headers.remove(EXPIRES);
    copy.properties.headers.set(REASON, reason.as_str());
    copy.properties.headers.set(ERROR, &error[..error.floor_char_boundary(ERROR_MAX_BYTES)]);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_event::{Properties, RoutingKey};

    /// A retry becomes a dead letter hours after the end of its TTL, and is handled when it is published again.
    #[test]
    fn a_dead_letter_has_neither_attempts_nor_a_ttl() {
        let mut properties = Properties { expiration: Some("5".to_owned()), ..Properties::default() };
        for (name, value) in [(ATTEMPT, "3"), (EXPIRES, "99"), ("region", "eu")] {
            properties.headers.set(name, value);
        }
        let message = Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("q").expect("valid"),
            properties,
            body: bytes::Bytes::new(),
        };
        let letter = delayed_dead_letter(&message, Reason::Unroutable, "no queue");
        let names: Vec<&str> = letter.properties.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["region", REASON, ERROR]);
        assert_eq!(letter.properties.expiration, None);
    }
}
