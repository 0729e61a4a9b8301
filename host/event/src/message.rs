//! A message as it stands on the wire, in no client's types.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ExchangeName, RoutingKey};

/// Bounds of the wire, checked before a client sees a message. Measured on RabbitMQ 3.10.8: a longer short string
/// panics in the client, larger headers close the whole connection (501), a larger body closes the channel (406).
pub mod limits {
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// AMQP 0-9-1 `shortstr`.
    pub const SHORT_STRING_MAX_BYTES: usize = 255;
    /// Half of the frame that every broker accepts (131 072 bytes), for all headers together.
    pub const HEADERS_MAX_BYTES: usize = 64 * 1024;
    /// What the other properties of a message may take of the frame: eight short strings, numbers, and the frame itself.
    const OTHER_PROPERTIES_BYTES: usize = 3 * 1024;
    /// Trunkline's own headers fit in this, cut short.
    const HEADERS_LEAST_BYTES: usize = 1024;

    static HEADERS: AtomicUsize = AtomicUsize::new(HEADERS_MAX_BYTES);

    /// Bytes that all headers of a message may take together: AMQP 0-9-1 wants properties in one frame, and a broker can be
    /// told to take small ones only.
    #[must_use]
    pub fn headers_max_bytes() -> usize {
        HEADERS.load(Ordering::Relaxed)
    }

    /// The largest frame that the broker of this process takes; 0 when it has no bound.
    pub fn agreed_frame_max(bytes: u32) {
        let room = match usize::try_from(bytes) {
            Ok(0) | Err(_) => HEADERS_MAX_BYTES,
            Ok(bytes) => bytes.saturating_sub(OTHER_PROPERTIES_BYTES).clamp(HEADERS_LEAST_BYTES, HEADERS_MAX_BYTES),
        };
        HEADERS.store(room, Ordering::Relaxed);
    }
    /// The default `max_message_size` of RabbitMQ 3.10; from 4.0 on it is 16 MiB, and what a broker delivers it takes back.
    pub const BODY_MAX_BYTES: usize = 128 * 1024 * 1024;
}

/// In front of the name of what a copy cannot carry under its own name: a header with a meaning to the broker, bytes that
/// are no text where one is wanted.
pub const KEPT_PREFIX: &str = "trunkline-kept-";

/// What is published, and what a delivery carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The exchange it goes to or was published to; empty for the default exchange.
    pub exchange: ExchangeName,
    /// Routing key.
    pub routing_key: RoutingKey,
    /// AMQP 0-9-1 basic properties.
    pub properties: Properties,
    /// Payload, with its envelope if the codec has one.
    pub body: Bytes,
}

/// AMQP 0-9-1 `basic` properties. `delivery-mode` is always 2 (persistent); `user-id` is never set, because the broker
/// checks it against the login; `cluster-id` and `type` of AMQP 0-8 do not exist here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Properties {
    /// Identity of the event, the same over retries and redrives.
    pub message_id: Option<String>,
    /// `type`.
    pub kind: Option<String>,
    /// Media type of the body.
    pub content_type: Option<String>,
    /// Compression of the body, passed through.
    pub content_encoding: Option<String>,
    /// Id of the root event.
    pub correlation_id: Option<String>,
    /// Passed through.
    pub reply_to: Option<String>,
    /// Message TTL in milliseconds, an integer as text.
    pub expiration: Option<String>,
    /// Seconds since the Unix epoch.
    pub timestamp: Option<u64>,
    /// Name of the publishing application.
    pub app_id: Option<String>,
    /// 0 to 255.
    pub priority: Option<u8>,
    /// Header table.
    pub headers: Headers,
}

/// A header table, in order, names unique.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Headers(Vec<(String, HeaderValue)>);

/// A field value of AMQP 0-9-1 as RabbitMQ defines it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum HeaderValue {
    /// `V`
    Null,
    /// `t`
    Bool(bool),
    /// Any of the integer types.
    Int(i64),
    /// `f`, `d`
    Float(f64),
    /// `S`, when it is UTF-8
    Text(String),
    /// `x`, and `S` that is no UTF-8
    Bytes(Vec<u8>),
    /// `T`, seconds
    Timestamp(u64),
    /// `A`
    List(Vec<HeaderValue>),
    /// `F`
    Table(Headers),
}

