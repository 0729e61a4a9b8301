//! Copies of a delivery: for a retry queue and for the dead-letter queue. Body and properties stay as they came; what
//! we know is added as headers of ours.

use std::time::Duration;

use crate::broker::Publication;
use crate::codec::header;
use crate::config::{DeadLetter, RetryStep};
use crate::event::{ExchangeName, Headers, Message, Properties, QueueName, Reason, millis};

/// What is known of a delivery beside its message.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Identity of the event, derived when the message has none.
    pub(crate) id: String,
    /// The attempt that just ended, from 1.
    pub(crate) attempt: u32,
    /// When it was received, RFC 3339.
    pub(crate) now: String,
    /// The route and the plugin that ran.
    pub(crate) route: String,
    pub(crate) plugin: String,
    pub(crate) digest: String,
    /// The last lines that the plugin logged or printed.
    pub(crate) log: String,
}

/// Where a copy waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait<'a> {
    /// The queue that it comes back to.
    pub(crate) source: &'a QueueName,
    /// How long, and in which queues on a broker that does not delay by itself.
    pub(crate) step: &'a RetryStep,
    /// On an ordered route the time before which the event does not run, in milliseconds since the Unix epoch: the
    /// copy itself comes back after the same time as all others.
    pub(crate) due_ms: Option<u64>,
    /// From 0 to 1: how much of the jitter is taken.
    pub(crate) luck: f64,
}

/// The copy that waits for the next attempt. Its id stays, so that a consumer's dedupe sees one event.
pub(crate) fn retry(message: &Message, seen: &Seen, wait: &Wait<'_>, error: &str) -> Publication {
    let mut copy = base(message, seen, error);
    copy.properties.headers.set(header::ATTEMPT, seen.attempt + 1);
    waiting(copy, wait)
}

/// The copy of an event that was not tried, because one before it with its key is not settled.
pub(crate) fn park(message: &Message, seen: &Seen, wait: &Wait<'_>) -> Publication {
    waiting(untried(message, seen), wait)
}

/// The copy of an event that was not tried, because its tenant has had its share. It comes back in its turn.
pub(crate) fn queue(message: &Message, seen: &Seen, source: &QueueName, wait: Duration, now_ms: u64) -> Publication {
    let mut copy = untried(message, seen);
    let turn_ms = now_ms.saturating_add(millis(wait));
    copy.properties.headers.set(header::TURN, i64::try_from(turn_ms).unwrap_or(i64::MAX));
    copy.exchange = ExchangeName::default_exchange();
    copy.routing_key = source.as_key();
    Publication { delay: Some(wait), ..publication(copy) }
}

/// With the attempt and the error of before.
fn untried(message: &Message, seen: &Seen) -> Message {
    let error = message.properties.headers.text(header::ERROR).map(str::to_owned);
    let mut copy = base(message, seen, "");
    match error {
        Some(error) => copy.properties.headers.set(header::ERROR, error),
        None => drop(copy.properties.headers.remove(header::ERROR)),
    }
    copy.properties.headers.set(header::ATTEMPT, seen.attempt);
    copy
}

fn waiting(mut copy: Message, wait: &Wait<'_>) -> Publication {
    copy.exchange = ExchangeName::default_exchange();
    match wait.due_ms {
        Some(due_ms) => copy.properties.headers.set(header::DUE, i64::try_from(due_ms).unwrap_or(i64::MAX)),
        None => drop(copy.properties.headers.remove(header::DUE)),
    }
    let place = wait.luck * wait.step.queues.len() as f64;
    match wait.step.queues.get(place as usize).or(wait.step.queues.last()) {
        Some(queue) => {
            copy.routing_key = queue.as_key();
            publication(copy)
        }
        None => {
            copy.routing_key = wait.source.as_key();
            let delay = wait.step.delay + wait.step.spread.mul_f64(wait.luck);
            Publication { delay: Some(delay), is_retry: true, ..publication(copy) }
        }
    }
}

