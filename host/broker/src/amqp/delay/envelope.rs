//! A delayed message on its way: what it was, and where it goes, in headers that only a daemon can write.

use std::time::Duration;

use super::way;
use crate::{Permanent, Publication};
use trunkline_event::{ExchangeName, HeaderKey, Message, RoutingKey};

const EXCHANGE: &str = "trunkline-delay-exchange";
const KEY: &str = "trunkline-delay-key";
const ACCEPT: &str = "trunkline-delay-accept";
/// How often it was due and not taken.
pub(super) const TRIES: &str = "trunkline-delay-tries";

/// The message as it travels through the levels.
pub(in crate::amqp) fn wrap(
    message: &Message,
    accept_unroutable: bool,
    delay: Duration,
    signed_by: &HeaderKey,
) -> Result<Message, Permanent> {
    let mut message = message.clone();
    let headers = &mut message.properties.headers;
    headers.set(EXCHANGE, message.exchange.as_str());
    headers.set(KEY, message.routing_key.as_str());
    headers.set(ACCEPT, accept_unroutable);
    // A TTL of its own would end it on the way.
    message.properties.expiration = None;
    let (exchange, key) = way(delay);
    message.exchange = ExchangeName::new(exchange).expect("a level is a name");
    message.routing_key = RoutingKey::new(key).expect("bits are a key");
    // Whoever could write these headers could publish anything anywhere.
    signed_by.sign(&mut message);
    message.check()?;
    Ok(message)
}

/// The message as it was, signed anew, and how often it was due before.
pub(super) fn unwrap(message: &Message, signed_by: &HeaderKey) -> Option<(Publication, u32)> {
    let mut message = message.clone();
    let headers = &mut message.properties.headers;
    let exchange = headers.text(EXCHANGE)?.to_owned();
    let key = headers.text(KEY)?.to_owned();
    let accept = headers.get(ACCEPT).is_some_and(|value| *value == true.into());
    let tries = headers.int(TRIES).and_then(|tries| u32::try_from(tries).ok()).unwrap_or(0);
    for name in [EXCHANGE, KEY, ACCEPT, TRIES] {
        headers.remove(name);
    }
    headers.remove_brokers();
    message.exchange = ExchangeName::new(exchange).ok()?;
    message.routing_key = RoutingKey::new(key).ok()?;
    signed_by.sign(&mut message);
    Some((Publication::now(message, accept), tries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_event::Properties;

    #[test]
    fn what_comes_out_is_what_went_in() {
        let mut properties = Properties { priority: Some(3), ..Properties::default() };
        properties.headers.set("region", "eu");
        let message = Message {
            exchange: ExchangeName::new("events").expect("valid"),
            routing_key: RoutingKey::new("a.b").expect("valid"),
            properties,
            body: bytes::Bytes::from_static(b"x"),
        };
        let key = HeaderKey::new(b"for the test");
        let mut wrapped = wrap(&message, true, Duration::from_secs(1), &key).expect("fits");
        assert_eq!(key.admit(&mut wrapped), trunkline_event::Trust::Signed);
        assert_eq!(wrapped.exchange.as_str(), "trunkline.delay.05");
        let (back, tries) = unwrap(&wrapped, &key).expect("it is ours");
        assert_eq!((&*back.message, back.accept_unroutable, tries), (&message, true, 0));
    }
}
