//! What is known of each call goes into the history of its contact, and the CRM hears of it.
//!
//! Only `call.started` names the numbers; the other events name the call. So two things are kept for each organisation:
//! lately seen calls with all that is known of them, and the contacts with their last calls. Events of a call may come in
//! any order, over several queues: each of them fills in its own fields, and what came before the number was known is
//! handed on when it is.

mod call;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use trunkline_plugin::document::Document;
use trunkline_plugin::{Emission, Event, Failure, config, handler};

use call::{Call, Contact};

/// With `CALLS_MAX` about 16 000 calls at a time: longer than a call and its analysis take.
const SHARDS: u64 = 256;
const CALLS_MAX: usize = 64;
/// A shard and a contact see few events; their ids are kept for as long as a repetition is likely.
const IDS: usize = 128;
const ANSWERS: usize = 32;
/// Calls of a contact that are kept, unless config `history` says otherwise.
const HISTORY: f64 = 20.0;
const HISTORY_MAX: f64 = 500.0;

/// A call on its way to its contact.
#[derive(Serialize, Deserialize, Default, Clone)]
struct Open {
    contact: Option<String>,
    call: Call,
}

/// A contact and the call that changed.
#[derive(Serialize, Deserialize)]
struct Change {
    calls_total: u64,
    call: Call,
    recent_calls: VecDeque<Call>,
}

#[derive(Serialize)]
struct Updated<'a> {
    /// E.164.
    contact: &'a str,
    #[serde(flatten)]
    change: Change,
    organization_id: Option<&'a str>,
}

/// One update of the contact, or none while the number is not known.
#[handler(
    description = "Keeps the call history of each contact",
    takes = ["call.started", "call.ended", "call.transcribed", "sentiment.analyzed"],
    emits = ["crm.contact.updated"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let open = call::read(&event)?;
    let history = history()?;
    let calls: Document<VecDeque<Open>> = Document::sharded("calls", &open.call.call_id, SHARDS).remember(IDS, ANSWERS);
    let merged = calls.apply(&event.id, |calls| Ok(merge(calls, &open)))?;
    let Some(Open { contact: Some(contact), call }) = merged.answer() else { return Ok(Vec::new()) };
    let document: Document<Contact> = Document::new(format!("contact/{contact}")).remember(IDS, ANSWERS);
    let changed = document.apply(&event.id, |contact| {
        let call = contact.put(&call, history);
        Ok(Change { calls_total: contact.calls_total, call, recent_calls: contact.calls.clone() })
    })?;
    let Some(change) = changed.answer() else { return Ok(Vec::new()) };
    let updated = Updated { contact: &contact, change, organization_id: event.tenant.as_deref() };
    Ok(vec![Emission::json("crm.contact.updated", &updated)?.subject(contact.as_str())])
}

fn history() -> Result<usize, Failure> {
    let history = config::number("history", HISTORY)?;
    if !(1.0..=HISTORY_MAX).contains(&history) || history.fract() != 0.0 {
        return Err(Failure::retry("config \"history\" is no whole number from 1 to 500"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number from 1 to 500")]
    Ok(history as usize)
}

/// Everything that is known of a call now.
fn merge(calls: &mut VecDeque<Open>, new: &Open) -> Open {
    let at = calls.iter().position(|known| known.call.call_id == new.call.call_id).unwrap_or_else(|| {
        calls.push_back(Open::default());
        calls.drain(..calls.len().saturating_sub(CALLS_MAX));
        calls.len() - 1
    });
    let known = &mut calls[at];
    known.call.merge(&new.call);
    if new.contact.is_some() {
        known.contact.clone_from(&new.contact);
    }
    known.clone()
}

#[cfg(test)]
mod tests;
