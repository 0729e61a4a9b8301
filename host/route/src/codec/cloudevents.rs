//! `cloudevents`: CloudEvents 1.0, binary and structured in, binary out.
//!
//! The specification binds AMQP 1.0. On AMQP 0-9-1 an attribute is a header `cloudEvents_<name>`, and `datacontenttype` is the
//! content type. The codec also reads `cloudEvents:<name>`, which is the only name in 1.0.2, `ce-<name>` and `ce_<name>`. A message is
//! structured if the content type of the message is a CloudEvent. Dapr publishes its envelope as `text/plain`. A JSON object with a
//! string `specversion` is therefore structured too, unless headers contain attributes. The codec reads any other message like the
//! codec `raw`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::attribute::{foreign_attributes, text, time, with_envelope};
use super::envelope::{BYTES, CodecError, Encoded, Outgoing, check_json, from_properties, read_json};
use super::{header, raw};
use trunkline_event::{Event, HeaderValue, Headers, Message, without_byte_order_mark};

const NAME: &str = "CloudEvents";
const PREFIXES: [&str; 2] = ["cloudEvents_", "cloudEvents:"];
/// The prefix of HTTP, of Knative's binding for RabbitMQ, and of the CloudEvents SDK for Python; and the prefix of Kafka. A bridge
/// copies these headers. The prefixes count only in a message with `ce-specversion` or `ce_specversion`, because names of other
/// headers may also begin with `ce-`.
const SHORT_PREFIXES: [&str; 2] = ["ce-", "ce_"];
const STRUCTURED: &str = "application/cloudevents";
const JSON: &str = "application/json";
const VERSION: &str = "specversion";
/// Attributes that must be strings in the JSON format. Extensions may also be numbers and booleans.
const TEXTS: [&str; 7] = [VERSION, "id", "source", "type", "subject", "time", "datacontenttype"];

pub(super) fn decode(message: &Message) -> Result<Event, CodecError> {
    let media_type = media_type(message.properties.content_type.as_deref().unwrap_or_default());
    match media_type.strip_prefix(STRUCTURED) {
        Some("" | "+json") => return structured(message),
        Some(batch) if batch.starts_with("-batch") => {
            return Err(problem("a batch is not one event; publish each event of the batch as a separate message"));
        }
        Some(_) => {
            return Err(problem(format!("the format {media_type:?} is not supported; use \"{STRUCTURED}+json\"")));
        }
        None => {}
    }
    let attributes = binary_attributes(&message.properties.headers)?;
    if !attributes.is_empty() {
        return binary(message, attributes);
    }
    if is_envelope(&message.body) { structured(message) } else { raw::decode(message) }
}

fn problem(text: impl Into<String>) -> CodecError {
    CodecError::Envelope { envelope: NAME, problem: text.into() }
}

/// The media type in lower case, without its parameters.
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a `datacontenttype` declares JSON, by section 3.1.1 of the JSON format.
fn declares_json(content_type: &str) -> bool {
    media_type(content_type).split_once('/').is_some_and(|(_, kind)| kind == "json" || kind.ends_with("+json"))
}

fn check_version(version: &str) -> Result<(), CodecError> {
    if version == "1.0" { Ok(()) } else { Err(problem(format!("`{VERSION}` is {version:?}, but must be \"1.0\""))) }
}

/// Sets the fields of an event from its attributes. The remaining attributes are extensions. Headers of the sender are attributes
/// too.
fn set_attributes(
    event: &mut Event,
    headers: &Headers,
    mut attributes: BTreeMap<String, String>,
) -> Result<(), CodecError> {
    if let Some(version) = attributes.remove(VERSION) {
        check_version(&version)?;
    }
    let mut required = |name: &str| {
        let value = attributes.remove(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| problem(format!("the attribute `{name}` is missing or empty")))
    };
    event.id = required("id")?;
    event.own_id = true;
    event.source = required("source")?;
    event.kind = required("type")?;
    event.subject = attributes.remove("subject").or_else(|| event.subject.take());
    event.time = attributes.remove("time").or_else(|| event.time.take());
    // The extension for distributed tracing uses the names of W3C Trace Context.
    if event.traceparent.is_none() {
        event.traceparent = attributes.get(header::TRACEPARENT).cloned();
    }
    let mut foreign = foreign_attributes(headers);
    let has_short = has_short(headers);
    foreign.retain(|(name, _)| attribute_name(name, has_short).is_none());
    event.attributes = with_envelope(foreign, attributes);
    Ok(())
}