impl HeaderValue {
    /// The text of a text value, or of bytes that are UTF-8 (some clients send byte arrays).
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::Timestamp(_)
            | Self::List(_)
            | Self::Table(_) => None,
        }
    }

    /// The number of an integer value, or of a text that is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Timestamp(seconds) => i64::try_from(*seconds).ok(),
            Self::Text(_) | Self::Bytes(_) => self.as_str()?.parse().ok(),
            Self::Null | Self::Bool(_) | Self::Float(_) | Self::List(_) | Self::Table(_) => None,
        }
    }

    fn encoded_len(&self) -> usize {
        1 + match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int(_) | Self::Float(_) | Self::Timestamp(_) => 8,
            Self::Text(text) => 4 + text.len(),
            Self::Bytes(bytes) => 4 + bytes.len(),
            Self::List(values) => 4 + values.iter().map(Self::encoded_len).sum::<usize>(),
            Self::Table(table) => table.encoded_len(),
        }
    }
}

impl From<&str> for HeaderValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for HeaderValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for HeaderValue {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for HeaderValue {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<u32> for HeaderValue {
    fn from(number: u32) -> Self {
        Self::Int(i64::from(number))
    }
}

impl Headers {
    /// The value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&HeaderValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The text of that name, if it is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(HeaderValue::as_str)
    }

    /// The number of that name, if it is one.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(HeaderValue::as_int)
    }

    /// Sets a value, in place if the name is there.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<HeaderValue>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, name: &str) -> Option<HeaderValue> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }

    /// Keeps the values whose names are wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&str) -> bool) {
        self.0.retain(|(name, _)| wanted(name));
    }

    /// Takes out what a broker writes about a message's way. On a publish of ours RabbitMQ 3.x would count on from it,
    /// and 4.x ignores it: neither is wanted.
    pub fn remove_brokers(&mut self) {
        self.0.retain(|(name, _)| {
            !(["x-death", "x-delivery-count", "x-acquired-count"].contains(&name.as_str())
                || name.starts_with("x-first-death-")
                || name.starts_with("x-last-death-"))
        });
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of the table on the wire.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        4 + self.0.iter().map(|(name, value)| 1 + name.len() + value.encoded_len()).sum::<usize>()
    }
}

impl FromIterator<(String, HeaderValue)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, HeaderValue)>>(pairs: I) -> Self {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.set(name, value);
        }
        headers
    }
}

/// Which bound of the wire a message breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// A property that AMQP encodes as `shortstr`.
    #[error("{field} is {bytes} bytes long; AMQP allows {max}", max = limits::SHORT_STRING_MAX_BYTES)]
    ShortString {
        /// The property or header name.
        field: String,
        /// Its length.
        bytes: usize,
    },
    /// All headers together.
    #[error("the headers take {bytes} bytes; at most {max} are sent")]
    Headers {
        /// What they take.
        bytes: usize,
        /// What fits.
        max: usize,
    },
    /// The body.
    #[error("the body takes {0} bytes; at most {max} are sent", max = limits::BODY_MAX_BYTES)]
    Body(usize),
    /// `expiration` must be an integer as text, else the broker closes the channel (406).
    #[error("expiration {0:?} is no whole number of milliseconds")]
    Expiration(String),
}

impl Message {
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

    #[test]
    fn headers_keep_one_value_a_name() {
        let mut headers = Headers::default();
        headers.set("a", "1");
        headers.set("b", 2_u32);
        headers.set("a", "3");
        assert_eq!(headers.text("a"), Some("3"));
        assert_eq!(headers.int("a"), Some(3), "some clients send numbers as text");
        assert_eq!(headers.int("b"), Some(2));
        assert_eq!(headers.iter().count(), 2);
    }
}
