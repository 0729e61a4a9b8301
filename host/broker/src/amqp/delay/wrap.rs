//! A delayed message on its way: its destination stands in headers that only a daemon can write.

use std::time::Duration;

use super::levels::{DelayPrecision, way};
use crate::{Permanent, Publication};
use trunkline_event::{ExchangeName, HeaderKey, Headers, Message, RoutingKey};

const EXCHANGE: &str = "trunkline-delay-exchange";
const KEY: &str = "trunkline-delay-key";
const ACCEPT: &str = "trunkline-delay-accept";
/// The priority of the message. A message has no priority in the levels: a quorum queue of RabbitMQ 4 delivers by priority, and in
/// 4.0 a message that is due waits behind a later message of a higher priority.
const PRIORITY: &str = "trunkline-delay-priority";
/// Counts how often the message was due and not taken.
pub(crate) const TRIES: &str = "trunkline-delay-tries";

/// The message in the form in which it travels through the levels.
///
/// # Errors
/// The bound of the wire that the message breaks.
pub(crate) fn wrap(publication: &Publication, delay: Duration, signed_by: &HeaderKey) -> Result<Message, Permanent> {
    let mut message = publication.message.copy();
    // The message's own TTL would end it on the way.
    message.properties.expiration = None;
    // The headers below take less than 800 bytes. The space in the frame for other properties has room for them, so that a copy
    // whose headers are as large as they may be can wait too.
    message.check()?;
    let headers = &mut message.properties.headers;
    headers.set(EXCHANGE, message.exchange.as_str());
    headers.set(KEY, message.routing_key.as_str());
    headers.set(ACCEPT, publication.accept_unroutable);
    if let Some(priority) = message.properties.priority.take() {
        headers.set(PRIORITY, u32::from(priority));
    }
    let precision = if publication.is_retry { DelayPrecision::Retry } else { DelayPrecision::Emission };
    let (exchange, key) = way(delay, precision);
    message.exchange = ExchangeName::new(exchange).expect("the name of a delay exchange is valid");
    message.routing_key = RoutingKey::new(key).expect("a key of bits is valid");
    // A program that could write these headers could publish any message to any exchange.
    signed_by.sign(&mut message);
    Ok(message)
}

/// A message that is due.
#[derive(Debug)]
pub(crate) struct Delayed {
    /// The message as it was before [`wrap`], signed anew.
    pub(crate) publication: Publication,
    /// How often it was due before.
    pub(crate) tries: u32,
}

/// Restores a message that is due; none when its headers name no destination.
pub(crate) fn unwrap(message: &Message, signed_by: &HeaderKey) -> Option<Delayed> {
    let headers = &message.properties.headers;
    let exchange = ExchangeName::new(headers.text(EXCHANGE)?).ok()?;
    let key = RoutingKey::new(headers.text(KEY)?).ok()?;
    let accept_unroutable = headers.get(ACCEPT).is_some_and(|value| *value == true.into());
    Some(restored(message, message.copy_for(exchange, key), accept_unroutable, signed_by))
}

/// The queue that a message is addressed to on the default exchange. Every program can write this address unless the signature
/// of the message is valid.
pub(crate) fn addressed_queue(message: &Message) -> Option<&str> {
    let headers = &message.properties.headers;
    let is_to_queue = headers.text(EXCHANGE) == Some("");
    headers.text(KEY).filter(|_| is_to_queue)
}

/// Restores the retry of a daemon with another key for a queue of this daemon. `admitted` is the message without the headers
/// that the other key signed.
pub(crate) fn bring_home(due: &Message, admitted: &Message, queue: RoutingKey, signed_by: &HeaderKey) -> Delayed {
    restored(due, admitted.copy_for(ExchangeName::default_exchange(), queue), false, signed_by)
}

/// Ends the way of a message that becomes a dead letter. The destination stays in the headers for people.
pub(crate) fn end_way(letter: &mut Message) {
    letter.properties.priority = priority(&letter.properties.headers).or(letter.properties.priority);
    for name in [ACCEPT, PRIORITY, TRIES] {
        letter.properties.headers.remove(name);
    }
}

fn priority(headers: &Headers) -> Option<u8> {
    headers.int(PRIORITY).and_then(|priority| u8::try_from(priority).ok())
}

