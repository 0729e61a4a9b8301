//! The body of the webhook, as Evolution API sends it for Baileys' `messages.upsert`: `{instance, data}` where `data` is
//! one message `{key: {remoteJid, fromMe, id}, pushName, message, messageTimestamp}`, a list of them, or
//! `{messages: [...]}`.

use trunkline_plugin::json::Value;

/// A text of a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Incoming {
    pub(crate) remote_jid: String,
    /// E.164.
    pub(crate) phone_number: Option<String>,
    pub(crate) name: Option<String>,
    /// WhatsApp's.
    pub(crate) id: String,
    pub(crate) text: String,
    /// Since the Unix epoch.
    pub(crate) seconds: u64,
}

/// The messages of a body.
pub(crate) fn messages(body: &Value) -> Result<Vec<&Value>, String> {
    if body["instance"].as_str().is_none_or(str::is_empty) {
        return Err("`instance` is missing or no text".to_owned());
    }
    let data = &body["data"];
    match data.as_array().or_else(|| data["messages"].as_array()) {
        Some(list) => Ok(list.iter().collect()),
        None if data.is_object() => Ok(vec![data]),
        None => Err("`data` is no message, and no list of messages".to_owned()),
    }
}

/// A text of a contact; none when it is one of our own, of a group, a status, or no text.
pub(crate) fn incoming(message: &Value) -> Result<Option<Incoming>, String> {
    let key = &message["key"];
    let text_of = |name: &str| {
        let text = key[name].as_str().filter(|text| !text.is_empty());
        text.ok_or_else(|| format!("`key.{name}` is missing or no text"))
    };
    let (jid, id) = (text_of("remoteJid")?, text_of("id")?);
    if key["fromMe"].as_bool().unwrap_or_default() {
        return Ok(None);
    }
    let Some((remote_jid, phone_number)) = person(jid, key) else { return Ok(None) };
    let Some(text) = words(&message["message"]) else { return Ok(None) };
    let seconds = seconds(&message["messageTimestamp"]).ok_or("`messageTimestamp` is missing or no number")?;
    let name = message["pushName"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    Ok(Some(Incoming { remote_jid, phone_number, name, id: id.to_owned(), text, seconds }))
}

/// Who wrote, if it is a person. The device (`:12`) is left out: a contact is one, whatever it writes with. Behind a
/// hidden number (`@lid`) the real one is told beside it, or not at all.
fn person(jid: &str, key: &Value) -> Option<(String, Option<String>)> {
    let (user, server) = jid.split_once('@')?;
    let user = user.split(':').next().unwrap_or(user);
    let number = |digits: &str| {
        let is_number = (5..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
        is_number.then(|| format!("+{digits}"))
    };
    match server {
        "s.whatsapp.net" | "c.us" => Some((format!("{user}@s.whatsapp.net"), Some(number(user)?))),
        "lid" => {
            let told = key["remoteJidAlt"].as_str().or_else(|| key["senderPn"].as_str());
            let told = told.and_then(|jid| jid.split(['@', ':']).next());
            Some((format!("{user}@lid"), told.and_then(number)))
        }
        _ => None,
    }
}

/// The words of a message; disappearing messages have theirs one level deeper.
fn words(message: &Value) -> Option<String> {
    let inner = &message["ephemeralMessage"]["message"];
    let message = if inner.is_null() { message } else { inner };
    let text = message["conversation"].as_str().or_else(|| message["extendedTextMessage"]["text"].as_str())?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A number, a number as text, or protobuf's two halves of one.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).or_else(|| value["low"].as_u64())
}

/// The calling code of a number: one digit for 1 and 7, two for those that are listed, else three.
pub(crate) fn country_code(phone_number: &str) -> Option<String> {
    const TWO: [&str; 44] = [
        "20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46", "47", "48", "49",
        "51", "52", "53", "54", "55", "56", "57", "58", "60", "61", "62", "63", "64", "65", "66", "81", "82", "84",
        "86", "90", "91", "92", "93", "94", "95", "98",
    ];
    let digits = phone_number.strip_prefix('+')?;
    let length = match digits.get(..2)? {
        two if two.starts_with(['1', '7']) => 1,
        two if TWO.contains(&two) => 2,
        _ => 3,
    };
    digits.get(..length).map(|code| format!("+{code}"))
}
