//! Collects the events of a call into the history of its contact, and emits an update for the CRM.
//!
//! Only `call.started` has the phone numbers; all other events have only the call's id. The plugin therefore keeps two
//! documents for each organisation: recent calls with their known fields, and contacts with their last calls.
//!
//! The events of a call may arrive in any order, over several queues. Each event fills in its own fields. Fields that
//! arrive before the number are passed on when the number is known.

mod call;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use trunkline_plugin::document::Document;
use trunkline_plugin::{Emission, Event, Failure, config, handler};

use call::{Call, Contact};

/// `SHARDS` times `CALLS_MAX`: about 16 000 calls at a time, more than are in progress or being analysed.
const SHARDS: u64 = 256;
const CALLS_MAX: usize = 64;
/// A shard and a contact see few events, so this many ids cover the time in which repeats are likely.
const IDS: usize = 128;
const ANSWERS: usize = 32;
/// Calls that are kept of a contact; config `history`.
const HISTORY: f64 = 20.0;
const HISTORY_MAX: f64 = 500.0;

/// A call whose contact may not be known yet.
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

/// One update of the contact, or none while the number is unknown.
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
        return Err(Failure::retry("config \"history\" is not a whole number from 1 to 500"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number from 1 to 500")]
    Ok(history as usize)
}

/// Joins the new fields with the known ones.
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
