//! `ocelot`: the JSON envelope of voice-by-kraliki, `{id, type, source, timestamp, organizationId, userId, data,
//! metadata}`. The event's data is the field `data`, byte for byte; `metadata` and the headers of the sender become attributes.
//! A member that is `null` is missing, except `data`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::attribute::{foreign_attributes, with_envelope};
use super::envelope::{CodecError, Encoded, Outgoing, from_properties};
use trunkline_event::{Event, Message, without_byte_order_mark};

const NAME: &str = "ocelot";

#[derive(Deserialize)]
struct Incoming<'a> {
    id: String,
    r#type: String,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default, rename = "organizationId")]
    organization_id: Option<String>,
    #[serde(default, rename = "userId")]
    user_id: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    metadata: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    id: &'a str,
    r#type: &'a str,
    source: &'a str,
    timestamp: &'a str,
    #[serde(rename = "organizationId")]
    organization_id: Option<&'a str>,
    #[serde(rename = "userId")]
    user_id: Option<&'a str>,
    data: &'a RawValue,
    metadata: BTreeMap<&'a str, &'a str>,
}

pub(super) fn decode(message: &Message) -> Result<Event, CodecError> {
    let body = without_byte_order_mark(&message.body);
    let envelope: Incoming<'_> = serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => CodecError::Envelope { envelope: NAME, problem: error.to_string() },
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            CodecError::Json(error.to_string())
        }
    })?;
    for (field, value) in [("id", &envelope.id), ("type", &envelope.r#type)] {
        if value.is_empty() {
            return Err(CodecError::Envelope { envelope: NAME, problem: format!("`{field}` is empty") });
        }
    }
    let mut event = from_properties(message);
    event.id = envelope.id;
    event.own_id = true;
    event.kind = envelope.r#type;
    event.source = envelope.source.unwrap_or(event.source);
    event.time = envelope.timestamp.or(event.time);
    event.tenant = envelope.organization_id.or(event.tenant);
    event.user = envelope.user_id.or(event.user);
    event.content_type = "application/json".to_owned();
    event.data = Bytes::copy_from_slice(envelope.data.get().as_bytes());
    let metadata = envelope.metadata.unwrap_or_default().into_iter();
    let metadata = metadata.filter_map(|(name, value)| Some((name, plain(value)?)));
    event.attributes = with_envelope(foreign_attributes(&message.properties.headers), metadata);
    Ok(event)
}

/// The text of a string, or the JSON of any other value. The result is `None` for `null`.
fn plain(value: serde_json::Value) -> Option<String> {
    Some(match value {
        serde_json::Value::Null => return None,
        serde_json::Value::String(text) => text,
        serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => value.to_string(),
    })
}

pub(super) fn encode(event: &Outgoing<'_>) -> Result<Encoded, CodecError> {
    let data: &RawValue = serde_json::from_slice(without_byte_order_mark(event.data))
        .map_err(|error| CodecError::Data { envelope: NAME, problem: error.to_string() })?;
    let mut metadata = BTreeMap::from([("version", "1.0.0"), ("module", "trunkline")]);
    metadata.extend(event.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let envelope = Envelope {
        id: event.id,
        r#type: event.kind,
        source: event.source,
        timestamp: event.time,
        organization_id: event.tenant,
        user_id: event.user,
        data,
        metadata,
    };
    let body = serde_json::to_vec(&envelope)
        .map_err(|error| CodecError::Data { envelope: NAME, problem: error.to_string() })?;
    Ok(Encoded { content_type: "application/json".to_owned(), body: body.into(), headers: event.header_table() })
}
