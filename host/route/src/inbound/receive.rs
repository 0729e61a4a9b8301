//! Reads a delivery: decodes it, validates it, and says what the core needs to know of it.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::admit::admit;
use super::incoming_delivery::{ExecutorTime, IncomingDelivery};
use super::item::Item;
use super::provenance::Provenance;
use crate::codec::{self, header};
use crate::core::{Decision, DeliveryFacts, Ticket, expired};
use crate::order::{key as order, list as waiting};
use crate::profile::Profile;
use trunkline_broker::{DedupeRecord, SettledAs};
use trunkline_event::{Event, Message, Reason, millis};

/// A delivery that was read: the facts for the core, and the item for the executor.
pub(crate) struct Intake<D> {
    pub(crate) facts: DeliveryFacts,
    pub(crate) item: Item<D>,
}

/// The circumstances of a delivery's arrival.
pub(crate) struct Arrival<'a> {
    /// Names the delivery from now on.
    pub(crate) ticket: Ticket,
    /// Number of the subscription that the delivery came from.
    pub(crate) subscription: u64,
    pub(crate) now: ExecutorTime,
    /// SHA-256 digest of the plugin that runs now, in hexadecimal.
    pub(crate) plugin_digest: &'a Arc<str>,
}

/// Reads a delivery. A message that is no event, or an event that is not let in, gets a decision in its facts.
pub(crate) fn receive<D: IncomingDelivery>(profile: &Profile, delivery: D, arrival: &Arrival<'_>) -> Intake<D> {
    let Arrival { ticket, subscription, now, .. } = *arrival;
    let message = delivery.message().clone();
    let settings = &profile.settings;
    let (event, refused) = match delivery.unreadable() {
        None => decode(profile, &message),
        Some(why) => {
            let error = format!("the message cannot be read: {why}");
            (None, Some(Decision::dead_letter(Reason::Invalid, error)))
        }
    };
    let event = event.map(|event| Arc::new(Event { redelivered: delivery.is_redelivered(), ..event }));
    let headers = &message.properties.headers;
    let came_back = header::came_back(headers, profile.name.as_str(), settings.queue.as_str());
    let ttl = ttl(&message, came_back, delivery.waited(), now);
    let is_expired = ttl.attempt_until_ms.is_some_and(|until_ms| until_ms <= now.unix_ms());
    let provenance = Provenance { expires_ms: ttl.ends_ms, ..provenance(profile, &message, event.as_deref(), arrival) };
    let refused = refused.or_else(|| is_expired.then(|| expired(provenance.attempt, headers.text(header::ERROR))));
    let order = settings.order_by.as_ref();
    let limited = settings.tenant.as_ref().filter(|tenant| tenant.rate.is_some() && refused.is_none());
    let record =
        settings.dedupe.zip(event.as_deref()).filter(|(_, event)| event.own_id).map(|(window, event)| DedupeRecord {
            route: profile.name.clone(),
            id: event.id.clone(),
            content: DedupeRecord::content(Sha256::new_with_prefix(&event.data)),
            window,
            settled_as: SettledAs::Done,
        });
    let due = order.filter(|_| !is_expired).and(headers.int(header::DUE)).and_then(|due_ms| now.until(due_ms));
    let turn = limited.and(headers.int(header::TURN)).map(|turn_ms| now.until(turn_ms).unwrap_or_default());
    let facts = DeliveryFacts {
        id: provenance.id.clone(),
        own_id: event.as_ref().is_some_and(|event| event.own_id),
        subscription,
        attempt: provenance.attempt,
        redriven: header::is_redriven(headers),
        suspect: delivery.is_suspect(),
        // Events without a value share the empty ordering key.
        ordering_key: order
            .zip(event.as_deref())
            .map(|(by, event)| waiting::ordering_key(order::key(by, event).unwrap_or_default())),
        due: due.map(|left| now.since_start + left),
        tenant: limited.and(event.as_deref()).and_then(|event| event.tenant.clone()),
        turn: turn.map(|left| now.since_start + left),
        expires: ttl
            .attempt_until_ms
            .map(|ms| now.since_start + Duration::from_millis(ms.saturating_sub(now.unix_ms()))),
        // The data is larger than the body when the body has a content coding.
        bytes: event.as_ref().map_or(0, |event| event.data.len()).max(message.body.len()),
        refused,
    };
    let waiter = facts.ordering_key.clone().map(|key| waiting::Waiter { key, id: facts.id.clone() });
    let item = Item {
        ticket,
        delivery: Some(delivery),
        message,
        event,
        provenance,
        started: now.since_start,
        record,
        emissions: Vec::new(),
        open: None,
        settlement: None,
        confirmed: Vec::new(),
        subscription,
        waiter,
        place: None,
    };
    Intake { facts, item }
}

