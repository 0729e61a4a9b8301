//! Copies of a delivery, for a retry and for the dead-letter queue. A copy keeps body and properties, and the daemon
//! adds its own headers.
//!
//! Promises: every copy fits the wire, because parts are left out in steps until the copy fits. The broker obeys nothing of a
//! copy except its address, because headers that the broker would obey (`CC` names further queues) are renamed.

use std::time::Duration;

use crate::codec::header;
use crate::inbound::Provenance;
use trunkline_broker::Publication;
use trunkline_config::DeadLetter;
use trunkline_event::{ExchangeName, HeaderValue, Message, OWN_PREFIX, QueueName, Reason, millis};

/// Longest error text.
const ERROR_MAX_BYTES: usize = 8 << 10;
/// Lengths to which error texts and other own texts are cut when a copy does not fit.
const ERROR_CUT_BYTES: [usize; 2] = [1024, 255];
/// Size of the body that remains when the broker does not take the whole body of a dead letter.
const BODY_CUT_BYTES: usize = 32 << 10;
/// Reply address of RabbitMQ's direct reply-to. RabbitMQ refuses the address on a message that is not a request.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to";

/// Time for which a copy waits, and the queue to which it comes back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryWait<'a> {
    /// Queue to which the copy comes back.
    pub(crate) source: &'a QueueName,
    /// Time for which the broker holds the copy back.
    pub(crate) delay: Duration,
    /// Earliest time of the next attempt on an ordered route, in milliseconds since the Unix epoch. The copy itself comes
    /// back after one round at the latest.
    pub(crate) due_ms: Option<u64>,
}

/// The copy that waits for the next attempt. The copy keeps the id, so that a dedupe window sees one event.
pub(crate) fn retry(message: &Message, provenance: &Provenance, wait: &RetryWait<'_>, error: &str) -> Publication {
    let mut copy = base(message, provenance, error);
    copy.properties.headers.set(header::ATTEMPT, provenance.attempt.saturating_add(1));
    if wait.due_ms.is_some() {
        without_priority(&mut copy);
    }
    waiting(copy, provenance, wait)
}

/// The copy of an event that was not tried, because an earlier event of its key is not settled.
pub(crate) fn park(message: &Message, provenance: &Provenance, wait: &RetryWait<'_>) -> Publication {
    let mut copy = untried(message, provenance);
    without_priority(&mut copy);
    waiting(copy, provenance, wait)
}

/// Keeps the priority of a copy in a header. From RabbitMQ 4.0 on, quorum queues deliver by priority, but the copies and the
/// markers of an ordered route have to come back in their order.
fn without_priority(copy: &mut Message) {
    if let Some(priority) = copy.properties.priority.take() {
        copy.properties.headers.set(kept_priority(), i64::from(priority));
    }
}

/// Gives a copy the priority back that [`without_priority`] took.
fn with_priority(copy: &mut Message) {
    let name = kept_priority();
    if let Some(HeaderValue::Int(kept)) = copy.properties.headers.get(&name)
        && let Ok(priority) = u8::try_from(*kept)
    {
        copy.properties.priority = Some(priority);
        copy.properties.headers.remove(&name);
    }
}

fn kept_priority() -> String {
    format!("{}priority", header::KEPT)
}

/// The copy of an event that was not tried, because its tenant has used its rate. The copy comes back in its turn.
pub(crate) fn await_turn(
    message: &Message,
    provenance: &Provenance,
    source: &QueueName,
    wait: Duration,
    now_ms: u64,
) -> Publication {
    let mut copy = untried(message, provenance);
    let turn_ms = now_ms.saturating_add(millis(wait));
    copy.properties.headers.set(header::TURN, i64::try_from(turn_ms).unwrap_or(i64::MAX));
    copy.exchange = ExchangeName::default_exchange();
    copy.routing_key = source.as_key();
    Publication { delay: Some(wait), ..publication(copy, provenance) }
}

/// With the attempt and the error of before.
fn untried(message: &Message, provenance: &Provenance) -> Message {
    let error = message.properties.headers.text(header::ERROR).map(str::to_owned);
    let mut copy = base(message, provenance, "");
    match error {
        Some(error) => copy.properties.headers.set(header::ERROR, error),
        None => drop(copy.properties.headers.remove(header::ERROR)),
    }
    copy.properties.headers.set(header::ATTEMPT, provenance.attempt);
    copy
}

fn waiting(mut copy: Message, provenance: &Provenance, wait: &RetryWait<'_>) -> Publication {
    copy.exchange = ExchangeName::default_exchange();
    match wait.due_ms {
        Some(due_ms) => copy.properties.headers.set(header::DUE, i64::try_from(due_ms).unwrap_or(i64::MAX)),
        None => drop(copy.properties.headers.remove(header::DUE)),
    }
    copy.routing_key = wait.source.as_key();
    Publication { delay: Some(wait.delay), is_retry: true, ..publication(copy, provenance) }
}

