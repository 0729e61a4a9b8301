//! Copies of a delivery: for a retry queue and for the dead-letter queue. Body and properties stay as they came; what
//! the daemon knows is added as headers of its own.
//!
//! Promises: a copy fits the wire whatever the delivery brought, because its parts are left out in steps until it does; and
//! it means nothing to the broker but its address, because headers that do (`CC` names further queues) are kept under
//! other names.

use std::time::Duration;

use crate::codec::header;
use trunkline_broker::Publication;
use trunkline_config::{DeadLetter, RetryStep};
use trunkline_event::{ExchangeName, HeaderKey, Message, OWN_PREFIX, QueueName, Reason, millis};

/// Of an error's text.
const ERROR_MAX_BYTES: usize = 8 << 10;
/// Of the text and of other texts of ours, when there is no room for more.
const ERROR_CUT_BYTES: [usize; 2] = [1024, 255];
/// Of the body of a dead letter that the broker does not take whole.
const BODY_CUT_BYTES: usize = 32 << 10;
/// A client asks RabbitMQ for an answer under this name; on a message that is not a request the broker refuses it.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to";

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
    /// Whether the id is the sender's.
    pub(crate) own_id: bool,
    /// What copies are signed with; none where nobody else can write headers.
    pub(crate) key: Option<HeaderKey>,
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
    copy.properties.headers.set(header::ATTEMPT, seen.attempt.saturating_add(1));
    waiting(copy, seen, wait)
}

/// The copy of an event that was not tried, because one before it with its key is not settled.
pub(crate) fn park(message: &Message, seen: &Seen, wait: &Wait<'_>) -> Publication {
    waiting(untried(message, seen), seen, wait)
}

