//! Evolution API: `POST /message/sendText/INSTANCE` and `/message/sendMedia/INSTANCE`, with the header `apikey`.

use trunkline_plugin::http::Request;
use trunkline_plugin::json::{Value, json};
use trunkline_plugin::{Failure, config};

use crate::part::Part;
use crate::settings::{address, segment};

/// The request for a message.
pub(crate) fn request(instance: &str, part: &Part<'_>) -> Result<Request, Failure> {
    let instance = segment(instance)?;
    let mut body = json!({
        "number": part.number().trim_start_matches('+'),
        "quoted": { "key": { "id": part.answers } },
    });
    let path = match part.file {
        None => {
            body["text"] = part.text.as_str().into();
            format!("/message/sendText/{instance}")
        }
        Some(file) => {
            body["mediatype"] = file.media.as_str().into();
            body["media"] = file.url.as_str().into();
            let caption = Some(&part.text).filter(|text| !text.is_empty());
            for (field, value) in
                [("caption", caption), ("fileName", file.file_name.as_ref()), ("mimetype", file.mime_type.as_ref())]
            {
                if let Some(value) = value {
                    body[field] = value.as_str().into();
                }
            }
            format!("/message/sendMedia/{instance}")
        }
    };
    let request = Request::post(&address(&path)?).json(&body)?;
    Ok(match config::get("SENDER_API_KEY") {
        Some(key) => request.header("apikey", &key),
        None => request,
    })
}

/// WhatsApp's id of the message.
pub(crate) fn id(body: &Value) -> Option<String> {
    body["key"]["id"].as_str().map(str::to_owned)
}
