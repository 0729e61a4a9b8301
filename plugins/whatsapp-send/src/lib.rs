//! Sends replies over a WhatsApp gateway: `POST` of `{number, text, attachments, quoted}` to config `url`, in which
//! `{instance}` is the event's tenant or else config `instance`, with the secret `SENDER_API_KEY` as header `apikey`. Then it
//! says so: `whatsapp.message.sent`, from which whoever keeps the conversation learns it.
//!
//! A reply is sent once: what was sent is kept with its id, and a repetition only says so again. Between the gateway's
//! answer and that note a crash can still send it twice; the gateway can tell by `idempotency-key`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline_plugin::http::{Error, Request, Response};
use trunkline_plugin::json::{Value, from_slice, json, to_vec};
use trunkline_plugin::{Emission, Event, Failure, config, handler, kv, log};
use whatsapp_messages::{Reply, Sent, time};

/// Seconds for each step of a request, unless config `timeout-s` says otherwise.
const TIMEOUT_S: f64 = 15.0;
/// Replies that are remembered of a contact.
const SENT_MAX: usize = 50;

/// What is kept of a contact: the last replies, the oldest first.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    sent: Vec<Note>,
}

/// One reply that the gateway took.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Note {
    id: String,
    provider: Option<String>,
    timestamp: String,
}

/// Says that the reply was sent.
#[handler(
    description = "Sends replies over a WhatsApp gateway's HTTP API, each once",
    takes = ["agent.reply"],
    emits = ["whatsapp.message.sent"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let reply: Reply = event.json()?;
    let instance = event.tenant.clone().or_else(|| config::get("instance")).unwrap_or_default();
    let key = format!("contact:{}", reply.contact.remote_jid);
    let note = match kept(kv::get(&key)?.as_deref())?.sent.into_iter().find(|note| note.id == reply.message_id) {
        Some(note) => {
            log::info(&format!("{} was sent before", reply.message_id));
            note
        }
        None => {
            let response = send(&event.id, &instance, &reply)?;
            let note = Note { id: reply.message_id.clone(), provider: provider_id(&response), timestamp: time::now() };
            remember(&key, &note)?;
            note
        }
    };
    let sent = Sent {
        instance,
        message_id: reply.message_id,
        original_message_id: reply.original_message_id,
        provider_message_id: note.provider,
        text: reply.response.text,
        timestamp: note.timestamp,
        contact: reply.contact,
    };
    Ok(vec![Emission::json("whatsapp.message.sent", &sent)?.subject(sent.contact.remote_jid.clone())])
}

/// The gateway's answer with status 2xx.
fn send(id: &str, instance: &str, reply: &Reply) -> Result<Response, Failure> {
    let url = address(instance)?;
    // Whose number is hidden is written to by the address that WhatsApp gave instead.
    let number = reply.contact.phone_number.as_deref().map(|number| number.trim_start_matches('+'));
    let timeout = config::number("timeout-s", TIMEOUT_S)?.clamp(0.001, 600.0);
    let mut request = Request::post(&url)
        .json(&json!({
            "number": number.unwrap_or(&reply.contact.remote_jid),
            "text": reply.response.text,
            "attachments": reply.response.attachments,
            "quoted": { "key": { "id": reply.original_message_id } },
        }))?
        .header("idempotency-key", id)
        .timeout(Duration::from_secs_f64(timeout));
    if let Some(secret) = config::get("SENDER_API_KEY") {
        request = request.header("apikey", &secret);
    }
    match request.send() {
        Ok(response) => response.ok(),
        // It was taken; only its answer is of no use.
        Err(Error::TooLarge) => Ok(Response::default()),
        Err(error) => Err(error.into()),
    }
}

fn address(instance: &str) -> Result<String, Failure> {
    let url = config::get("url").ok_or_else(|| Failure::retry("config \"url\" is not set"))?;
    if !url.contains("{instance}") {
        return Ok(url);
    }
    // It comes from a message, and must not change the rest of the address.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if instance.is_empty() || !instance.bytes().all(is_plain) {
        return Err(Failure::reject(format!("{instance:?} is no instance of the gateway")));
    }
    Ok(url.replace("{instance}", instance))
}

/// The gateway's own id of the message: `key.id`, as Baileys has it.
fn provider_id(response: &Response) -> Option<String> {
    let body: Value = from_slice(&response.body).ok()?;
    body["key"]["id"].as_str().map(str::to_owned)
}

fn kept(bytes: Option<&[u8]>) -> Result<Kept, Failure> {
    let Some(bytes) = bytes else { return Ok(Kept::default()) };
    from_slice(bytes).map_err(|error| Failure::retry(format!("what is kept of the contact: {error}")))
}

fn remember(key: &str, note: &Note) -> Result<(), Failure> {
    kv::update(key, |old| {
        let mut kept = kept(old)?;
        if !kept.sent.contains(note) {
            kept.sent.push(note.clone());
        }
        let excess = kept.sent.len().saturating_sub(SENT_MAX);
        kept.sent.drain(..excess);
        to_vec(&kept).map_err(|error| Failure::retry(error.to_string()))
    })?;
    Ok(())
}

#[cfg(test)]
mod tests;
