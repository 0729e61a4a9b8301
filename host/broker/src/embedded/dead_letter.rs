//! What a queue gives up, as it goes to the dead-letter target.

use super::queue::Queue;
use trunkline_event::{ExchangeName, Message, RoutingKey};

/// The copy, with RabbitMQ's headers that tell why and from where.
pub(super) fn dead_letter(
    message: &Message,
    exchange: &ExchangeName,
    key: &RoutingKey,
    queue: &Queue,
    reason: &str,
) -> Message {
    let mut copy = message.clone();
    copy.exchange = exchange.clone();
    copy.routing_key = key.clone();
    copy.properties.expiration = None;
    let headers = &mut copy.properties.headers;
    let first = [
        ("x-first-death-reason", reason),
        ("x-first-death-queue", queue.name.as_str()),
        ("x-first-death-exchange", message.exchange.as_str()),
    ];
    for (name, value) in first {
        if headers.get(name).is_none() {
            headers.set(name, value);
        }
    }
    headers.set("x-last-death-reason", reason);
    headers.set("x-last-death-queue", queue.name.as_str());
    copy
}
