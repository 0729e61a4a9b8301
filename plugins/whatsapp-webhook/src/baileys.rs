//! The webhooks of WaSender and Evolution API: `{event, instance, data}`. `data` is one message in the form of Baileys,
//! a list of messages, or `{messages}` with a message or a list.
//!
//! WaSender has no `instance`, so config `instance` names the number. WaSender's `messageBody` and `cleanedSenderPn` are
//! used where the fields of Baileys are missing.

use trunkline_plugin::config;
use trunkline_plugin::json::Value;
use whatsapp_messages::phone;

use super::Incoming;

/// The events that report messages of contacts.
const MESSAGES: [&str; 3] = ["messages.upsert", "messages.received", "messages-personal.received"];
/// A larger time is in milliseconds.
const SECONDS_MAX: u64 = 99_999_999_999;

/// The fields that contain the content of a message one level deeper.
const WRAPPERS: [&str; 5] = [
    "ephemeralMessage",
    "documentWithCaptionMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
];
/// Highest number of wrappers around a content, such as a document in a disappearing message.
const WRAPPERS_MAX: usize = 3;

/// The texts of contacts in a body.
///
/// # Errors
/// A sentence that names the wrong field.
pub(crate) fn texts(body: &Value) -> Result<Vec<Incoming>, String> {
    if body["event"].as_str().is_some_and(|event| !reports_messages(event)) {
        return Ok(Vec::new());
    }
    let instance = body["instance"].as_str().map(str::to_owned).or_else(|| config::get("instance"));
    let instance = instance.filter(|instance| !instance.is_empty());
    let instance = instance.ok_or("`instance` is missing or not a string, and config \"instance\" is not set")?;
    let mut found = Vec::new();
    for message in messages(&body["data"])? {
        found.extend(incoming(&instance, message, &body["timestamp"])?);
    }
    Ok(found)
}

/// Some versions of Evolution API write `MESSAGES_UPSERT`.
fn reports_messages(event: &str) -> bool {
    MESSAGES.contains(&event.to_lowercase().replace('_', ".").as_str())
}

fn messages(data: &Value) -> Result<Vec<&Value>, String> {
    let inner = &data["messages"];
    let data = if inner.is_null() { data } else { inner };
    match data.as_array() {
        Some(list) => Ok(list.iter().collect()),
        None if data.is_object() => Ok(vec![data]),
        None => Err("`data` is neither a message nor a list of messages".to_owned()),
    }
}

/// A text of a contact. `None` for the account's own messages, groups, statuses and messages without text.
fn incoming(instance: &str, message: &Value, sent_at: &Value) -> Result<Option<Incoming>, String> {
    let key = &message["key"];
    let text_of = |name: &str| {
        let text = key[name].as_str().filter(|text| !text.is_empty());
        text.ok_or_else(|| format!("`key.{name}` is missing or not a string"))
    };
    let (jid, id) = (text_of("remoteJid")?, text_of("id")?);
    if key["fromMe"].as_bool().unwrap_or_default() {
        return Ok(None);
    }
    let Some((remote_jid, phone_number)) = person(jid, key) else { return Ok(None) };
    let Some(text) = words(message) else { return Ok(None) };
    let given = &message["messageTimestamp"];
    let seconds = if given.is_null() {
        seconds(sent_at)
    } else {
        Some(seconds(given).ok_or("`messageTimestamp` is not a number")?)
    };
    let name = message["pushName"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    let (instance, id) = (instance.to_owned(), id.to_owned());
    Ok(Some(Incoming { instance, remote_jid, phone_number, name, id, text, seconds }))
}

/// The address and the number of the sender, if it is a person. The device (`:12`) is left out, because all devices of
/// a person are one contact. A hidden number (`@lid`) has its real number in another field, or none.
fn person(jid: &str, key: &Value) -> Option<(String, Option<String>)> {
    let (user, server) = jid.split_once('@')?;
    let user = user.split(':').next().unwrap_or(user);
    match server {
        "s.whatsapp.net" | "c.us" => Some((format!("{user}@s.whatsapp.net"), Some(phone::e164(user)?))),
        "lid" => {
            let fields = ["remoteJidAlt", "senderPn", "cleanedSenderPn"];
            let given = fields.iter().find_map(|field| key[field].as_str()?.split(['@', ':']).next());
            Some((format!("{user}@lid"), given.and_then(phone::e164)))
        }
        _ => None,
    }
}

/// The text of a message, or the caption of a file.
fn words(message: &Value) -> Option<String> {
    let mut content = &message["message"];
    for _ in 0..WRAPPERS_MAX {
        let inner = WRAPPERS.iter().find_map(move |name| content.get(*name)?.get("message"));
        let Some(inner) = inner else { break };
        content = inner;
    }
    let places = [
        "/conversation",
        "/extendedTextMessage/text",
        "/imageMessage/caption",
        "/documentMessage/caption",
        "/videoMessage/caption",
    ];
    let text = places.iter().find_map(|place| content.pointer(place)?.as_str());
    let text = text.or_else(|| message["messageBody"].as_str())?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A number, a number as text, or protobuf's two halves of a number.
fn seconds(value: &Value) -> Option<u64> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok()).or_else(|| value["low"].as_u64())?;
    Some(if number > SECONDS_MAX { number / 1000 } else { number })
}
