//! The copy of a message that a queue gives up.

use trunkline_config::DeadLetter;
use trunkline_event::{Message, QueueName};

/// The copy for the dead-letter target of a queue, with the headers by which RabbitMQ names queue and reason.
pub(crate) fn dead_letter(message: &Message, target: &DeadLetter, queue: &QueueName, reason: &str) -> Message {
    let mut copy = message.copy();
    copy.exchange = target.exchange.clone();
    copy.routing_key = target.key.clone();
    copy.properties.expiration = None;
    let headers = &mut copy.properties.headers;
    let first = [
        ("x-first-death-reason", reason),
        ("x-first-death-queue", queue.as_str()),
        ("x-first-death-exchange", message.exchange.as_str()),
    ];
    for (name, value) in first {
        if headers.get(name).is_none() {
            headers.set(name, value);
        }
    }
    headers.set("x-last-death-reason", reason);
    headers.set("x-last-death-queue", queue.as_str());
    copy
}
