//! Meta's Cloud API: `POST /VERSION/PHONE_NUMBER_ID/messages`. Config `graph-version` is the version of the Graph API.

use trunkline_plugin::http::Request;
use trunkline_plugin::json::{Value, json};
use trunkline_plugin::{Failure, config};
use whatsapp_messages::Media;

use crate::part::Part;
use crate::settings::{address, segment, with_bearer};

const VERSION: &str = "v23.0";

/// Codes of passing errors: an outage, and the limits of the app, the account, the number and the contact. Meta answers
/// some of these errors with status 400.
const PASSING: [u64; 6] = [2, 4, 80_007, 130_429, 131_016, 131_056];

/// The request for a message.
pub(crate) fn request(phone_number_id: &str, part: &Part<'_>) -> Result<Request, Failure> {
    let version = config::get("graph-version").unwrap_or_else(|| VERSION.to_owned());
    let address = address(&format!("/{version}/{}/messages", segment(phone_number_id)?))?;
    let (kind, content) = match part.file {
        None => ("text", json!({ "preview_url": false, "body": part.text })),
        Some(file) => {
            let mut content = json!({ "link": file.url });
            if !part.text.is_empty() {
                content["caption"] = part.text.as_str().into();
            }
            if let (Media::Document, Some(name)) = (file.media, &file.file_name) {
                content["filename"] = name.as_str().into();
            }
            (file.media.as_str(), content)
        }
    };
    let mut body = json!({
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        // Meta gives no hidden numbers.
        "to": part.number().split('@').next(),
        "type": kind,
        "context": { "message_id": part.answers },
    });
    body[kind] = content;
    Ok(with_bearer(Request::post(&address).json(&body)?))
}

/// WhatsApp's id of the message.
pub(crate) fn id(body: &Value) -> Option<String> {
    body["messages"][0]["id"].as_str().map(str::to_owned)
}

/// Whether an error passes without a change of the message.
pub(crate) fn is_passing(body: &Value) -> bool {
    let error = &body["error"];
    error["is_transient"] == true || error["code"].as_u64().is_some_and(|code| PASSING.contains(&code))
}