/// The copy that people look at.
pub(crate) fn dead_letter(
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
    headers.remove(header::DUE);
    headers.remove(header::TURN);
    if !seen.log.is_empty() {
        headers.set(header::LOG, seen.log.as_str());
        if copy.check().is_err() {
            copy.properties.headers.remove(header::LOG);
        }
    }
    copy.exchange = target.exchange.clone();
    copy.routing_key = target.key.clone();
    publication(copy)
}

/// Never lost in silence: a copy that no queue takes is an error, and the input stays unacknowledged.
fn publication(message: Message) -> Publication {
    Publication::now(message, false)
}

fn base(message: &Message, seen: &Seen, error: &str) -> Message {
    let mut copy = message.clone();
    let properties = &mut copy.properties;
    properties.message_id = Some(seen.id.clone());
    // A message TTL would end the copy in its new queue.
    properties.expiration = None;
    let source_exchange = message.exchange.as_str();
    let headers = &mut properties.headers;
    headers.remove_brokers();
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
        Seen {
            id: "e-1".into(),
            attempt,
            now: now.into(),
            route: "r".into(),
            plugin: "p".into(),
            digest: "d".into(),
            log: "info main: begun".into(),
        }
    }

    fn step() -> RetryStep {
        let queue = |ms| QueueName::new(format!("q.retry.{ms}")).expect("valid");
        RetryStep {
            delay: Duration::from_secs(1),
            spread: Duration::from_millis(250),
            queues: vec![queue(1000), queue(1250)],
        }
    }

    fn wait(step: &RetryStep, luck: f64) -> Wait<'_> {
        static SOURCE: std::sync::LazyLock<QueueName> =
            std::sync::LazyLock::new(|| QueueName::new("q").expect("valid"));
        Wait { source: &SOURCE, step, due_ms: None, luck }
    }

    #[test]
    fn jitter_takes_one_of_the_queues_or_a_longer_delay() {
        for (luck, key) in [(0.0, "q.retry.1000"), (0.49, "q.retry.1000"), (0.5, "q.retry.1250"), (1.0, "q.retry.1250")]
        {
            let copy = retry(&message(), &seen(1, "T1"), &wait(&step(), luck), "busy");
            assert_eq!((copy.message.routing_key.as_str(), copy.delay), (key, None), "{luck}");
        }
        let native = RetryStep { queues: Vec::new(), ..step() };
        for (luck, ms) in [(0.0, 1000), (0.5, 1125), (1.0, 1250)] {
            let copy = retry(&message(), &seen(1, "T1"), &wait(&native, luck), "busy");
            assert_eq!(copy.message.routing_key.as_str(), "q", "the broker holds it back by itself");
            assert_eq!(copy.delay, Some(Duration::from_millis(ms)), "{luck}");
        }
    }

    #[test]
    fn what_is_parked_was_not_tried() {
        let retried = retry(&message(), &seen(1, "T1"), &wait(&step(), 0.0), "busy").message;
        let parked = park(&retried, &seen(2, "T2"), &Wait { due_ms: Some(77), ..wait(&step(), 0.0) }).message;
        let headers = &parked.properties.headers;
        assert_eq!((headers.int(header::ATTEMPT), headers.text(header::ERROR)), (Some(2), Some("busy")));
        assert_eq!(headers.int(header::DUE), Some(77));
        assert_eq!(
            park(&message(), &seen(1, "T"), &wait(&step(), 0.0)).message.properties.headers.get(header::ERROR),
            None
        );
    }

    #[test]
    fn a_retry_keeps_the_message_and_remembers_where_it_came_from() {
        let first = retry(&message(), &seen(1, "T1"), &wait(&step(), 0.0), "busy").message;
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
        let second = retry(&back, &seen(2, "T2"), &wait(&step(), 0.0), "still busy").message.properties.headers;
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
