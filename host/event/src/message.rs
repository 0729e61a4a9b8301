//! A message as it stands on the wire, in no client library's types.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::headers::Headers;
use super::limits::{self, LimitError};
use super::name::{ExchangeName, RoutingKey};

/// Prefix of a header that a copy cannot carry under its own name: the broker would obey the header, or its value is not a
/// text where a text is needed.
pub const KEPT_PREFIX: &str = "trunkline-kept-";

/// A message that is published, or that a delivery carries.
///
/// A message is not `Clone`: its users share an [`Arc`]. [`Message::copy_for`] makes a second message with another address.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The exchange that the message goes to or was published to; empty for the nameless exchange.
    pub exchange: ExchangeName,
    /// The routing key.
    pub routing_key: RoutingKey,
    /// AMQP 0-9-1 basic properties.
    pub properties: Properties,
    /// The payload, with its envelope if the codec has one.
    pub body: Bytes,
}

/// AMQP 0-9-1 `basic` properties. `delivery-mode` is always 2 (persistent); `user-id` is never set, because the broker
/// checks it against the login; `cluster-id` and `type` of AMQP 0-8 do not exist here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Properties {
    /// Identity of the event, the same over retries and redrives.
    pub message_id: Option<String>,
    /// The property `type`: the event type.
    pub kind: Option<String>,
    /// Media type of the body.
    pub content_type: Option<String>,
    /// Compression of the body. A copy of the message keeps the compressed body. The event has the decoded body.
    pub content_encoding: Option<String>,
    /// Id of the root event.
    pub correlation_id: Option<String>,
    /// Reply address, passed through.
    pub reply_to: Option<String>,
    /// Message TTL in milliseconds, an integer as text.
    pub expiration: Option<String>,
    /// Seconds since the Unix epoch. Some producers write milliseconds; see
    /// [`timestamp_since_epoch`](crate::timestamp_since_epoch).
    pub timestamp: Option<u64>,
    /// Name of the publishing application.
    pub app_id: Option<String>,
    /// Priority, 0 to 255.
    pub priority: Option<u8>,
    /// The header table.
    pub headers: Headers,
}

impl Message {
    /// A second message with the same properties and body for another exchange and key. Body and headers are shared.
    #[must_use]
    pub fn copy_for(&self, exchange: ExchangeName, routing_key: RoutingKey) -> Self {
        Self { exchange, routing_key, properties: self.properties.clone(), body: self.body.clone() }
    }

    /// A second message with the same address, properties and body. Body and headers are shared.
    #[must_use]
    pub fn copy(&self) -> Self {
        self.copy_for(self.exchange.clone(), self.routing_key.clone())
    }

    /// The message behind a reference count, to change it; a copy of the message takes its place when it is shared.
    pub fn make_mut(shared: &mut Arc<Self>) -> &mut Self {
        if Arc::get_mut(shared).is_none() {
            *shared = Arc::new(shared.copy());
        }
        Arc::get_mut(shared).expect("a message that was copied just now is not shared")
    }

    /// Checks every bound of the wire.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check(&self) -> Result<(), LimitError> {
        let properties = &self.properties;
        let short_strings = [
            ("message-id", &properties.message_id),
            ("type", &properties.kind),
            ("content-type", &properties.content_type),
            ("content-encoding", &properties.content_encoding),
            ("correlation-id", &properties.correlation_id),
            ("reply-to", &properties.reply_to),
            ("expiration", &properties.expiration),
            ("app-id", &properties.app_id),
        ];
        for (field, value) in short_strings {
            if let Some(text) = value {
                short(field, text)?;
            }
        }
        for (name, _) in properties.headers.iter() {
            short(name, name)?;
        }
        if let Some(text) = &properties.expiration
            && text.parse::<u32>().is_err()
        {
            return Err(LimitError::Expiration(text.clone()));
        }
        let bytes = properties.headers.encoded_len();
        let max = limits::headers_max_bytes();
        if bytes > max {
            return Err(LimitError::Headers { bytes, max });
        }
        if self.body.len() > limits::BODY_MAX_BYTES {
            return Err(LimitError::Body(self.body.len()));
        }
        Ok(())
    }
}

fn short(field: &str, text: &str) -> Result<(), LimitError> {
    if text.len() <= limits::SHORT_STRING_MAX_BYTES {
        return Ok(());
    }
    Err(LimitError::ShortString { field: field.chars().take(64).collect(), bytes: text.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("q").expect("valid"),
            properties: Properties::default(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn bounds_are_checked_before_the_wire() {
        assert_eq!(message().check(), Ok(()));
        let mut long_type = message();
        long_type.properties.kind = Some("t".repeat(256));
        assert!(matches!(long_type.check(), Err(LimitError::ShortString { bytes: 256, .. })));
        let mut long_name = message();
        long_name.properties.headers.set("n".repeat(256), "v");
        assert!(matches!(long_name.check(), Err(LimitError::ShortString { .. })));
        let mut big_headers = message();
        big_headers.properties.headers.set("h", "v".repeat(limits::HEADERS_MAX_BYTES));
        assert!(matches!(big_headers.check(), Err(LimitError::Headers { .. })));
        let mut junk = message();
        junk.properties.expiration = Some("abc".into());
        assert!(matches!(junk.check(), Err(LimitError::Expiration(_))));
        let mut big = message();
        big.body = Bytes::from(vec![0; limits::BODY_MAX_BYTES + 1]);
        assert!(matches!(big.check(), Err(LimitError::Body(_))));
    }
}
