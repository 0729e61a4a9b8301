//! A line of an archive: every part of an event that a replay publishes again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use trunkline_event::Event;

/// One archived event. Fields with a name of `POST /api/v1/events` have the meaning of that request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedEvent {
    /// Id of the event.
    pub id: String,
    /// Event type.
    pub r#type: String,
    /// Origin of the event.
    pub source: String,
    /// Subject of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Time of the event, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Exchange that the event was published to.
    pub exchange: String,
    /// Routing key that the event was published with.
    pub routing_key: String,
    /// Tenant of the event.
    #[serde(default, rename = "organizationId", skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// User of the event.
    #[serde(default, rename = "userId", skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Id of the event that began the chain.
    pub correlation_id: String,
    /// Media type of the data.
    pub content_type: String,
    /// Further attributes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Data, when it is JSON on one line. `null` is JSON too.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub data: Option<Json>,
    /// Data that is not JSON on one line, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// Time of archiving, RFC 3339.
    pub archived_at: String,
}

/// JSON that is kept byte for byte.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The text of the JSON.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Json {}

/// The value of a field that the line has. Without this function, `null` would count as a missing field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

impl ArchivedEvent {
    /// Makes the line of an event that was received at the RFC 3339 time `at`.
    pub(super) fn of(event: &Event, at: &str) -> Self {
        // A line ends at the first line feed.
        let is_one_line = !event.data.contains(&b'\n') && !event.data.contains(&b'\r');
        let json = is_one_line.then(|| serde_json::from_slice::<Box<RawValue>>(&event.data).ok()).flatten();
        Self {
            id: event.id.clone(),
            r#type: event.kind.clone(),
            source: event.source.clone(),
            subject: event.subject.clone(),
            time: event.time.clone(),
            exchange: event.exchange.clone(),
            routing_key: event.routing_key.clone(),
            tenant: event.tenant.clone(),
            user: event.user.clone(),
            correlation_id: event.chain_id().to_owned(),
            content_type: event.content_type.clone(),
            attributes: event.attributes.iter().cloned().collect(),
            data_base64: json.is_none().then(|| STANDARD.encode(&event.data)),
            data: json.map(Json),
            archived_at: at.to_owned(),
        }
    }

    /// The line as text, with the line feed.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// The data as JSON; none when the data is not JSON on one line.
    #[must_use]
    pub fn json(&self) -> Option<Cow<'_, str>> {
        if let Some(json) = &self.data {
            return Some(Cow::Borrowed(json.text()));
        }
        let bytes = STANDARD.decode(self.data_base64.as_ref()?).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        serde_json::from_str::<&RawValue>(&text).ok()?;
        Some(Cow::Owned(text))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;

    use super::*;

    pub(in crate::archive) fn event(id: &str, data: &'static [u8]) -> Event {
        Event {
            id: id.into(),
            own_id: true,
            source: "s".into(),
            kind: "call.ended".into(),
            subject: None,
            time: Some("2026-11-21T10:00:00Z".into()),
            content_type: "application/json".into(),
            data: Bytes::from_static(data),
            routing_key: "comms.call.ended".into(),
            exchange: "events".into(),
            tenant: Some("org-1".into()),
            user: None,
            attempt: 1,
            attributes: vec![("version".into(), "1.0.0".into())],
            correlation_id: Some("root".into()),
            reply_to: None,
            content_encoding: None,
            redelivered: false,
            hops: 0,
            traceparent: None,
        }
    }

    #[test]
    fn a_line_keeps_data_byte_for_byte() {
        let json = br#"{"a": 1.50,  "b":"\u00e9"}"#;
        let table: [&'static [u8]; 6] = [json, b"{\n \"a\": 1\n}", b"no json \xff", b"", b"\"x\"", b"null"];
        for data in table {
            let entry = ArchivedEvent::of(&event("e-1", data), "2026-11-21T10:00:01Z");
            let line = entry.line();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "{line:?}");
            let read: ArchivedEvent = serde_json::from_slice(&line).expect("a line is JSON");
            assert_eq!(read, entry);
            let is_json = serde_json::from_slice::<serde_json::Value>(data).is_ok();
            assert_eq!(read.json().map(|text| text.as_bytes().to_vec()), is_json.then(|| data.to_vec()), "{data:?}");
        }
    }
}