/// The copy that people look at.
pub(crate) fn dead_letter(
    message: &Message,
    provenance: &Provenance,
    target: &DeadLetter,
    reason: Reason,
    error: &str,
) -> Publication {
    let mut copy = base(message, provenance, error);
    let headers = &mut copy.properties.headers;
    headers.set(header::ATTEMPT, provenance.attempt);
    headers.set(header::REASON, reason.as_str());
    headers.set(header::DEAD_AT, provenance.received_at.as_str());
    headers.remove(header::DUE);
    headers.remove(header::TURN);
    // A redriven event has no TTL.
    headers.remove(header::EXPIRES);
    if !provenance.log.is_empty() {
        headers.set(header::LOG, provenance.log.as_str());
    }
    with_priority(&mut copy);
    copy.exchange = target.exchange.clone();
    copy.routing_key = target.key.clone();
    publication(copy, provenance)
}

/// The dead letter of a message whose body the broker does not take any more. The copy keeps the beginning of the body.
pub(crate) fn dead_letter_without_body(
    message: &Message,
    provenance: &Provenance,
    target: &DeadLetter,
    reason: Reason,
    error: &str,
) -> Publication {
    let mut cut = message.copy();
    cut.body = message.body.slice(..message.body.len().min(BODY_CUT_BYTES));
    let bytes = i64::try_from(message.body.len()).unwrap_or(i64::MAX);
    cut.properties.headers.set(header::BODY_BYTES, bytes);
    dead_letter(&cut, provenance, target, reason, error)
}

/// Makes the publication of a copy. A copy that no queue takes is an error, so that the delivery stays unacknowledged.
fn publication(mut message: Message, provenance: &Provenance) -> Publication {
    fit(&mut message);
    if let Some(key) = &provenance.key {
        key.sign(&mut message);
        if message.check().is_err() {
            // The signature itself does not fit.
            leave_out_foreign(&mut message);
            key.sign(&mut message);
        }
    }
    Publication::now(message)
}

fn base(message: &Message, provenance: &Provenance, error: &str) -> Message {
    let mut copy = message.copy();
    copy.properties.message_id = Some(provenance.id.clone());
    // A message TTL would expire the copy in its new queue.
    let ttl = copy.properties.expiration.take();
    let known = &message.properties.headers;
    let headers = &mut copy.properties.headers;
    headers.remove_brokers();
    if let Some(ttl) = ttl {
        headers.set(format!("{}expiration", header::KEPT), ttl);
    }
    match provenance.expires_ms {
        Some(ms) => headers.set(header::EXPIRES, i64::try_from(ms).unwrap_or(i64::MAX)),
        None => drop(headers.remove(header::EXPIRES)),
    }
    for (name, value) in known.iter().filter(|(name, _)| header::means_something_to_the_broker(name)) {
        if headers.remove(name).is_some() {
            headers.set(format!("{}{name}", header::KEPT), value.clone());
        }
    }
    if copy.properties.reply_to.as_deref() == Some(DIRECT_REPLY) {
        copy.properties.reply_to = None;
        headers.set(format!("{}reply-to", header::KEPT), DIRECT_REPLY);
    }
    headers.set(header::ROUTE, provenance.route.as_str());
    headers.set(header::PLUGIN, &*provenance.plugin);
    headers.set(header::PLUGIN_DIGEST, &*provenance.digest);
    headers.set(header::ERROR, cut(error, ERROR_MAX_BYTES));
    for (name, fresh) in [
        (header::FIRST_SEEN, provenance.received_at.as_str()),
        (header::SOURCE_EXCHANGE, message.exchange.as_str()),
        (header::SOURCE_KEY, message.routing_key.as_str()),
    ] {
        headers.set(name, known.text(name).unwrap_or(fresh));
    }
    if !provenance.own_id {
        headers.set(header::OWN_ID, false);
    }
    let redriven = header::times_redriven(known);
    if redriven > 0 {
        headers.set(header::REDRIVEN, redriven);
    }
    headers.remove(header::DEAD_AT);
    copy
}