/// The event of a message that can be decoded, and the decision about an event that is not let in.
fn decode(profile: &Profile, message: &Message) -> (Option<Event>, Option<Decision>) {
    let settings = &profile.settings;
    let (bytes, max) = (message.body.len(), settings.body_max_bytes);
    if bytes > max {
        let error = format!("the body has {bytes} bytes, but `max-body` of the route is {max}");
        return (None, Some(Decision::dead_letter(Reason::TooLarge, error)));
    }
    let mut event = match codec::decode(profile.codec_in, message, max) {
        Ok(event) => event,
        Err(error) => return (None, Some(Decision::dead_letter(error.reason(), error.to_string()))),
    };
    event.attempt = attempt(profile, message);
    if let Some(tenant) = &settings.tenant {
        match order::tenant(&tenant.by, &event) {
            Ok(name) => event.tenant = Some(name),
            Err(error) => return (Some(event), Some(Decision::dead_letter(Reason::Invalid, error))),
        }
    }
    let refused = admit(&event, settings);
    (Some(event), refused)
}

fn provenance(profile: &Profile, message: &Message, event: Option<&Event>, arrival: &Arrival<'_>) -> Provenance {
    let given = codec::given_id(message);
    let own_id = event.map_or(given.is_some(), |event| event.own_id);
    let id = event.map(|event| event.id.clone()).or(given);
    Provenance {
        id: id.unwrap_or_else(codec::new_id),
        attempt: attempt(profile, message),
        own_id,
        expires_ms: None,
        key: profile.key.clone(),
        received_at: arrival.now.wall.to_string(),
        route: profile.name.clone(),
        plugin: profile.runs.clone(),
        digest: arrival.plugin_digest.clone(),
        log: String::new(),
    }
}

/// The message's own TTL. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct MessageTtl {
    /// The end of the TTL. A copy carries the time, so the TTL counts from the first message.
    ends_ms: Option<u64>,
    /// The time until which the attempt of this delivery may begin.
    attempt_until_ms: Option<u64>,
}

/// The own TTL of a message. RabbitMQ does not report how long a message waited, so there the TTL counts from the first receipt. A
/// dead letter that came back has no TTL of an earlier copy.
fn ttl(message: &Message, came_back: bool, waited: Duration, now: ExecutorTime) -> MessageTtl {
    if let Some(ends_ms) = message.properties.headers.int(header::EXPIRES) {
        let ends_ms = u64::try_from(ends_ms).ok().filter(|_| !came_back);
        return MessageTtl { ends_ms, attempt_until_ms: ends_ms };
    }
    let Some(ttl_ms) = message.properties.expiration.as_deref().and_then(|ttl| ttl.parse::<u64>().ok()) else {
        return MessageTtl::default();
    };
    let ends_ms = Some(now.unix_ms().saturating_sub(millis(waited)).saturating_add(ttl_ms));
    // RabbitMQ delivers a message with a TTL of 0 at once or not at all, so the message is in time.
    MessageTtl { ends_ms, attempt_until_ms: ends_ms.filter(|_| ttl_ms > 0) }
}

/// The attempt that begins now.
fn attempt(profile: &Profile, message: &Message) -> u32 {
    header::attempt(&message.properties.headers, profile.name.as_str(), profile.settings.queue.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_event::{ExchangeName, Properties, RoutingKey};

    fn now() -> ExecutorTime {
        let wall = jiff::Timestamp::from_millisecond(100_000).expect("a time");
        ExecutorTime { since_start: Duration::from_secs(5), wall }
    }

    /// A message with the property `expiration`, and with the end of the TTL that a copy carries.
    fn message(expiration: Option<&str>, expires_ms: Option<i64>) -> Message {
        let mut properties = Properties { expiration: expiration.map(str::to_owned), ..Properties::default() };
        if let Some(expires_ms) = expires_ms {
            properties.headers.set(header::EXPIRES, expires_ms);
        }
        Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("q").expect("a key"),
            properties,
            body: bytes::Bytes::new(),
        }
    }

    #[test]
    fn a_ttl_counts_from_the_first_message() {
        for (expiration, header, waited_ms, expected) in [
            (None, None, 0, None),
            (Some("3000"), None, 0, Some(103_000)),
            (Some("3000"), None, 2_000, Some(101_000)),
            (Some("soon"), None, 0, None),
            (None, Some(99_000_i64), 500, Some(99_000)),
            (Some("3000"), Some(99_000), 500, Some(99_000)),
            (None, Some(-1), 0, None),
            (Some("4294967295"), None, 0, Some(4_295_067_295)),
        ] {
            let message = message(expiration, header);
            let found = ttl(&message, false, Duration::from_millis(waited_ms), now());
            let expected = MessageTtl { ends_ms: expected, attempt_until_ms: expected };
            assert_eq!(found, expected, "{expiration:?}, {header:?}, waited {waited_ms} ms");
        }
    }

    #[test]
    fn a_message_with_a_ttl_of_0_that_is_delivered_has_one_attempt() {
        let found = ttl(&message(Some("0"), None), false, Duration::ZERO, now());
        assert_eq!(found, MessageTtl { ends_ms: Some(100_000), attempt_until_ms: None });
    }

    /// The broker dead-lettered a copy, for example by the length of the queue, and an operator published the copy again.
    #[test]
    fn a_dead_letter_of_the_broker_that_comes_back_has_no_ttl() {
        let copy = message(None, Some(99_000));
        assert_eq!(ttl(&copy, true, Duration::ZERO, now()), MessageTtl::default());
    }
}
