//! `call.ended` with the outcome `callback_requested` becomes a planning task, due tomorrow.
//!
//! The folders callback-task-js, callback-task-python and callback-task-c have the same plugin in other languages. A
//! test compares the answers of all four.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline_plugin::time::Timestamp;
use trunkline_plugin::{Emission, Event, Failure, handler};

const ASKED: &str = "The caller asked to be called back.";

#[derive(Deserialize)]
struct CallEnded<'a> {
    // Borrowed where possible; only a text with escapes is copied.
    #[serde(borrow)]
    call_id: Cow<'a, str>,
    /// Seconds.
    duration: f64,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    #[serde(default)]
    transcript: Option<String>,
}

#[derive(Serialize)]
struct Task<'a> {
    title: String,
    description: String,
    priority: &'static str,
    /// `YYYY-MM-DD`
    due_date: String,
    organization_id: Option<&'a str>,
    user_id: Option<&'a str>,
    source: Source<'a>,
}

#[derive(Serialize)]
struct Source<'a> {
    event_id: &'a str,
    call_id: &'a str,
}

/// One task, or none when no call back was requested.
#[handler(
    description = "Creates a task for every call that asks to be called back",
    takes = ["call.ended"],
    emits = ["planning.task.created"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let reject = |why: &str| Failure::reject(format!("{}: {why}", event.kind));
    // Serde also reads a list of the fields as this struct.
    if !event.data.trim_ascii_start().starts_with(b"{") {
        return Err(reject("the data is not a JSON object"));
    }
    let call: CallEnded<'_> = event.json()?;
    if call.duration < 0.0 {
        return Err(reject("`duration` is below 0"));
    }
    match &*call.outcome {
        "callback_requested" => {}
        "completed" | "voicemail" | "failed" => return Ok(Vec::new()),
        other => return Err(reject(&format!("unknown outcome `{other}`"))),
    }
    // The event's time is used instead of the clock, so that a retry tomorrow gives the same task.
    let due_date = day_after(event.time.as_deref()).ok_or_else(|| reject("the event has no time in RFC 3339"))?;
    let description = match &call.transcript {
        None => ASKED.to_owned(),
        Some(transcript) => [ASKED, "\n\nTranscript:\n", transcript].concat(),
    };
    let task = Task {
        title: ["Call back: ", &call.call_id].concat(),
        description,
        priority: "high",
        due_date,
        organization_id: event.tenant.as_deref(),
        user_id: event.user.as_deref(),
        source: Source { event_id: &event.id, call_id: &call.call_id },
    };
    Ok(vec![Emission::json("planning.task.created", &task)?.subject(call.call_id.clone())])
}

/// `YYYY-MM-DD` of the day after, in the time's own offset.
fn day_after(time: Option<&str>) -> Option<String> {
    let (time, offset) = Timestamp::parse_with_offset(time?)?;
    Some(time.plus(Duration::from_hours(24)).date(offset))
}

#[cfg(test)]
mod tests;
