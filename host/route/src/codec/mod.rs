//! Codecs turn a message into an event and an event into a message, so that a plugin never sees an envelope.
//!
//! Decoding is total over hostile input: whatever comes is an [`Event`] or an [`Error`] that says what is wrong and
//! where. Does not know routes or retries; the `trunkline-*` headers that every codec shares are named here.

mod cloudevents;
pub mod header;
mod ocelot;
mod raw;

use bytes::Bytes;

use trunkline_config::Codec;
use trunkline_event::{Event, HeaderValue, Headers, Message, limits};

/// AMQP 0-9-1 `shortstr`, which ids are, and what else becomes part of keys in the state.
const SHORT_MAX_BYTES: usize = limits::SHORT_STRING_MAX_BYTES;
/// CloudEvents 1.0 sets no bound; it is a header of ours.
const SUBJECT_MAX_BYTES: usize = 1024;
/// W3C Trace Context has 55 characters, and leaves room for later versions.
const TRACEPARENT_MAX_BYTES: usize = 512;

/// Of a wrong name, in the text that says so.
const NAME_SHOWN_MAX_BYTES: usize = 100;

/// Attributes that name an event in CloudEvents: what the daemon says of an event is not for its plugin to say.
const CLOUDEVENTS_CONTEXT: [&str; 9] =
    ["id", "type", "source", "specversion", "time", "subject", "datacontenttype", "data", "data_base64"];

/// Checks the name of an attribute that somebody else chose for an event that goes out in this codec.
///
/// # Errors
/// What is wrong with the name, as a sentence.
pub fn check_attribute(codec: Codec, name: &str) -> Result<(), String> {
    if !header::is_attribute_name(name) {
        let shown = &name[..name.floor_char_boundary(NAME_SHOWN_MAX_BYTES)];
        let more = if shown.len() < name.len() { "…" } else { "" };
        return Err(format!(
            "`{}{more}` is not a valid attribute name: use up to 64 lower-case letters, digits, `-` and `_`, and no name \
             that begins with `x-` or `trunkline-`",
            shown.escape_debug()
        ));
    }
    check_context(codec, name)
}

/// Checks that an attribute is none of those that every event of this codec has.
///
/// # Errors
/// A sentence that names it.
pub fn check_context(codec: Codec, name: &str) -> Result<(), String> {
    if codec == Codec::Cloudevents && CLOUDEVENTS_CONTEXT.contains(&name) {
        return Err(format!("`{name}` is an attribute that every CloudEvent has; it cannot be set like another one"));
    }
    Ok(())
}

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
    /// A field is longer than what carries it on.
    #[error("the {field} is {bytes} bytes long; at most {max} are possible")]
    TooLong {
        /// Which.
        field: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
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
    let mut event = match codec {
        Codec::Raw => raw::decode(message),
        Codec::Cloudevents => cloudevents::decode(message),
        Codec::Ocelot => ocelot::decode(message),
    }?;
    bound(&mut event)?;
    Ok(event)
}

/// What becomes a property or a header of everything that follows has to fit there.
fn bound(event: &mut Event) -> Result<(), Error> {
    let texts = [
        ("id", Some(&event.id), SHORT_MAX_BYTES),
        ("tenant", event.tenant.as_ref(), SHORT_MAX_BYTES),
        ("user", event.user.as_ref(), SHORT_MAX_BYTES),
        ("subject", event.subject.as_ref(), SUBJECT_MAX_BYTES),
    ];
    for (field, text, max) in texts {
        let bytes = text.map_or(0, String::len);
        if bytes > max {
            return Err(Error::TooLong { field, bytes, max });
        }
    }
    // No such trace exists: it is not worth an event.
    event.traceparent = event.traceparent.take().filter(|trace| trace.len() <= TRACEPARENT_MAX_BYTES);
    Ok(())
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
    let given = given_id(message);
    let own_id = given.is_some() && headers.get(header::OWN_ID) != Some(&HeaderValue::Bool(false));
    let id = given.unwrap_or_else(new_id);
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
        own_id,
        id,
    }
}

/// The id that a message came with.
#[must_use]
pub fn given_id(message: &Message) -> Option<String> {
    message.properties.message_id.clone().filter(|id| !id.is_empty())
}

/// The id of a message that came without one. Two messages never share it, whatever is in them: an event must not cost
/// another one.
#[must_use]
pub fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn rfc3339(seconds: u64) -> Option<String> {
    let seconds = i64::try_from(seconds).ok()?;
    Some(jiff::Timestamp::from_second(seconds).ok()?.to_string())
}

/// Headers of others that are text: attributes of an event without an envelope. Of ours those three that tell whoever
/// consumes a dead-letter queue why the letter is dead, and after how many attempts.
fn foreign_text_headers(headers: &Headers) -> Vec<(String, String)> {
    let is_dead = headers.get(header::REASON).is_some();
    let tells_why = |name: &str| is_dead && [header::REASON, header::ERROR, header::ATTEMPT].contains(&name);
    let is_ours = |name: &str| {
        (name.starts_with("trunkline-") && !tells_why(name))
            || name.starts_with("x-")
            || name.starts_with("cloudEvents")
            || name == header::TRACEPARENT
    };
    let text = |(name, value): (&str, &HeaderValue)| {
        let number = value.as_int().filter(|_| name == header::ATTEMPT).map(|attempts| attempts.to_string());
        Some((name.to_owned(), number.or_else(|| value.as_str().map(str::to_owned))?))
    };
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
