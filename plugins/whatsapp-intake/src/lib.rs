//! The inbox of the WhatsApp agent. A message of a contact becomes a task for an agent, with what was said before; what
//! was sent, and what a colleague decides about a contact, only change what is kept.
//!
//! Everything about a contact is one document, so that a change and the memory of whose change it was are written
//! together: an event that comes again changes nothing, and gives the same task.

mod contact;
mod rules;
mod webhook;

use serde::Deserialize;
use trunkline_plugin::json::{Value, json};
use trunkline_plugin::{Emission, Event, Failure, config, handler, log};
use whatsapp_messages::{Contact, Context, Line, Metadata, Role, Sent, Task, Text, time};

use contact::{Kept, Seen};
use webhook::Incoming;

/// Attempts beyond the first that a task speaks of, unless config `max-retries` says otherwise.
const RETRIES: f64 = 3.0;

/// `whatsapp.contact.ai`
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Command {
    remote_jid: String,
    /// Whether an agent answers this contact.
    enabled: bool,
    /// What the agent should know; null forgets, absent keeps.
    #[serde(default, deserialize_with = "given")]
    user_notes: Option<Option<String>>,
}

/// Tells null from absent.
fn given<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(value).map(Some)
}

/// A task for every text of a contact, unless a colleague has taken the contact over.
#[handler(
    description = "Makes tasks for an agent out of WhatsApp messages, and keeps what was said",
    takes = ["whatsapp.message.received", "whatsapp.message.sent", "whatsapp.contact.ai"],
    emits = ["agent.task"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    match event.routing_key.as_str() {
        "whatsapp.message.received" => received(&event),
        "whatsapp.message.sent" => sent(&event),
        "whatsapp.contact.ai" => command(&event),
        other => Err(Failure::reject(format!("nothing is known of the key {other:?}"))),
    }
}

fn received(event: &Event) -> Result<Vec<Emission>, Failure> {
    let body: Value = event.json()?;
    let instance = body["instance"].as_str().unwrap_or_default();
    let mut tasks = Vec::new();
    for message in webhook::messages(&body).map_err(Failure::reject)? {
        if let Some(incoming) = webhook::incoming(message).map_err(Failure::reject)? {
            tasks.extend(answer(event, instance, incoming)?);
        }
    }
    Ok(tasks)
}

/// Keeps what was said, and makes the task if an agent is to answer.
fn answer(event: &Event, instance: &str, incoming: Incoming) -> Result<Option<Emission>, Failure> {
    let line = Line { role: Role::User, text: incoming.text.clone(), timestamp: time::rfc3339(incoming.seconds) };
    let (kept, seen) = contact::change(&incoming.remote_jid, &incoming.id, &event.id, |kept| {
        kept.first_seen.get_or_insert_with(|| line.timestamp.clone());
        kept.messages += 1;
        kept.say(&incoming.id, line.clone());
    })?;
    if seen == Seen::FromAnother {
        log::info(&format!("message {} came before", incoming.id));
        return Ok(None);
    }
    if !kept.ai_enabled {
        return Ok(None);
    }
    let id = incoming.id.clone();
    let task = task(event, instance, incoming, line, &kept)?;
    let level = task.metadata.priority.level();
    let subject = task.contact.remote_jid.clone();
    Ok(Some(Emission::json("agent.task", &task)?.priority(level).dedupe_key(id).subject(subject)))
}

fn task(event: &Event, instance: &str, incoming: Incoming, line: Line, kept: &Kept) -> Result<Task, Failure> {
    let (task_type, priority) = rules::judge(&incoming.text);
    let retries = config::number("max-retries", RETRIES)?;
    Ok(Task {
        message_id: format!("task-{}", incoming.id),
        timestamp: event.time.clone().unwrap_or_else(|| line.timestamp.clone()),
        task_type,
        message: Text { text: incoming.text, message_id: incoming.id.clone(), timestamp: line.timestamp },
        context: Context {
            conversation_history: kept.before(&incoming.id),
            user_notes: kept.user_notes.clone(),
            session_data: json!({ "instance": instance, "firstSeen": kept.first_seen, "messages": kept.messages }),
        },
        metadata: Metadata { priority, retry_count: 0, max_retries: retries.clamp(0.0, 100.0) as u32 },
        contact: Contact {
            country_code: incoming.phone_number.as_deref().and_then(webhook::country_code),
            remote_jid: incoming.remote_jid,
            phone_number: incoming.phone_number,
            name: incoming.name,
        },
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
    contact::change(&command.remote_jid, &format!("command {}", event.id), &event.id, |kept| {
        kept.ai_enabled = command.enabled;
        if let Some(notes) = &command.user_notes {
            kept.user_notes.clone_from(notes);
        }
    })?;
    Ok(Vec::new())
}

#[cfg(test)]
mod tests;
