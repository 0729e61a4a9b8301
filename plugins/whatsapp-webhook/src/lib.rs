//! Reads the webhooks of WhatsApp senders, and emits `whatsapp.message.received` for each message of a contact.
//!
//! WaSender and Evolution API report messages in the form of Baileys. Meta's Cloud API reports messages in a form of its
//! own. The plugin recognises the form by the fields of the body. The plugin ignores messages from the account itself,
//! messages in groups and channels, messages without text, and webhooks of other events.

mod baileys;
mod meta;

use std::collections::BTreeSet;

use trunkline_plugin::json::Value;
use trunkline_plugin::time::Timestamp;
use trunkline_plugin::{Emission, Event, Failure, handler};
use whatsapp_messages::{Contact, Received, Text, phone, time};

/// A text of a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Incoming {
    /// The WhatsApp number that received the message.
    instance: String,
    remote_jid: String,
    /// E.164.
    phone_number: Option<String>,
    name: Option<String>,
    /// WhatsApp's id of the message.
    id: String,
    text: String,
    /// Seconds since the Unix epoch. `None` if the webhook has no time.
    seconds: Option<u64>,
}

/// Emits one event for each text of a contact.
#[handler(
    description = "Reads the webhooks of WhatsApp senders, and emits one event for each message of a contact",
    takes = ["whatsapp.webhook"],
    emits = ["whatsapp.message.received"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let body: Value = event.json()?;
    let found = if meta::is_from_meta(&body) { meta::texts(&body) } else { baileys::texts(&body) };
    let (mut seen, mut emissions) = (BTreeSet::new(), Vec::new());
    for incoming in found.map_err(Failure::reject)? {
        // A list may contain the same message twice.
        if seen.insert((incoming.remote_jid.clone(), incoming.id.clone())) {
            emissions.push(received(&event, incoming)?);
        }
    }
    Ok(emissions)
}

fn received(event: &Event, incoming: Incoming) -> Result<Emission, Failure> {
    let seconds = incoming.seconds.unwrap_or_else(|| arrival(event));
    let received = Received {
        instance: incoming.instance,
        contact: Contact {
            country_code: incoming.phone_number.as_deref().and_then(phone::country_code),
            remote_jid: incoming.remote_jid,
            phone_number: incoming.phone_number,
            name: incoming.name,
        },
        message: Text { text: incoming.text, message_id: incoming.id, timestamp: time::rfc3339(seconds) },
    };
    let emission = Emission::json("whatsapp.message.received", &received)?;
    // The ids of WhatsApp belong to a conversation.
    let dedupe_key = format!("{} {}", received.contact.remote_jid, received.message.message_id);
    Ok(emission.dedupe_key(dedupe_key).subject(received.contact.remote_jid))
}

/// The time of the webhook itself, in seconds since the Unix epoch.
fn arrival(event: &Event) -> u64 {
    let time = event.time.as_deref().and_then(Timestamp::parse).unwrap_or_else(Timestamp::now);
    u64::try_from(time.millis() / 1000).unwrap_or_default()
}

#[cfg(test)]
mod tests;