/// Takes the marks of the way off a message.
fn restored(due: &Message, mut message: Message, accept_unroutable: bool, signed_by: &HeaderKey) -> Delayed {
    let tries = due.properties.headers.int(TRIES).and_then(|tries| u32::try_from(tries).ok()).unwrap_or(0);
    message.properties.priority = priority(&due.properties.headers).or(message.properties.priority);
    let headers = &mut message.properties.headers;
    for name in [EXCHANGE, KEY, ACCEPT, PRIORITY, TRIES] {
        headers.remove(name);
    }
    headers.remove_brokers();
    signed_by.sign(&mut message);
    Delayed { publication: Publication { accept_unroutable, ..Publication::now(message) }, tries }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_event::{HeaderValue, Properties, Trust, limits};

    fn publication() -> Publication {
        let mut properties = Properties { priority: Some(3), ..Properties::default() };
        properties.headers.set("region", "eu");
        let message = Message {
            exchange: ExchangeName::new("events").expect("valid"),
            routing_key: RoutingKey::new("a.b").expect("valid"),
            properties,
            body: bytes::Bytes::from_static(b"x"),
        };
        Publication { accept_unroutable: true, ..Publication::now(message) }
    }

    #[test]
    fn what_comes_out_is_what_went_in() {
        let (publication, key) = (publication(), HeaderKey::new(b"for the test"));
        let mut wrapped = wrap(&publication, Duration::from_secs(1), &key).expect("fits");
        assert_eq!(key.admit(&mut wrapped), Trust::Signed);
        assert_eq!(wrapped.exchange.as_str(), "trunkline.delay.05");
        assert_eq!(wrapped.properties.priority, None, "no message overtakes another on the way");
        let Delayed { publication: back, tries } = unwrap(&wrapped, &key).expect("a delayed message");
        assert_eq!((&back.message, back.accept_unroutable, tries), (&publication.message, true, 0));
    }

    #[test]
    fn a_message_without_a_priority_comes_back_without_one() {
        let (mut publication, key) = (publication(), HeaderKey::new(b"for the test"));
        publication.message_mut().properties.priority = None;
        let wrapped = wrap(&publication, Duration::from_secs(1), &key).expect("fits");
        assert_eq!(wrapped.properties.headers.get(PRIORITY), None);
        // Earlier versions left the priority where it was.
        let mut earlier = wrapped.copy();
        earlier.properties.priority = Some(7);
        for (message, expected) in [(&wrapped, None), (&earlier, Some(7))] {
            let back = unwrap(message, &key).expect("a delayed message");
            assert_eq!(back.publication.message.properties.priority, expected);
        }
    }

    #[test]
    fn a_retry_passes_fewer_levels_than_an_emission_of_the_same_delay() {
        let (mut publication, key) = (publication(), HeaderKey::new(b"for the test"));
        let bits = |publication: &Publication| {
            let wrapped = wrap(publication, Duration::from_millis(6_375), &key).expect("fits");
            wrapped.routing_key.as_str().matches('1').count()
        };
        let emission = bits(&publication);
        publication.is_retry = true;
        assert_eq!((emission, bits(&publication)), (8, 1), "255 units, and 256");
    }

    #[test]
    fn headers_at_the_limit_can_wait() {
        let (mut publication, key) = (publication(), HeaderKey::new(b"for the test"));
        let message = publication.message_mut();
        message.exchange = ExchangeName::new("e".repeat(255)).expect("valid");
        message.routing_key = RoutingKey::new("k".repeat(255)).expect("valid");
        let filler = limits::HEADERS_MAX_BYTES - message.properties.headers.encoded_len() - "big".len() - 6;
        message.properties.headers.set("big", "v".repeat(filler));
        assert_eq!(message.check(), Ok(()));
        let bytes = message.properties.headers.encoded_len();
        let mut wrapped = wrap(&publication, Duration::from_secs(1), &key).expect("fits");
        wrapped.properties.headers.set(TRIES, u32::MAX);
        assert!(wrapped.properties.headers.encoded_len() < bytes + 800);
        let back = unwrap(&wrapped, &key).expect("a delayed message").publication.message;
        assert_eq!(back.check(), Ok(()));
        publication.message_mut().properties.headers.set("more", "v".repeat(64));
        assert!(wrap(&publication, Duration::from_secs(1), &key).is_err(), "the message itself is too large");
    }

    #[test]
    fn a_retry_of_another_key_comes_home_with_its_attempt_alone() {
        let (ours, theirs) = (HeaderKey::new(b"ours"), HeaderKey::new(b"theirs"));
        let mut publication = publication();
        let message = publication.message_mut();
        message.exchange = ExchangeName::default_exchange();
        message.routing_key = RoutingKey::new("jobs").expect("valid");
        message.properties.headers.set("trunkline-attempt", 2_u32);
        message.properties.headers.set("trunkline-tenant", "victim");
        let due = wrap(&publication, Duration::from_secs(1), &theirs).expect("fits");
        assert_eq!(addressed_queue(&due), Some("jobs"));
        let mut admitted = due.copy();
        assert_eq!(ours.admit(&mut admitted), Trust::OtherKey(theirs.id().to_owned()));
        let home = bring_home(&due, &admitted, RoutingKey::new("jobs").expect("valid"), &ours);
        let mut message = home.publication.message.copy();
        assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("", "jobs"));
        assert_eq!(message.properties.priority, Some(3));
        assert_eq!(ours.admit(&mut message), Trust::Signed);
        let names: Vec<&str> = message.properties.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["region", "trunkline-attempt"]);
        let mut elsewhere = due.copy();
        elsewhere.properties.headers.set(EXCHANGE, "events");
        assert_eq!(addressed_queue(&elsewhere), None, "an exchange is no queue");
        elsewhere.properties.headers.set(EXCHANGE, HeaderValue::Int(1));
        assert_eq!(addressed_queue(&elsewhere), None);
    }
}
