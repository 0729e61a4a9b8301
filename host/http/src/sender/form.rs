//! The bodies of webhooks. A body is one event, a form, or a list of events.

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use trunkline_config::{Hook, SenderForm};

use crate::problem::Problem;
use crate::request::query;
use trunkline_event::without_byte_order_mark;

/// Largest number of events in one request. Event Grid sends at most this number of events.
const EVENTS_MAX: usize = 5000;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const CLOUD_EVENT: &str = "application/cloudevents+json";
const CLOUD_EVENTS: &str = "application/cloudevents-batch+json";

/// One event of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SentEvent {
    pub(crate) content_type: Option<String>,
    pub(crate) body: Bytes,
}

/// The events of a request.
///
/// # Errors
/// 422 if the body is not a valid form or a valid list of events.
pub(crate) fn events(hook: &Hook, headers: &HeaderMap, body: Vec<u8>) -> Result<Vec<SentEvent>, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let media_type = media_type(content_type.as_deref().unwrap_or_default());
    match hook.provider.as_ref().map_or(SenderForm::Event, |provider| provider.profile.form) {
        SenderForm::EventOrForm if media_type == FORM => Ok(vec![of_form(&body)?]),
        SenderForm::Events if without_byte_order_mark(&body).trim_ascii_start().starts_with(b"[") => {
            let of_each = if media_type == CLOUD_EVENTS { CLOUD_EVENT } else { JSON };
            list(&body, of_each)
        }
        SenderForm::Event | SenderForm::EventOrForm | SenderForm::Events => {
            Ok(vec![SentEvent { content_type, body: body.into() }])
        }
    }
}

/// Whether the body of a request is a form.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type(content_type.unwrap_or_default()) == FORM
}

/// The media type of a content type, without parameters and in lower case.
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The event in a form. The data is the field `payload` if the field is JSON, else one object with all fields.
fn of_form(body: &[u8]) -> Result<SentEvent, Problem> {
    let fields = std::str::from_utf8(body).ok().and_then(query::fields);
    let fields = fields.ok_or_else(|| Problem::unpublishable("the form must be percent-encoded UTF-8"))?;
    let payload = fields.iter().find(|(name, _)| name == "payload").map(|(_, payload)| payload);
    let body = match payload.filter(|payload| serde_json::from_str::<&RawValue>(payload).is_ok()) {
        Some(payload) => payload.clone(),
        None => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, value.into())).collect::<Map<String, Value>>())
                .to_string()
        }
    };
    Ok(SentEvent { content_type: Some(JSON.to_owned()), body: body.into() })
}

/// The events in a list. Each event keeps the bytes of its element.
fn list(body: &[u8], content_type: &str) -> Result<Vec<SentEvent>, Problem> {
    let events: Vec<Box<RawValue>> = serde_json::from_slice(without_byte_order_mark(body))
        .map_err(|error| Problem::unpublishable(format!("the list of events is not valid JSON: {error}")))?;
    if events.is_empty() || events.len() > EVENTS_MAX {
        let problem = format!("the list has {} events, but must have 1 to {EVENTS_MAX} events", events.len());
        return Err(Problem::unpublishable(problem));
    }
    let one = |event: &RawValue| SentEvent {
        content_type: Some(content_type.to_owned()),
        body: Bytes::copy_from_slice(event.get().as_bytes()),
    };
    Ok(events.iter().map(|event| one(event)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(event: &SentEvent) -> &str {
        std::str::from_utf8(&event.body).expect("UTF-8")
    }

    #[test]
    fn forms_become_json() {
        for (form, expected) in [
            ("payload=%7B%22action%22%3A+%22opened%22%7D&x=1", "{\"action\": \"opened\"}"),
            ("command=%2Fdeploy&text=a+b", "{\"command\":\"/deploy\",\"text\":\"a b\"}"),
            ("payload=no-json", "{\"payload\":\"no-json\"}"),
            ("", "{}"),
        ] {
            let event = of_form(form.as_bytes()).expect("a form");
            assert_eq!((text(&event), event.content_type.as_deref()), (expected, Some(JSON)), "{form}");
        }
        for bad in [&b"a=%f"[..], b"a=%ff", &[0xff]] {
            assert!(of_form(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lists_become_events() {
        let events = list(b" [{\"id\": 1},\n{ \"id\": 2 }]", CLOUD_EVENT).expect("a list");
        assert_eq!(events.iter().map(text).collect::<Vec<_>>(), ["{\"id\": 1}", "{ \"id\": 2 }"]);
        assert_eq!(events[0].content_type.as_deref(), Some(CLOUD_EVENT));
        assert_eq!(list("\u{feff}[1]".as_bytes(), JSON).map(|events| events.len()), Ok(1));
        for bad in ["[]", "[1", "[1,]"] {
            assert!(list(bad.as_bytes(), JSON).is_err(), "{bad}");
        }
        assert_eq!(media_type("Application/JSON; charset=utf-8"), JSON);
    }
}
