//! Sends replies over the HTTP API of a WhatsApp sender, and emits `whatsapp.message.sent` for the plugin that keeps the
//! conversation.
//!
//! Config `api` names the sender: `wasender` (the default), `evolution` or `meta`. Config `origin` is the origin of the
//! API. The secret `SENDER_API_KEY` is the API key or the access token. The WhatsApp number is the event's tenant, else
//! config `instance`.
//!
//! Each event costs one request, so that `rate` of the route limits the requests. The first file of a reply carries the
//! text. The rest of the reply becomes another event with the key `agent.reply`.
//!
//! A reply is sent once: its id is kept, and a repeat only emits the events again. A crash between the sender's answer
//! and the write of the id can send a reply twice. The request has an `idempotency-key`, by which a sender can recognise
//! the second request.

mod api;
mod evolution;
mod meta;
mod part;
mod settings;
mod wasender;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline_plugin::http::Error;
use trunkline_plugin::json::{from_slice, to_vec};
use trunkline_plugin::{Emission, Event, Failure, config, handler, kv, log};
use whatsapp_messages::{Reply, Sent, time};

use api::Api;
use part::Part;

/// Seconds for each step of a request, unless config `timeout-s` says otherwise.
const TIMEOUT_S: f64 = 15.0;
/// Replies of one contact that are remembered.
const SENT_MAX: usize = 50;

/// The state of a contact: the last replies, oldest first.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    sent: Vec<Note>,
}

/// One reply that the sender accepted.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Note {
    id: String,
    provider: Option<String>,
    timestamp: String,
}

/// Emits that the reply was sent, and the rest of the reply.
#[handler(
    description = "Sends each reply once, over the HTTP API of a WhatsApp sender",
    takes = ["agent.reply"],
    emits = ["whatsapp.message.sent", "agent.reply"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let reply: Reply = event.json()?;
    let instance = event.tenant.clone().or_else(|| config::get("instance")).unwrap_or_default();
    let key = format!("contact:{}", reply.contact.remote_jid);
    let (part, rest) = part::first(&reply).map_err(Failure::reject)?;
    let note = match kept(kv::get(&key)?.as_deref())?.sent.into_iter().find(|note| note.id == reply.message_id) {
        Some(note) => {
            log::info(&format!("{} was sent before", reply.message_id));
            note
        }
        None => {
            let provider = send(&event.id, &instance, &part)?;
            let note = Note { id: reply.message_id.clone(), provider, timestamp: time::now() };
            remember(&key, &note)?;
            note
        }
    };
    let sent = Sent {
        instance,
        message_id: reply.message_id.clone(),
        original_message_id: reply.original_message_id.clone(),
        provider_message_id: note.provider,
        text: part.words(),
        timestamp: note.timestamp,
        contact: reply.contact.clone(),
    };
    let subject = &sent.contact.remote_jid;
    let mut emissions = vec![Emission::json("whatsapp.message.sent", &sent)?.subject(subject)];
    if let Some(rest) = rest {
        emissions.push(Emission::json("agent.reply", &rest)?.subject(subject));
    }
    Ok(emissions)
}

/// Sends one message, and gives the sender's id of the message.
fn send(id: &str, instance: &str, part: &Part<'_>) -> Result<Option<String>, Failure> {
    let api = Api::configured()?;
    let timeout = config::number("timeout-s", TIMEOUT_S)?.clamp(0.001, 600.0);
    let request = api.request(instance, part)?;
    let request = request.header("idempotency-key", id).timeout(Duration::from_secs_f64(timeout));
    match request.send() {
        Ok(response) => api.outcome(&response),
        // The sender accepted the message; only its answer is unusable.
        Err(Error::TooLarge) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn kept(bytes: Option<&[u8]>) -> Result<Kept, Failure> {
    let Some(bytes) = bytes else { return Ok(Kept::default()) };
    from_slice(bytes).map_err(|error| Failure::retry(format!("the stored contact: {error}")))
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
