//! The webhooks of Meta's Cloud API: `{object, entry: [{changes: [{field, value}]}]}`. `value` is `{metadata, contacts,
//! messages}` for messages of contacts, and `{metadata, statuses}` for reports about the account's own messages.

use trunkline_plugin::json::Value;
use whatsapp_messages::phone;

use super::Incoming;

/// Whether Meta's Cloud API sent a body.
pub(crate) fn is_from_meta(body: &Value) -> bool {
    body["object"] == "whatsapp_business_account"
}

/// The texts of contacts in a body.
///
/// # Errors
/// A sentence that names the wrong field.
pub(crate) fn texts(body: &Value) -> Result<Vec<Incoming>, String> {
    let mut found = Vec::new();
    for change in list(&body["entry"]).flat_map(|entry| list(&entry["changes"])) {
        let value = &change["value"];
        for message in list(&value["messages"]).filter(|_| change["field"] == "messages") {
            found.extend(incoming(value, message)?);
        }
    }
    Ok(found)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text of a contact. `None` for messages in groups and for messages without text.
fn incoming(value: &Value, message: &Value) -> Result<Option<Incoming>, String> {
    let text_of = |of: &Value, name: &str| {
        let text = of[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        text.ok_or_else(|| format!("`{name}` is missing or not a string"))
    };
    let (id, from) = (text_of(message, "id")?, text_of(message, "from")?);
    let instance = text_of(&value["metadata"], "phone_number_id")?;
    if !message["group_id"].is_null() {
        return Ok(None);
    }
    let (Some(text), Some(number)) = (words(message), phone::e164(&from)) else { return Ok(None) };
    let profile = list(&value["contacts"]).find(|contact| contact["wa_id"] == from.as_str());
    let name = profile.and_then(|contact| contact["profile"]["name"].as_str()).filter(|name| !name.is_empty());
    Ok(Some(Incoming {
        instance,
        remote_jid: format!("{from}@s.whatsapp.net"),
        phone_number: Some(number),
        name: name.map(str::to_owned),
        id,
        text,
        seconds: message["timestamp"].as_str().and_then(|seconds| seconds.parse().ok()),
    }))
}

/// The text of a message, the chosen button, or the caption of a file.
fn words(message: &Value) -> Option<String> {
    let text = match message["type"].as_str()? {
        "text" => message["text"]["body"].as_str(),
        "button" => message["button"]["text"].as_str(),
        "interactive" => {
            let chosen = &message["interactive"];
            chosen["button_reply"]["title"].as_str().or_else(|| chosen["list_reply"]["title"].as_str())
        }
        kind @ ("image" | "document" | "video") => message[kind]["caption"].as_str(),
        _ => None,
    };
    Some(text?.trim().to_owned()).filter(|text| !text.is_empty())
}