/// Leaves parts out until the copy fits: the log, most of the error, foreign headers, and then the ends of own texts. The
/// rest is some thirty short headers, which always fit.
fn fit(copy: &mut Message) {
    type FitStep = fn(&mut Message);
    let steps: [FitStep; 5] = [
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
            copy.properties.headers.set((*name).to_owned(), text);
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
    use trunkline_event::{Properties, RouteName, RoutingKey, limits};

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

    fn seen(attempt: u32, received_at: &str) -> Provenance {
        Provenance {
            id: "e-1".into(),
            attempt,
            received_at: received_at.into(),
            route: RouteName::new("r").expect("valid"),
            plugin: "p".into(),
            digest: "d".into(),
            log: "info main: begun".into(),
            own_id: true,
            expires_ms: None,
            key: None,
        }
    }

    fn wait(delay_ms: u64) -> RetryWait<'static> {
        static SOURCE: std::sync::LazyLock<QueueName> =
            std::sync::LazyLock::new(|| QueueName::new("q").expect("valid"));
        RetryWait { source: &SOURCE, delay: Duration::from_millis(delay_ms), due_ms: None }
    }

    #[test]
    fn a_copy_waits_in_the_broker_and_comes_back_to_its_queue() {
        for copy in
            [retry(&message(), &seen(1, "T1"), &wait(1125), "busy"), park(&message(), &seen(1, "T1"), &wait(1125))]
        {
            assert_eq!((copy.message.exchange.as_str(), copy.message.routing_key.as_str()), ("", "q"));
            assert_eq!((copy.delay, copy.is_retry), (Some(Duration::from_millis(1125)), true));
        }
    }

    #[test]
    fn a_parked_copy_keeps_its_attempt() {
        let retried = retry(&message(), &seen(1, "T1"), &wait(1000), "busy").message;
        let parked = park(&retried, &seen(2, "T2"), &RetryWait { due_ms: Some(77), ..wait(1000) }).message;
        let headers = &parked.properties.headers;
        assert_eq!((headers.int(header::ATTEMPT), headers.text(header::ERROR)), (Some(2), Some("busy")));
        assert_eq!(headers.int(header::DUE), Some(77));
        assert_eq!(park(&message(), &seen(1, "T"), &wait(1000)).message.properties.headers.get(header::ERROR), None);
    }

    /// A copy with a priority would overtake other copies of its ordering key, and the marker behind them.
    #[test]
    fn copies_of_an_ordered_route_wait_without_their_priority() {
        let ordered = RetryWait { due_ms: Some(77), ..wait(1000) };
        let retried = retry(&message(), &seen(1, "T1"), &ordered, "busy").message;
        let parked = park(&message(), &seen(1, "T1"), &wait(1000)).message;
        let again = park(&retried, &seen(2, "T2"), &ordered).message;
        let target =
            DeadLetter { exchange: ExchangeName::default_exchange(), key: RoutingKey::new("q.dlq").expect("valid") };
        for copy in [retried, parked, again] {
            assert_eq!(copy.properties.priority, None);
            let dead = dead_letter(&copy, &seen(2, "T2"), &target, Reason::Exhausted, "busy").message;
            assert_eq!(dead.properties.priority, Some(4), "a redriven letter has its priority again");
            assert_eq!(dead.properties.headers.get("trunkline-kept-priority"), None);
        }
        let unordered = retry(&message(), &seen(1, "T1"), &wait(1000), "busy").message;
        assert_eq!(unordered.properties.priority, Some(4));
    }

    #[test]
    fn a_retry_keeps_the_message_and_remembers_where_it_came_from() {
        let first = retry(&message(), &seen(1, "T1"), &wait(1000), "busy").message;
        assert_eq!((first.exchange.as_str(), first.routing_key.as_str()), ("", "q"));
        assert_eq!((&first.body[..], first.properties.priority), (&b"body"[..], Some(4)));
        assert_eq!(first.properties.expiration, None);
        assert_eq!(first.properties.message_id.as_deref(), Some("e-1"));
        let headers = &first.properties.headers;
        assert_eq!((headers.int(header::ATTEMPT), headers.text("region")), (Some(2), Some("eu")));
        assert_eq!(headers.get("x-death"), None);
        // The copy comes back over the default exchange with the queue's name as key.
        let mut back = first.copy();
        back.routing_key = RoutingKey::new("q").expect("valid");
        let second = retry(&back, &seen(2, "T2"), &wait(1000), "still busy").message;
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

    #[test]
    fn a_copy_keeps_the_ttl_and_a_dead_letter_has_none() {
        let expiring = Provenance { expires_ms: Some(10_400), ..seen(1, "T1") };
        let copy = retry(&message(), &expiring, &wait(1000), "busy").message;
        let headers = &copy.properties.headers;
        assert_eq!(
            (headers.int(header::EXPIRES), headers.text("trunkline-kept-expiration")),
            (Some(10_400), Some("500"))
        );
        assert_eq!(copy.properties.expiration, None, "the broker would drop the copy");
        let again = retry(&copy, &expiring, &wait(1000), "busy").message;
        let headers = &again.properties.headers;
        assert_eq!(
            (headers.int(header::EXPIRES), headers.text("trunkline-kept-expiration")),
            (Some(10_400), Some("500"))
        );
        let target =
            DeadLetter { exchange: ExchangeName::default_exchange(), key: RoutingKey::new("q.dlq").expect("valid") };
        let letter = dead_letter(&again, &expiring, &target, Reason::Expired, "over").message;
        let headers = &letter.properties.headers;
        assert_eq!((headers.get(header::EXPIRES), headers.text("trunkline-kept-expiration")), (None, Some("500")));
    }
}
