//! Decodes messages into events and encodes events into messages, by the codec of the queue or exchange.

use super::envelope::{CodecError, Encoded, Outgoing};
use super::{cloudevents, header, ocelot, raw};
use trunkline_config::Codec;
use trunkline_event::{Event, Message, decode_compression, decode_content, limits};

/// Longest id, tenant and user: AMQP 0-9-1 `shortstr`. Tenants also are parts of keys in the state.
const SHORT_MAX_BYTES: usize = limits::SHORT_STRING_MAX_BYTES;
/// Longest subject. CloudEvents 1.0 sets no bound, and the subject is an own header.
const SUBJECT_MAX_BYTES: usize = 1024;
/// Longest trace context. W3C Trace Context has 55 characters, and later versions may be longer.
const TRACEPARENT_MAX_BYTES: usize = 512;

/// Bytes of an invalid name that an error text quotes.
const NAME_SHOWN_MAX_BYTES: usize = 100;

/// Context attributes of CloudEvents, which the daemon sets and a plugin may not set.
const CLOUDEVENTS_CONTEXT: [&str; 9] =
    ["id", "type", "source", "specversion", "time", "subject", "datacontenttype", "data", "data_base64"];

/// Checks the name of an attribute that a plugin or a client gives to an event in this codec.
///
/// # Errors
/// A sentence with the rule that the name breaks.
pub fn check_attribute(codec: Codec, name: &str) -> Result<(), String> {
    if !header::is_attribute_name(name) {
        let shown = &name[..name.floor_char_boundary(NAME_SHOWN_MAX_BYTES)];
        let more = if shown.len() < name.len() { "…" } else { "" };
        return Err(format!(
            "`{}{more}` is not a valid attribute name: use up to 64 lower-case letters, digits, `-` and `_`, and do not \
             begin with `x-` or `trunkline-`",
            shown.escape_debug()
        ));
    }
    check_context(codec, name)
}

/// Checks that an attribute is not a context attribute, which every event of this codec has.
///
/// # Errors
/// A sentence that names the attribute.
pub fn check_context(codec: Codec, name: &str) -> Result<(), String> {
    if codec == Codec::Cloudevents && CLOUDEVENTS_CONTEXT.contains(&name) {
        return Err(format!(
            "`{name}` is an attribute of every CloudEvent, so a plugin cannot set the attribute; use another name"
        ));
    }
    Ok(())
}

/// The header with which kombu, the AMQP library of Celery, names the compression of a body.
const COMPRESSION: &str = "compression";

/// The message with the decoded body. The result is `None` if the body of the message has no content coding, and no compression of
/// kombu.
///
/// # Errors
/// The coding is not supported, the body is not in the named coding, or the decoded body has more than `max_bytes` bytes.
pub fn without_coding(message: &Message, max_bytes: usize) -> Result<Option<Message>, CodecError> {
    let properties = &message.properties;
    let encoding = properties.content_encoding.as_deref().unwrap_or_default();
    if let Some(body) = decode_content(encoding, &message.body, max_bytes)? {
        return Ok(Some(with_body(message, body)));
    }
    let Some(compression) = properties.headers.text(COMPRESSION) else { return Ok(None) };
    let Some(body) = decode_compression(compression, &message.body, max_bytes)? else { return Ok(None) };
    let mut decoded = with_body(message, body);
    decoded.properties.headers.remove(COMPRESSION);
    Ok(Some(decoded))
}

/// A message with another body and without `content-encoding`.
fn with_body(message: &Message, body: Vec<u8>) -> Message {
    let mut decoded = message.copy();
    decoded.properties.content_encoding = None;
    decoded.body = body.into();
    decoded
}

/// Decodes a message. The body may have at most `max_bytes` bytes after the `content-encoding` is decoded.
///
/// # Errors
/// The rule that the message breaks. The route dead-letters the message with the reason of the error.
pub fn decode(codec: Codec, message: &Message, max_bytes: usize) -> Result<Event, CodecError> {
    let decoded = without_coding(message, max_bytes)?;
    let plain = decoded.as_ref().unwrap_or(message);
    let mut event = match codec {
        Codec::Raw => raw::decode(plain),
        Codec::Cloudevents => cloudevents::decode(plain),
        Codec::Ocelot => ocelot::decode(plain),
    }?;
    event.content_encoding.clone_from(&message.properties.content_encoding);
    bound(&mut event)?;
    Ok(event)
}

/// Checks the fields that become properties or headers of emissions and copies.
fn bound(event: &mut Event) -> Result<(), CodecError> {
    let texts = [
        ("id", Some(&event.id), SHORT_MAX_BYTES),
        ("tenant", event.tenant.as_ref(), SHORT_MAX_BYTES),
        ("user", event.user.as_ref(), SHORT_MAX_BYTES),
        ("subject", event.subject.as_ref(), SUBJECT_MAX_BYTES),
    ];
    for (field, text, max) in texts {
        let bytes = text.map_or(0, String::len);
        if bytes > max {
            return Err(CodecError::TooLong { field, bytes, max });
        }
    }
    // A trace context of this length is not valid; the event is handled without it.
    event.traceparent = event.traceparent.take().filter(|trace| trace.len() <= TRACEPARENT_MAX_BYTES);
    Ok(())
}

/// Encodes an event.
///
/// # Errors
/// The envelope cannot carry the data.
pub fn encode(codec: Codec, event: &Outgoing<'_>) -> Result<Encoded, CodecError> {
    match codec {
        Codec::Raw => Ok(raw::encode(event)),
        Codec::Cloudevents => Ok(cloudevents::encode(event)),
        Codec::Ocelot => ocelot::encode(event),
    }
}
