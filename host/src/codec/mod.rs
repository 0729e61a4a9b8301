//! Codecs turn a message into an event and an event into a message, so that a plugin never sees an envelope.
//!
//! Decoding is total over hostile input: whatever comes is an [`Event`] or an [`Error`] that says what is wrong and
//! where. Does not know routes or retries; the `trunkline-*` headers that every codec shares are named here.

mod cloudevents;
pub mod header;
mod ocelot;
mod raw;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::config::Codec;
use crate::event::{Event, HeaderValue, Headers, Message};

/// Why a message is no event, or an event no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The body is no JSON, or not the JSON that is wanted.
    #[error("the body is not valid JSON: {0}")]
    Json(String),
    /// A field of the envelope is missing or wrong.
    #[error("the {envelope} envelope: {problem}")]
    Envelope {
        /// Which codec.
        envelope: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The envelope is JSON and the data is not.
    #[error("the {envelope} envelope carries JSON only, and the data is not: {problem}")]
    Data {
        /// Which codec.
        envelope: &'static str,
        /// Where it fails.
        problem: String,
    },
}

/// An event on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Identity.
    pub id: &'a str,
    /// Type.
    pub kind: &'a str,
    /// Who made it.
    pub source: &'a str,
    /// What it is about.
    pub subject: Option<&'a str>,
    /// RFC 3339, UTC.
    pub time: &'a str,
    /// Media type of `data`.
    pub content_type: &'a str,
    /// The payload.
    pub data: &'a Bytes,
    /// Organisation.
    pub tenant: Option<&'a str>,
    /// User.
    pub user: Option<&'a str>,
    /// Further attributes.
    pub attributes: &'a [(String, String)],
}

/// The parts of a message that depend on the codec.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// Media type of the body.
    pub content_type: String,
    /// Body.
    pub body: Bytes,
    /// Headers of the codec, and of attributes where it has no envelope for them.
    pub headers: Headers,
}

/// Takes the envelope off.
///
/// # Errors
/// What is wrong with the message; it is dead-lettered as `invalid`.
pub fn decode(codec: Codec, message: &Message) -> Result<Event, Error> {
    match codec {
        Codec::Raw => raw::decode(message),
        Codec::Cloudevents => cloudevents::decode(message),
        Codec::Ocelot => ocelot::decode(message),
    }
}

/// Puts the envelope on.
///
/// # Errors
/// When the data cannot be carried by the envelope.
pub fn encode(codec: Codec, event: &Outgoing<'_>) -> Result<Encoded, Error> {
    match codec {
        Codec::Raw => Ok(raw::encode(event)),
        Codec::Cloudevents => Ok(cloudevents::encode(event)),
        Codec::Ocelot => ocelot::encode(event),
    }
}

/// What every codec reads from properties and our own headers; `data` is still the whole body.
fn from_properties(message: &Message) -> Event {
    let properties = &message.properties;
    let headers = &properties.headers;
    let text = |name: &str| headers.text(name).map(str::to_owned);
    // A retry or a redrive comes from another exchange than the event did.
    let exchange = text(header::SOURCE_EXCHANGE).unwrap_or_else(|| message.exchange.to_string());
    let routing_key = text(header::SOURCE_KEY).unwrap_or_else(|| message.routing_key.to_string());
    let given = properties.message_id.clone().filter(|id| !id.is_empty());
    let is_weak = given.is_none();
    let id = given.unwrap_or_else(|| weak_id(&message.body));
    Event {
        source: if exchange.is_empty() { format!("/queue/{routing_key}") } else { format!("/exchange/{exchange}") },
        kind: properties.kind.clone().filter(|kind| !kind.is_empty()).unwrap_or_else(|| routing_key.clone()),
        subject: text(header::SUBJECT),
        time: properties.timestamp.and_then(rfc3339),
        content_type: properties.content_type.clone().unwrap_or_else(|| "application/octet-stream".to_owned()),
        data: message.body.clone(),
        routing_key,
        exchange,
        tenant: text(header::TENANT),
        user: text(header::USER),
        attempt: headers.int(header::ATTEMPT).and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(1).max(1),
        attributes: Vec::new(),
        correlation_id: properties.correlation_id.clone().unwrap_or_else(|| id.clone()),
        hops: headers.int(header::HOPS).and_then(|hops| u32::try_from(hops).ok()).unwrap_or(0),
        traceparent: text(header::TRACEPARENT),
        weak_id: is_weak,
        id,
    }
}

/// The id of an event that came without one. Two equal bodies share it, which is why it is flagged weak and never deduplicated.
#[must_use]
pub fn weak_id(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    let hex = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("body-{hex}")
}

fn rfc3339(seconds: u64) -> Option<String> {
    let seconds = i64::try_from(seconds).ok()?;
    Some(jiff::Timestamp::from_second(seconds).ok()?.to_string())
}

/// Headers of others that are text: attributes of an event without an envelope. Of ours those two that tell whoever
/// consumes a dead-letter queue why the letter is dead.
fn foreign_text_headers(headers: &Headers) -> Vec<(String, String)> {
    let tells_why =
        |name: &str| (name == header::REASON || name == header::ERROR) && headers.get(header::REASON).is_some();
    let is_ours = |name: &str| {
        (name.starts_with("trunkline-") && !tells_why(name))
            || name.starts_with("x-")
            || name.starts_with("cloudEvents")
            || name == header::TRACEPARENT
    };
    let text = |(name, value): (&str, &HeaderValue)| Some((name.to_owned(), value.as_str()?.to_owned()));
    headers.iter().filter(|(name, _)| !is_ours(name)).filter_map(text).collect()
}

fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json") || media_type.to_ascii_lowercase().ends_with("+json")
}

/// Whether the bytes are one JSON value, and if not, where they stop being one.
fn check_json(bytes: &[u8]) -> Result<(), String> {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