/// The name of the attribute in a header. A bridge from HTTP may write prefix and name in other letters, such as `Ce-Id`. The names
/// of CloudEvents are lower-case.
fn attribute_name(header: &str, has_short: bool) -> Option<Cow<'_, str>> {
    let short: &[&str] = if has_short { &SHORT_PREFIXES } else { &[] };
    PREFIXES.iter().chain(short).find_map(|prefix| {
        let (start, name) = header.split_at_checked(prefix.len())?;
        if start == *prefix {
            return Some(Cow::Borrowed(name));
        }
        start.eq_ignore_ascii_case(prefix).then(|| Cow::Owned(name.to_ascii_lowercase()))
    })
}

/// Whether the headers have the version of a CloudEvent with a short prefix.
fn has_short(headers: &Headers) -> bool {
    headers.iter().any(|(header, _)| {
        SHORT_PREFIXES.iter().any(|prefix| {
            let parts = header.split_at_checked(prefix.len());
            parts.is_some_and(|(start, name)| start.eq_ignore_ascii_case(prefix) && name.eq_ignore_ascii_case(VERSION))
        })
    })
}

/// The attributes among the headers. A header without a value means that the attribute is not set.
fn binary_attributes(headers: &Headers) -> Result<BTreeMap<String, String>, CodecError> {
    let mut attributes = BTreeMap::new();
    let has_short = has_short(headers);
    for (header, value) in headers.iter().filter(|(_, value)| **value != HeaderValue::Null) {
        let Some(name) = attribute_name(header, has_short) else { continue };
        let text = if name == "time" { time(value) } else { text(value) };
        let Some(text) = text else {
            return Err(problem(format!("the attribute `{name}` is a list or a table, but must be a single value")));
        };
        let before = attributes.insert(name.clone().into_owned(), text.clone());
        if before.is_some_and(|before| before != text) {
            return Err(problem(format!(
                "the attribute `{name}` has different values in two headers with different prefixes"
            )));
        }
    }
    Ok(attributes)
}

fn binary(message: &Message, mut attributes: BTreeMap<String, String>) -> Result<Event, CodecError> {
    let mut event = from_properties(message);
    // The property content type contains this attribute. Some senders write a header instead.
    let declared = attributes.remove("datacontenttype");
    if message.properties.content_type.as_deref().unwrap_or_default().is_empty() {
        event.content_type = declared.unwrap_or(event.content_type);
    }
    // An event may have no data. The SDKs for JavaScript and Python still write a content type of JSON.
    if !event.data.is_empty() {
        read_json(&mut event)?;
    }
    set_attributes(&mut event, &message.properties.headers, attributes)?;
    Ok(event)
}

/// The members of a JSON object, each with its original text.
fn members(body: &[u8]) -> Result<BTreeMap<String, &RawValue>, CodecError> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => problem(error.to_string()),
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            CodecError::Json(error.to_string())
        }
    })
}

