//! The parts that all codecs share: errors, outgoing events, encoded messages, and the fields that every codec reads.

use bytes::Bytes;

use super::attribute::moment;
use super::header;
use trunkline_event::{ContentCodingError, Event, HeaderValue, Headers, Message, Reason, without_byte_order_mark};

/// The content type of bytes with an unknown meaning.
pub(super) const BYTES: &str = "application/octet-stream";

/// Why a message cannot be decoded, or an event cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The body is not valid JSON, or not the JSON of the envelope.
    #[error("the body is not valid JSON: {0}")]
    Json(String),
    /// A field of the envelope is missing or wrong.
    #[error("the {envelope} envelope is not valid: {problem}")]
    Envelope {
        /// Name of the envelope.
        envelope: &'static str,
        /// The broken rule.
        problem: String,
    },
    /// The daemon cannot decode the `content-encoding` of the body.
    #[error(transparent)]
    Coding(#[from] ContentCodingError),
    /// A field is longer than the property or header that carries it.
    #[error("the {field} has {bytes} bytes; the limit is {max} bytes")]
    TooLong {
        /// Name of the field.
        field: &'static str,
        /// Length of the field in bytes.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The envelope is JSON, and the data is not.
    #[error("the data must be JSON for the {envelope} envelope, but is not JSON: {problem}")]
    Data {
        /// Name of the envelope.
        envelope: &'static str,
        /// Place where the data stops being JSON.
        problem: String,
    },
}

impl CodecError {
    /// The reason with which a route dead-letters a message that cannot be decoded.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Coding(ContentCodingError::TooLarge(_)) => Reason::TooLarge,
            Self::Coding(
                ContentCodingError::Unknown(_) | ContentCodingError::TooMany(_) | ContentCodingError::Broken { .. },
            )
            | Self::Json(_)
            | Self::Envelope { .. }
            | Self::TooLong { .. }
            | Self::Data { .. } => Reason::Invalid,
        }
    }
}

/// An event that is to be encoded.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Id of the event.
    pub id: &'a str,
    /// Event type.
    pub kind: &'a str,
    /// Origin of the event.
    pub source: &'a str,
    /// Subject of the event.
    pub subject: Option<&'a str>,
    /// Time of the event, RFC 3339 in UTC.
    pub time: &'a str,
    /// Media type of `data`.
    pub content_type: &'a str,
    /// The payload.
    pub data: &'a Bytes,
    /// Tenant.
    pub tenant: Option<&'a str>,
    /// User.
    pub user: Option<&'a str>,
    /// Further attributes.
    pub attributes: &'a [(String, String)],
}

impl Outgoing<'_> {
    /// Most headers that an emission gets beside its attributes: the fields of a CloudEvent, the user, the daemon's own
    /// headers and the signature.
    const FURTHER_HEADERS_MAX: usize = 16;

    /// A table with room for the headers of the message.
    pub(super) fn header_table(&self) -> Headers {
        Headers::with_capacity(self.attributes.len() + Self::FURTHER_HEADERS_MAX)
    }
}

/// The parts of a message that depend on the codec.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// Media type of the body.
    pub content_type: String,
    /// Body of the message.
    pub body: Bytes,
    /// Headers of the codec, with the attributes where the codec has no envelope for them.
    pub headers: Headers,
}

/// The event as properties and own headers describe it. `data` is the whole body.
pub(super) fn from_properties(message: &Message) -> Event {
    let properties = &message.properties;
    let headers = &properties.headers;
    let text = |name: &str| headers.text(name).map(str::to_owned);
    // A retry or a redrive comes from another exchange than the event did.
    let exchange = text(header::SOURCE_EXCHANGE).unwrap_or_else(|| message.exchange.to_string());
    let routing_key = text(header::SOURCE_KEY).unwrap_or_else(|| message.routing_key.to_string());
    let given = given_id(message);
    let own_id = given.is_some() && headers.get(header::OWN_ID) != Some(&HeaderValue::Bool(false));
    let id = given.unwrap_or_else(new_id);
    Event {
        source: if exchange.is_empty() { format!("/queue/{routing_key}") } else { format!("/exchange/{exchange}") },
        kind: properties.kind.clone().filter(|kind| !kind.is_empty()).unwrap_or_else(|| routing_key.clone()),
        subject: text(header::SUBJECT),
        time: properties.timestamp.and_then(moment),
        content_type: properties.content_type.clone().unwrap_or_else(|| BYTES.to_owned()),
        data: message.body.clone(),
        routing_key,
        exchange,
        tenant: text(header::TENANT),
        user: text(header::USER),
        attempt: headers.int(header::ATTEMPT).and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(1).max(1),
        attributes: Vec::new(),
        correlation_id: properties.correlation_id.clone().filter(|id| !id.is_empty()),
        reply_to: properties.reply_to.clone().filter(|address| !address.is_empty()),
        content_encoding: properties.content_encoding.clone(),
        // Only the delivery shows a redelivery, so `inbound` sets this field.
        redelivered: false,
        hops: headers.int(header::HOPS).and_then(|hops| u32::try_from(hops).ok()).unwrap_or(0),
        traceparent: text(header::TRACEPARENT),
        own_id,
        id,
    }
}

/// The id with which a message arrived.
#[must_use]
pub fn given_id(message: &Message) -> Option<String> {
    message.properties.message_id.clone().filter(|id| !id.is_empty())
}

/// A new id for a message without an id. Two messages never share an id, even with equal content, because the dedupe window
/// would drop the second event.
#[must_use]
pub fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Whether a content type declares JSON.
pub(super) fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json") || media_type.to_ascii_lowercase().ends_with("+json")
}

/// Checks that data with the content type JSON is one JSON value, and removes a byte order mark before a JSON value. An object or a
/// list after a byte order mark is JSON with any content type.
///
/// # Errors
/// The position at which the data is not JSON.
pub(super) fn read_json(event: &mut Event) -> Result<(), CodecError> {
    let text = without_byte_order_mark(&event.data);
    let mark_bytes = event.data.len() - text.len();
    let is_declared = is_json(&event.content_type);
    if !is_declared && (mark_bytes == 0 || !matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))) {
        return Ok(());
    }
    match check_json(text) {
        Ok(()) => {
            event.data = event.data.slice(mark_bytes..);
            Ok(())
        }
        Err(error) if is_declared => Err(CodecError::Json(error)),
        Err(_) => Ok(()),
    }
}

/// Checks that the bytes are one JSON value in UTF-8. RFC 8259 requires UTF-8. The parser alone would accept other bytes in a
/// string that it ignores.
///
/// # Errors
/// The place where the bytes stop being JSON.
pub(super) fn check_json(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("JSON must be UTF-8: {error}"))?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).map(drop).map_err(|error| error.to_string())
}