/// The copy of an event that was not tried, because its tenant has had its share. It comes back in its turn.
pub(crate) fn queue(message: &Message, seen: &Seen, source: &QueueName, wait: Duration, now_ms: u64) -> Publication {
    let mut copy = untried(message, seen);
    let turn_ms = now_ms.saturating_add(millis(wait));
    copy.properties.headers.set(header::TURN, i64::try_from(turn_ms).unwrap_or(i64::MAX));
    copy.exchange = ExchangeName::default_exchange();
    copy.routing_key = source.as_key();
    Publication { delay: Some(wait), ..publication(copy, seen) }
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

fn waiting(mut copy: Message, seen: &Seen, wait: &Wait<'_>) -> Publication {
    copy.exchange = ExchangeName::default_exchange();
    match wait.due_ms {
        Some(due_ms) => copy.properties.headers.set(header::DUE, i64::try_from(due_ms).unwrap_or(i64::MAX)),
        None => drop(copy.properties.headers.remove(header::DUE)),
    }
    let place = wait.luck * wait.step.queues.len() as f64;
    match wait.step.queues.get(place as usize).or(wait.step.queues.last()) {
        Some(queue) => {
            copy.routing_key = queue.as_key();
            publication(copy, seen)
        }
        None => {
            copy.routing_key = wait.source.as_key();
            let delay = wait.step.delay + wait.step.spread.mul_f64(wait.luck);
            Publication { delay: Some(delay), is_retry: true, ..publication(copy, seen) }
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
    headers.set(header::DEAD_AT, seen.now.as_str());
    headers.remove(header::DUE);
    headers.remove(header::TURN);
    if !seen.log.is_empty() {
        headers.set(header::LOG, seen.log.as_str());
    }
    copy.exchange = target.exchange.clone();
    copy.routing_key = target.key.clone();
    publication(copy, seen)
}

/// The copy of a message whose body the broker does not take any more: only its beginning is kept.
pub(crate) fn dead_letter_without_body(
    message: &Message,
    seen: &Seen,
    target: &DeadLetter,
    reason: Reason,
    error: &str,
) -> Publication {
    let mut cut = message.clone();
    cut.body = message.body.slice(..message.body.len().min(BODY_CUT_BYTES));
    let bytes = i64::try_from(message.body.len()).unwrap_or(i64::MAX);
    cut.properties.headers.set(header::BODY_BYTES, bytes);
    dead_letter(&cut, seen, target, reason, error)
}

/// Never lost in silence: a copy that no queue takes is an error, and the input stays unacknowledged.
fn publication(mut message: Message, seen: &Seen) -> Publication {
    fit(&mut message);
    if let Some(key) = &seen.key {
        key.sign(&mut message);
        if message.check().is_err() {
            // The signature itself was too much.
            leave_out_foreign(&mut message);
            key.sign(&mut message);
        }
    }
    Publication::now(message, false)
}

fn base(message: &Message, seen: &Seen, error: &str) -> Message {
    let mut copy = message.clone();
    copy.properties.message_id = Some(seen.id.clone());
    // A message TTL would end the copy in its new queue.
    copy.properties.expiration = None;
    let known = &message.properties.headers;
    let headers = &mut copy.properties.headers;
    headers.remove_brokers();
    for (name, value) in known.iter().filter(|(name, _)| header::means_something_to_the_broker(name)) {
        if headers.remove(name).is_some() {
            headers.set(format!("{}{name}", header::KEPT), value.clone());
        }
    }
    if copy.properties.reply_to.as_deref() == Some(DIRECT_REPLY) {
        copy.properties.reply_to = None;
        headers.set(format!("{}reply-to", header::KEPT), DIRECT_REPLY);
    }
    headers.set(header::ROUTE, seen.route.as_str());
    headers.set(header::PLUGIN, seen.plugin.as_str());
    headers.set(header::PLUGIN_DIGEST, seen.digest.as_str());
    headers.set(header::ERROR, cut(error, ERROR_MAX_BYTES));
    for (name, fresh) in [
        (header::FIRST_SEEN, seen.now.as_str()),
        (header::SOURCE_EXCHANGE, message.exchange.as_str()),
        (header::SOURCE_KEY, message.routing_key.as_str()),
    ] {
        headers.set(name, known.text(name).unwrap_or(fresh));
    }
    if !seen.own_id {
        headers.set(header::OWN_ID, false);
    }
    let redriven = header::times_redriven(known);
    if redriven > 0 {
        headers.set(header::REDRIVEN, redriven);
    }
    headers.remove(header::DEAD_AT);
    copy
}

/// Leaves parts out until the copy fits: the log, most of the error, headers of others, and then the ends of our own texts.
/// What is left are some thirty short headers, which always fit.
fn fit(copy: &mut Message) {
    type Step = fn(&mut Message);
    let steps: [Step; 5] = [
        |copy| drop(copy.properties.headers.remove(header::LOG)),
        |copy| shorten(copy, &[header::ERROR], ERROR_CUT_BYTES[0]),
        leave_out_foreign,
        |copy| shorten(copy, &[header::ERROR], ERROR_CUT_BYTES[1]),
        |copy| {
            let own: Vec<String> = copy.properties.headers.iter().map(|(name, _)| name.to_owned()).collect();
            shorten(copy, &own.iter().map(String::as_str).collect::<Vec<_>>(), ERROR_CUT_BYTES[1]);
        },
    ];
    for step in steps {
        if copy.check().is_ok() {
            return;
        }
        step(copy);
    }
}

/// Keeps the daemon's own headers and says how many others there were.
fn leave_out_foreign(copy: &mut Message) {
    let headers = &mut copy.properties.headers;
    let before = headers.iter().count();
    let stays = |name: &str| name.starts_with(OWN_PREFIX) && !name.starts_with(header::KEPT);
    headers.retain(|name| stays(name) || name == header::TRACEPARENT);
    let left_out = before - headers.iter().count();
    if left_out > 0 {
        headers.set(header::LEFT_OUT, i64::try_from(left_out).unwrap_or(i64::MAX));
    }
}

fn shorten(copy: &mut Message, names: &[&str], most: usize) {
    for name in names {
        let text = copy.properties.headers.text(name).filter(|text| text.len() > most).map(|text| cut(text, most));
        if let Some(text) = text {
            copy.properties.headers.set(*name, text);
        }
    }
}

/// The beginning of a text, without half a character.
fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use trunkline_event::{HeaderValue, Properties, QueueName, RoutingKey, limits};

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
            own_id: true,
            key: None,
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
        let mut back = Message::clone(&first);
        back.routing_key = RoutingKey::new("q").expect("valid");
        let second = retry(&back, &seen(2, "T2"), &wait(&step(), 0.0), "still busy").message;
        let second = &second.properties.headers;
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
