//! `cloudevents`: CloudEvents 1.0, binary and structured in, binary out.
//!
//! The specification binds AMQP 1.0; on 0-9-1 an attribute is a header `cloudEvents_<name>` (`cloudEvents:<name>` is
//! read as well, the only form of 1.0.2), and `datacontenttype` is the content type. A message without either form
//! still flows, as `raw` would read it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Encoded, Error, Outgoing, check_json, foreign_text_headers, from_properties, header, is_json};
use trunkline_event::{Event, Headers, Message};

const NAME: &str = "CloudEvents";
const PREFIXES: [&str; 2] = ["cloudEvents_", "cloudEvents:"];

#[derive(Deserialize)]
struct Structured<'a> {
    specversion: String,
    id: String,
    source: String,
    r#type: String,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    time: Option<String>,
    #[serde(default)]
    datacontenttype: Option<String>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    data_base64: Option<String>,
    /// Extensions.
    #[serde(flatten)]
    extensions: BTreeMap<String, serde_json::Value>,
}

pub(super) fn decode(message: &Message) -> Result<Event, Error> {
    let content_type = message.properties.content_type.as_deref().unwrap_or_default();
    if content_type.to_ascii_lowercase().starts_with("application/cloudevents") {
        return structured(message);
    }
    let attributes = binary_attributes(&message.properties.headers);
    let mut event = from_properties(message);
    if is_json(&event.content_type) {
        check_json(&event.data).map_err(Error::Json)?;
    }
    event.attributes = foreign_text_headers(&message.properties.headers);
    if attributes.is_empty() {
        return Ok(event);
    }
    for required in ["id", "source", "type"] {
        if !attributes.iter().any(|(name, value)| name == required && !value.is_empty()) {
            return Err(problem(format!("the attribute `{required}` is missing")));
        }
    }
    for (name, value) in attributes {
        match name.as_str() {
            "specversion" => check_version(&value)?,
            "id" => set_id(&mut event, value),
            "source" => event.source = value,
            "type" => event.kind = value,
            "subject" => event.subject = Some(value),
            "time" => event.time = Some(value),
            _ => event.attributes.push((name, value)),
        }
    }
    Ok(event)
}

fn problem(text: impl Into<String>) -> Error {
    Error::Envelope { envelope: NAME, problem: text.into() }
}

fn check_version(version: &str) -> Result<(), Error> {
    if version == "1.0" { Ok(()) } else { Err(problem(format!("specversion is {version:?}; only \"1.0\" is known"))) }
}

fn set_id(event: &mut Event, id: String) {
    if event.correlation_id == event.id {
        event.correlation_id.clone_from(&id);
    }
    event.id = id;
    event.own_id = true;
}

fn binary_attributes(headers: &Headers) -> Vec<(String, String)> {
    let attribute = |name: &str| PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).map(str::to_owned);
    headers.iter().filter_map(|(name, value)| Some((attribute(name)?, value.as_str()?.to_owned()))).collect()
}

fn structured(message: &Message) -> Result<Event, Error> {
    let envelope: Structured<'_> = serde_json::from_slice(&message.body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => problem(error.to_string()),
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            Error::Json(error.to_string())
        }
    })?;
    check_version(&envelope.specversion)?;
    let mut event = from_properties(message);
    set_id(&mut event, envelope.id);
    event.source = envelope.source;
    event.kind = envelope.r#type;
    event.subject = envelope.subject;
    event.time = envelope.time.or(event.time);
    event.content_type = envelope.datacontenttype.unwrap_or_else(|| "application/json".to_owned());
    event.data = match (envelope.data, envelope.data_base64) {
        (Some(data), None) => Bytes::copy_from_slice(data.get().as_bytes()),
        (None, Some(text)) => decode_base64(&text).map_err(problem)?.into(),
        (None, None) => Bytes::new(),
        (Some(_), Some(_)) => return Err(problem("`data` and `data_base64` are both there")),
    };
    let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    event.attributes = envelope.extensions.into_iter().map(|(name, value)| (name, text(value))).collect();
    Ok(event)
}

/// Standard base64 with padding (RFC 4648 section 4), which is what `data_base64` is.
fn decode_base64(text: &str) -> Result<Vec<u8>, String> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).map_err(|error| format!("`data_base64`: {error}"))
}

pub(super) fn encode(event: &Outgoing<'_>) -> Encoded {
    let mut headers = Headers::default();
    let mut set = |name: &str, value: &str| headers.set(format!("{}{name}", PREFIXES[0]), value);
    set("specversion", "1.0");
    set("id", event.id);
    set("source", event.source);
    set("type", event.kind);
    set("time", event.time);
    if let Some(subject) = event.subject {
        set("subject", subject);
    }
    for (name, value) in event.attributes {
        set(name, value);
    }
    if let Some(user) = event.user {
        headers.set(header::USER, user);
    }
    Encoded { content_type: event.content_type.to_owned(), body: event.data.clone(), headers }
}