/// Whether a body is a CloudEvent in the JSON format. A truncated CloudEvent counts too.
fn is_envelope(body: &[u8]) -> bool {
    const WORD: &[u8] = b"\"specversion\"";
    let body = without_byte_order_mark(body);
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') || !body.windows(WORD.len()).any(|word| word == WORD) {
        return false;
    }
    match members(body) {
        Ok(members) => members.get(VERSION).is_some_and(|version| version.get().starts_with('"')),
        Err(_) => true,
    }
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// The text of a JSON string; none for any other value.
fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn structured(message: &Message) -> Result<Event, CodecError> {
    let mut members = members(without_byte_order_mark(&message.body))?;
    let (data, data_base64) = (members.remove("data"), members.remove("data_base64"));
    let mut attributes = BTreeMap::new();
    // A null member means that the attribute is not set.
    for (name, value) in members.into_iter().filter(|(_, value)| !is_null(value)) {
        let text = match string(value) {
            Some(text) => text,
            None if TEXTS.contains(&name.as_str()) => {
                return Err(problem(format!("`{name}` is not a string, but must be a string")));
            }
            None => value.get().to_owned(),
        };
        attributes.insert(name, text);
    }
    if !attributes.contains_key(VERSION) {
        return Err(problem(format!("the attribute `{VERSION}` is missing")));
    }
    let content_type = attributes.remove("datacontenttype").filter(|declared| !declared.is_empty());
    let mut event = from_properties(message);
    (event.content_type, event.data) = match data_base64.filter(|encoded| !is_null(encoded)) {
        Some(_) if data.is_some_and(|data| !is_null(data)) => {
            return Err(problem("the event has both `data` and `data_base64`; send only one of the two"));
        }
        Some(encoded) => binary_data(content_type, encoded)?,
        None => plain_data(content_type, data)?,
    };
    set_attributes(&mut event, &message.properties.headers, attributes)?;
    Ok(event)
}

/// Content type and data of `data`. Data that is not JSON is a string. `null` is a JSON value, unlike a missing member.
fn plain_data(content_type: Option<String>, data: Option<&RawValue>) -> Result<(String, Bytes), CodecError> {
    let content_type = content_type.unwrap_or_else(|| JSON.to_owned());
    let data = match data {
        None => Bytes::new(),
        Some(data) if declares_json(&content_type) => Bytes::copy_from_slice(data.get().as_bytes()),
        Some(data) if is_null(data) => Bytes::new(),
        Some(data) => string(data).map(Bytes::from).ok_or_else(|| {
            problem(format!(
                "`data` is not a string, but must be a string, because `datacontenttype` is {content_type:?}"
            ))
        })?,
    };
    Ok((content_type, data))
}

/// Content type and data of `data_base64`, which is Base64 with padding (RFC 4648 section 4). The function removes a byte order
/// mark before JSON.
fn binary_data(content_type: Option<String>, encoded: &RawValue) -> Result<(String, Bytes), CodecError> {
    use base64::Engine as _;
    let text = string(encoded).ok_or_else(|| problem("`data_base64` is not a string, but must be a string"))?;
    let data = base64::engine::general_purpose::STANDARD.decode(text);
    let data = Bytes::from(data.map_err(|error| problem(format!("`data_base64` is not valid Base64: {error}")))?);
    let json = data.slice(data.len() - without_byte_order_mark(&data).len()..);
    match (content_type, check_json(&json)) {
        (Some(declared), Err(error)) if declares_json(&declared) && !data.is_empty() => {
            Err(problem(format!("`data_base64` is not JSON, but `datacontenttype` declares JSON: {error}")))
        }
        (Some(declared), Ok(())) if declares_json(&declared) => Ok((declared, json)),
        (Some(declared), Ok(()) | Err(_)) => Ok((declared, data)),
        (None, Ok(())) => Ok((JSON.to_owned(), json)),
        (None, Err(_)) => Ok((BYTES.to_owned(), data)),
    }
}

pub(super) fn encode(event: &Outgoing<'_>) -> Encoded {
    let mut headers = event.header_table();
    headers.set("cloudEvents_specversion", "1.0");
    headers.set("cloudEvents_id", event.id);
    headers.set("cloudEvents_source", event.source);
    headers.set("cloudEvents_type", event.kind);
    headers.set("cloudEvents_time", event.time);
    if let Some(subject) = event.subject {
        headers.set("cloudEvents_subject", subject);
    }
    for (name, value) in event.attributes {
        headers.set([PREFIXES[0], name].concat(), value.as_str());
    }
    if let Some(user) = event.user {
        headers.set(header::USER, user);
    }
    Encoded { content_type: event.content_type.to_owned(), body: event.data.clone(), headers }
}

#[cfg(test)]
mod tests;
