//! Copies of a delivery: for a retry queue and for the dead-letter queue. Body and properties stay as they came; what
//! we know is added as headers of ours.

use crate::broker::Publication;
use crate::codec::header;
use crate::config::{DeadLetter, RetryStep};
use crate::event::{ExchangeName, Headers, Message, Properties, Reason};

/// What is known of a delivery beside its message.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Identity of the event, derived when the message has none.
    pub(super) id: String,
    /// The attempt that just ended, from 1.
    pub(super) attempt: u32,
    /// When it was received, RFC 3339.
    pub(super) now: String,
    /// The route and the plugin that ran.
    pub(super) route: String,
    pub(super) plugin: String,
    pub(super) digest: String,
}

/// The copy that waits for the next attempt. Its id stays, so that a consumer's dedupe sees one event.
pub(super) fn retry(message: &Message, seen: &Seen, step: &RetryStep, error: &str) -> Publication {
    let mut copy = base(message, seen, error);
    copy.properties.headers.set(header::ATTEMPT, seen.attempt + 1);
    copy.exchange = ExchangeName::default_exchange();
    copy.routing_key = step.queue.as_key();
    publication(copy)
}

/// The copy that people look at.
pub(super) fn dead_letter(
    message: &Message,
    seen: &Seen,
    target: &DeadLetter,
    reason: Reason,
    error: &str,
) -> Publication {
    let mut copy = base(message, seen, error);
    let headers = &mut copy.properties.headers;
    headers.set(header::ATTEMPT, seen.attempt);
    headers.set(header::REASON, reason.as_str());
    copy.exchange = target.exchange.clone();
    copy.routing_key = target.key.clone();
    publication(copy)
}

/// Never lost in silence: a copy that no queue takes is an error, and the input stays unacknowledged.
fn publication(message: Message) -> Publication {
    Publication { message, accept_unroutable: false }
}

fn base(message: &Message, seen: &Seen, error: &str) -> Message {
    let mut copy = message.clone();
    let properties = &mut copy.properties;
    properties.message_id = Some(seen.id.clone());
    // A message TTL would end the copy in its new queue.
    properties.expiration = None;
    let source_exchange = message.exchange.as_str();
    let headers = &mut properties.headers;
    strip_broker_headers(headers);
    add_our_headers(headers, message, seen, error, source_exchange);
    if copy.check().is_err() {
        // The headers that came were near the limit already: ours matter more than theirs.
        let mut slim = Headers::default();
        add_our_headers(&mut slim, message, seen, error, source_exchange);
        copy.properties = Properties { headers: slim, ..copy.properties };
    }
    copy
}

fn add_our_headers(headers: &mut Headers, message: &Message, seen: &Seen, error: &str, source_exchange: &str) {
    headers.set(header::ROUTE, seen.route.as_str());
    headers.set(header::PLUGIN, seen.plugin.as_str());
    headers.set(header::PLUGIN_DIGEST, seen.digest.as_str());
    headers.set(header::ERROR, error);
    let known = &message.properties.headers;
    for (name, fresh) in [
        (header::FIRST_SEEN, seen.now.as_str()),
        (header::SOURCE_EXCHANGE, source_exchange),
        (header::SOURCE_KEY, message.routing_key.as_str()),
    ] {
        headers.set(name, known.text(name).unwrap_or(fresh));
    }
    for name in [header::TENANT, header::USER, header::SUBJECT, header::HOPS, header::CAUSE, header::TRACEPARENT] {
        if let Some(value) = known.get(name) {
            headers.set(name, value.clone());
        }
    }
}

/// `x-death` on a publish of ours would be counted by 3.x and ignored by 4.x: neither is wanted.
fn strip_broker_headers(headers: &mut Headers) {
    let names = headers.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    for name in names {
        let is_brokers = ["x-death", "x-delivery-count", "x-acquired-count"].contains(&name.as_str())
            || name.starts_with("x-first-death-")
            || name.starts_with("x-last-death-");
        if is_brokers {
            headers.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::{HeaderValue, QueueName, RoutingKey, limits};

    fn message() -> Message {
        let mut properties = Properties { expiration: Some("500".into()), priority: Some(4), ..Properties::default() };
        properties.headers.set("region", "eu");
        properties.headers.set("x-death", HeaderValue::List(Vec::new()));
        Message {
            exchange: ExchangeName::new("events").expect("valid"),
            routing_key: RoutingKey::new("call.ended").expect("valid"),
            properties,
            body: bytes::Bytes::from_static(b"body"),
        }
    }

    fn seen(attempt: u32, now: &str) -> Seen {
        Seen { id: "e-1".into(), attempt, now: now.into(), route: "r".into(), plugin: "p".into(), digest: "d".into() }
    }

    fn step() -> RetryStep {
        RetryStep { delay: Duration::from_secs(1), queue: QueueName::new("q.retry.1000").expect("valid") }
    }

    #[test]
    fn a_retry_keeps_the_message_and_remembers_where_it_came_from() {
        let first = retry(&message(), &seen(1, "T1"), &step(), "busy").message;
        assert_eq!((first.exchange.as_str(), first.routing_key.as_str()), ("", "q.retry.1000"));
        assert_eq!((&first.body[..], first.properties.priority), (&b"body"[..], Some(4)));
        assert_eq!(first.properties.expiration, None);
        assert_eq!(first.properties.message_id.as_deref(), Some("e-1"));
        let headers = &first.properties.headers;
        assert_eq!((headers.int(header::ATTEMPT), headers.text("region")), (Some(2), Some("eu")));
        assert_eq!(headers.get("x-death"), None);
        // The copy comes back over the default exchange with the queue's name as key.
        let mut back = first.clone();
        back.routing_key = RoutingKey::new("q").expect("valid");
        let second = retry(&back, &seen(2, "T2"), &step(), "still busy").message.properties.headers;
        assert_eq!(second.text(header::SOURCE_EXCHANGE), Some("events"));
        assert_eq!(second.text(header::SOURCE_KEY), Some("call.ended"));
        assert_eq!(second.text(header::FIRST_SEEN), Some("T1"));
        assert_eq!(second.text(header::ERROR), Some("still busy"));
        assert_eq!(second.int(header::ATTEMPT), Some(3));
    }

    #[test]
    fn a_dead_letter_is_possible_even_with_headers_at_the_limit() {
        let mut full = message();
        full.properties.headers.set("big", "v".repeat(limits::HEADERS_MAX_BYTES - 200));
        full.properties.headers.set(header::TENANT, "org-1");
        let target =
            DeadLetter { exchange: ExchangeName::default_exchange(), key: RoutingKey::new("q.dlq").expect("valid") };
        let copy = dead_letter(&full, &seen(1, "T1"), &target, Reason::Trap, &"e".repeat(1024)).message;
        assert_eq!(copy.check(), Ok(()));
        let headers = &copy.properties.headers;
        assert_eq!((headers.text(header::REASON), headers.text(header::TENANT)), (Some("trap"), Some("org-1")));
    }
}
