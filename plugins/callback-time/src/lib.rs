//! Gives a call-back task its time: a fixed delay after the request, within business hours. `planning.task.updated`
//! announces the time at once, and `planning.task.due` is delivered at that time.
//!
//! The latest suggestions of each organisation are kept. A task that is published again has another time, and must not
//! get a second call back.

mod hours;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline_plugin::document::Document;
use trunkline_plugin::time::{Offset, Timestamp};
use trunkline_plugin::{Emission, Event, Failure, config, handler};

use hours::Hours;

/// The delay between the task and the call; config `after`.
const AFTER: Duration = Duration::from_secs(2 * 3600);
/// Together with a week of closed days this stays below the 30 days that an emission can be delayed.
const AFTER_MAX: Duration = Duration::from_secs(20 * 24 * 3600);
/// `SHARDS` times `IDS`: about the last 16 000 suggestions are kept.
const SHARDS: u64 = 64;
const IDS: usize = 256;
/// Suggested times are rounded up to this; config `round`.
const ROUND: Duration = Duration::from_secs(300);

/// The data of `planning.task.created`. The task's id is the event's id.
#[derive(Deserialize)]
struct Task {
    #[serde(default)]
    title: String,
    #[serde(default)]
    source: Source,
}

#[derive(Deserialize, Default)]
struct Source {
    call_id: Option<String>,
}

#[derive(Serialize)]
struct Updated<'a> {
    task_id: &'a str,
    call_id: &'a str,
    title: &'a str,
    /// RFC 3339, UTC.
    call_back_at: String,
    /// The same instant in the offset of the business hours.
    call_back_at_local: String,
    organization_id: Option<&'a str>,
    user_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Due<'a> {
    task_id: &'a str,
    call_id: &'a str,
    title: &'a str,
    due_at: String,
    organization_id: Option<&'a str>,
    user_id: Option<&'a str>,
}

/// Emits the suggestion at once and the due task at its time. Emits nothing for a task without a call.
#[handler(
    description = "Suggests a time to call back, and emits an event at that time",
    takes = ["planning.task.created"],
    emits = ["planning.task.updated", "planning.task.due"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let task: Task = event.json()?;
    let Some(call_id) = task.source.call_id.as_deref() else { return Ok(Vec::new()) };
    let asked = event.time.as_deref().and_then(Timestamp::parse);
    let asked = asked.ok_or_else(|| Failure::reject(format!("{}: the event has no time in RFC 3339", event.kind)))?;
    let (at, offset) = suggest(asked)?;
    // All ids are kept together with their answers, so no answer is removed before its id.
    let suggested: Document<()> = Document::sharded("suggested", &event.id, SHARDS).remember(IDS, IDS);
    let Some(at) = suggested.apply(&event.id, |()| Ok(at.millis()))?.answer().map(Timestamp::from_millis) else {
        return Ok(Vec::new());
    };
    let (organization_id, user_id) = (event.tenant.as_deref(), event.user.as_deref());
    let title = task.title.as_str();
    let updated = Updated {
        task_id: &event.id,
        call_id,
        title,
        call_back_at: at.to_string(),
        call_back_at_local: at.at(offset),
        organization_id,
        user_id,
    };
    let due = Due { task_id: &event.id, call_id, title, due_at: at.to_string(), organization_id, user_id };
    // A time in the past gives no delay.
    let wait = at.since(Timestamp::now());
    Ok(vec![
        Emission::json("planning.task.updated", &updated)?.subject(call_id),
        Emission::json("planning.task.due", &due)?.subject(call_id).deliver_after(wait),
    ])
}

fn suggest(asked: Timestamp) -> Result<(Timestamp, Offset), Failure> {
    let after = config::duration("after", AFTER)?;
    if after > AFTER_MAX {
        return Err(Failure::retry("config \"after\" is longer than 20d"));
    }
    let round = config::duration("round", ROUND)?;
    let hours = Hours::from_config()?;
    Ok((hours.first_at_or_after(asked.plus(after).rounded_up(round)), hours.offset))
}

#[cfg(test)]
mod tests;
