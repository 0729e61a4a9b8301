//! Names and values of queue arguments.

use std::collections::BTreeMap;
use std::time::Duration;

use trunkline_event::{HeaderValue, millis};

/// The delivery limit of a queue that must not give anything up. A message that is returned once a minute reaches it after
/// two years.
pub(crate) const MANY_DELIVERIES: i64 = 1_000_000;

pub(crate) const TYPE: &str = "x-queue-type";
pub(crate) const DELIVERY_LIMIT: &str = "x-delivery-limit";
pub(crate) const OVERFLOW: &str = "x-overflow";
pub(crate) const STRATEGY: &str = "x-dead-letter-strategy";
pub(crate) const TTL: &str = "x-message-ttl";
pub(crate) const MAX_LENGTH: &str = "x-max-length";
pub(crate) const MAX_PRIORITY: &str = "x-max-priority";
pub(crate) const SINGLE_CONSUMER: &str = "x-single-active-consumer";
pub(crate) const EXPIRES: &str = "x-expires";
pub(crate) const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
pub(crate) const DEAD_LETTER_KEY: &str = "x-dead-letter-routing-key";
pub(crate) const REJECT: &str = "reject-publish";
pub(crate) const AT_LEAST_ONCE: &str = "at-least-once";
pub(crate) const QUORUM: &str = "quorum";
pub(crate) const CLASSIC: &str = "classic";

/// Arguments of a queue by name.
pub(crate) type Arguments = BTreeMap<String, HeaderValue>;

/// A time in milliseconds, RabbitMQ's unit.
pub(crate) fn milliseconds(time: Duration) -> HeaderValue {
    number(millis(time))
}

/// A number as an argument.
pub(crate) fn number(number: impl Into<u64>) -> HeaderValue {
    HeaderValue::Int(i64::try_from(number.into()).unwrap_or(i64::MAX))
}
