//! The inbox of the WhatsApp agent. A contact's message becomes a task for an agent, with the conversation before it.
//! Sent replies and a colleague's decisions about a contact only change the state.
//!
//! All state of a contact is one document, so that a change and the id of its event are written together. A redelivered
//! event changes nothing and gives the same task.

mod contact;
mod rules;

use serde::Deserialize;
use trunkline_plugin::json::json;
use trunkline_plugin::{Emission, Event, Failure, config, handler, log};
use whatsapp_messages::{Context, Line, Metadata, Received, Role, Sent, Task};

use contact::{Kept, Seen};

/// Attempts after the first one, as a task states them; config `max-retries`.
const RETRIES: f64 = 3.0;

/// The data of `whatsapp.contact.ai`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Command {
    contact: Addressee,
    /// Whether an agent answers this contact.
    enabled: bool,
    /// Notes for the agent. null removes them, and an absent field keeps them.
    #[serde(default, deserialize_with = "given")]
    user_notes: Option<Option<String>>,
}

/// The contact of a command.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Addressee {
    remote_jid: String,
}

/// Tells a null from an absent field.
fn given<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(value).map(Some)
}

/// Emits one task for each text of a contact, unless a colleague has taken the contact over.
#[handler(
    description = "Makes tasks for an agent out of WhatsApp messages, and keeps the conversation",
    takes = ["whatsapp.message.received", "whatsapp.message.sent", "whatsapp.contact.ai"],
    emits = ["agent.task"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    match event.routing_key.as_str() {
        "whatsapp.message.received" => received(&event),
        "whatsapp.message.sent" => sent(&event),
        "whatsapp.contact.ai" => command(&event),
        other => Err(Failure::reject(format!("the key {other:?} is unknown"))),
    }
}

/// Adds the line, and gives the task if an agent answers this contact.
fn received(event: &Event) -> Result<Vec<Emission>, Failure> {
    let received: Received = event.json()?;
    let id = received.message.message_id.clone();
    let line =
        Line { role: Role::User, text: received.message.text.clone(), timestamp: received.message.timestamp.clone() };
    let (kept, seen) = contact::change(&received.contact.remote_jid, &id, &event.id, |kept| {
        kept.first_seen.get_or_insert_with(|| line.timestamp.clone());
        kept.messages += 1;
        kept.say(&id, line.clone());
    })?;
    if seen == Seen::FromAnother {
        log::info(&format!("message {id} was handled before"));
        return Ok(Vec::new());
    }
    if !kept.ai_enabled {
        return Ok(Vec::new());
    }
    let task = task(event, received, &kept)?;
    let level = task.metadata.priority.level();
    let subject = task.contact.remote_jid.clone();
    Ok(vec![Emission::json("agent.task", &task)?.priority(level).dedupe_key(id).subject(subject)])
}

fn task(event: &Event, received: Received, kept: &Kept) -> Result<Task, Failure> {
    let Received { instance, contact, message } = received;
    let (task_type, priority) = rules::judge(&message.text);
    let retries = config::number("max-retries", RETRIES)?;
    Ok(Task {
        message_id: format!("task-{}", message.message_id),
        timestamp: event.time.clone().unwrap_or_else(|| message.timestamp.clone()),
        task_type,
        contact,
        context: Context {
            conversation_history: kept.before(&message.message_id),
            user_notes: kept.user_notes.clone(),
            session_data: json!({ "instance": instance, "firstSeen": kept.first_seen, "messages": kept.messages }),
        },
        metadata: Metadata { priority, retry_count: 0, max_retries: retries.clamp(0.0, 100.0) as u32 },
        message,
    })
}

fn sent(event: &Event) -> Result<Vec<Emission>, Failure> {
    let sent: Sent = event.json()?;
    contact::change(&sent.contact.remote_jid, &sent.message_id, &event.id, |kept| {
        let line = Line { role: Role::Assistant, text: sent.text.clone(), timestamp: sent.timestamp.clone() };
        kept.say(&sent.message_id, line);
    })?;
    Ok(Vec::new())
}

fn command(event: &Event) -> Result<Vec<Emission>, Failure> {
    let command: Command = event.json()?;
    contact::change(&command.contact.remote_jid, &format!("command {}", event.id), &event.id, |kept| {
        kept.ai_enabled = command.enabled;
        if let Some(notes) = &command.user_notes {
            kept.user_notes.clone_from(notes);
        }
    })?;
    Ok(Vec::new())
}

#[cfg(test)]
mod tests;
