//! `call.ended` with the outcome `callback_requested` becomes a planning task, due tomorrow.

mod date;

use serde::{Deserialize, Serialize};
use trunkline_plugin::{Emission, Event, Failure, handler};

#[derive(Deserialize)]
struct CallEnded<'a> {
    call_id: &'a str,
    /// Seconds.
    duration: f64,
    outcome: Outcome,
    #[serde(default)]
    transcript: Option<String>,
}

#[derive(Deserialize, PartialEq, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Completed,
    CallbackRequested,
    Voicemail,
    Failed,
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

/// One task, or none when nobody asked for a call.
#[handler(
    description = "Creates a task for every call that asks to be called back",
    takes = ["call.ended"],
    emits = ["planning.task.created"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let call: CallEnded<'_> = event.json()?;
    if !(call.duration.is_finite() && call.duration >= 0.0) {
        return Err(Failure::reject("call.ended: `duration` is below 0"));
    }
    if call.outcome != Outcome::CallbackRequested {
        return Ok(Vec::new());
    }
    // The event's own time and not the clock: a retry tomorrow must give the same task.
    let due_date = date::day_after(event.time.as_deref())
        .ok_or_else(|| Failure::reject("the event has no time, or one that is not RFC 3339"))?;
    let mut description = String::from("The caller asked to be called back.");
    if let Some(transcript) = &call.transcript {
        description.push_str("\n\nTranscript:\n");
        description.push_str(transcript);
    }
    let mut title = String::from("Call back: ");
    title.push_str(call.call_id);
    let task = Task {
        title,
        description,
        priority: "high",
        due_date,
        organization_id: event.tenant.as_deref(),
        user_id: event.user.as_deref(),
        source: Source { event_id: &event.id, call_id: call.call_id },
    };
    Ok(vec![Emission::json("planning.task.created", &task)?.subject(call.call_id)])
}

#[cfg(test)]
mod tests;
