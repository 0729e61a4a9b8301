//! WaSender: `POST /api/send-message` with `{to, text}`, or with the address of a file beside the text.

use std::time::Duration;

use trunkline_plugin::Failure;
use trunkline_plugin::http::{Request, Response};
use trunkline_plugin::json::{Value, json};
use trunkline_plugin::time::Timestamp;
use whatsapp_messages::Media;

use crate::part::Part;
use crate::settings::{address, with_bearer};

/// The request for a message. WaSender cannot quote a message that a contact wrote.
pub(crate) fn request(part: &Part<'_>) -> Result<Request, Failure> {
    let mut body = json!({ "to": part.number() });
    if !part.text.is_empty() {
        body["text"] = part.text.as_str().into();
    }
    if let Some(file) = part.file {
        let field = match file.media {
            Media::Image => "imageUrl",
            Media::Document => "documentUrl",
            Media::Video => "videoUrl",
        };
        body[field] = file.url.as_str().into();
        if let (Media::Document, Some(name)) = (file.media, &file.file_name) {
            body["fileName"] = name.as_str().into();
        }
    }
    Ok(with_bearer(Request::post(&address("/api/send-message")?).json(&body)?))
}

/// WaSender's id of a message, a number.
pub(crate) fn id(body: &Value) -> Option<String> {
    match &body["data"]["msgId"] {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The wait that WaSender requests: in `retry-after`, in `retry_after` of the body, or as the time of
/// `x-ratelimit-reset` in seconds since 1970.
pub(crate) fn wait(response: &Response, body: &Value) -> Option<Duration> {
    let reset = || {
        let reset_at: i64 = response.header("x-ratelimit-reset")?.trim().parse().ok()?;
        let wait = reset_at.saturating_sub(Timestamp::now().millis() / 1000);
        u64::try_from(wait).ok().map(Duration::from_secs)
    };
    response.retry_after().or_else(|| seconds(&body["retry_after"])).or_else(reset)
}

/// A number of seconds in a field of a body.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    Duration::try_from_secs_f64(seconds).ok()
}
