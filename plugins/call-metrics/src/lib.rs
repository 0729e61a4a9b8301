//! Counts calls, their outcomes and their durations, in total and by day, for each organisation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trunkline_plugin::document::Document;
use trunkline_plugin::time::{Offset, Timestamp};
use trunkline_plugin::{Emission, Event, Failure, config, handler};

/// Days that are kept; older days are in the totals only.
const DAYS_MAX: usize = 90;
const OUTCOMES: [&str; 4] = ["completed", "callback_requested", "voicemail", "failed"];
/// In seconds: longer than any call, and small enough for a sum in milliseconds.
const DURATION_MAX: f64 = 1_000_000.0;

#[derive(Deserialize)]
struct Started {
    #[expect(dead_code, reason = "an event without the field is not an event of a call")]
    call_id: String,
}

#[derive(Deserialize)]
struct Ended {
    call_id: String,
    /// Seconds.
    duration: f64,
    outcome: String,
}

/// The change that one event makes.
enum Change {
    Started,
    Ended { outcome: &'static str, duration_ms: u64 },
}

#[derive(Serialize, Deserialize, Default)]
struct Metrics {
    total: Counts,
    /// By `YYYY-MM-DD`.
    days: BTreeMap<String, Counts>,
}

#[derive(Serialize, Deserialize, Default, Clone)]
struct Counts {
    started: u64,
    ended: u64,
    outcomes: BTreeMap<String, u64>,
    /// Whole milliseconds, because sums of seconds would drift.
    duration_ms: u64,
    duration_max_ms: u64,
}

#[derive(Serialize)]
struct Updated<'a> {
    call_id: &'a str,
    total: Figures,
    date: &'a str,
    day: Figures,
    organization_id: Option<&'a str>,
}

/// Counts for people; durations are in seconds.
#[derive(Serialize)]
struct Figures {
    started: u64,
    ended: u64,
    outcomes: BTreeMap<String, u64>,
    duration_sum: f64,
    duration_average: f64,
    duration_max: f64,
    /// The share of ended calls with the outcome `completed`, 0 to 1.
    completed_share: f64,
}

/// Emits the figures after a call ended, and nothing when a call started.
#[handler(
    description = "Counts calls, their outcomes and durations",
    takes = ["call.started", "call.ended"],
    emits = ["analytics.calls.updated"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let (change, call_id) = read(&event)?;
    let offset = config::parsed("utc-offset", Offset::default(), "not an offset such as +01:00", Offset::parse)?;
    let time = event.time.as_deref().and_then(Timestamp::parse);
    let time = time.ok_or_else(|| Failure::reject(format!("{}: the event has no time in RFC 3339", event.kind)))?;
    let date = time.date(offset);
    let metrics: Document<Metrics> = Document::new("calls");
    let applied = metrics.apply(&event.id, |metrics| Ok(add(metrics, &date, &change)))?;
    let (Some((total, day)), Some(call_id)) = (applied.answer(), call_id) else { return Ok(Vec::new()) };
    let updated = Updated {
        call_id: &call_id,
        total: figures(total),
        date: &date,
        day: figures(day),
        organization_id: event.tenant.as_deref(),
    };
    Ok(vec![Emission::json("analytics.calls.updated", &updated)?.subject(date.as_str())])
}

/// The change, and the id of a call that ended.
fn read(event: &Event) -> Result<(Change, Option<String>), Failure> {
    let reject = |why: String| Failure::reject(format!("{}: {why}", event.kind));
    match event.kind.as_str() {
        "call.started" => event.json::<Started>().map(|_| (Change::Started, None)),
        "call.ended" => {
            let Ended { call_id, duration, outcome } = event.json()?;
            if !(0.0..=DURATION_MAX).contains(&duration) {
                return Err(reject(format!("`duration` is {duration}")));
            }
            let known = OUTCOMES.into_iter().find(|known| *known == outcome);
            let outcome = known.ok_or_else(|| reject(format!("unknown outcome `{outcome}`")))?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 10^9")]
            let duration_ms = (duration * 1000.0).round() as u64;
            Ok((Change::Ended { outcome, duration_ms }, Some(call_id)))
        }
        _ => Err(reject("events of this type are not counted".to_owned())),
    }
}

/// Adds the change, and gives the totals and the counts of the day.
fn add(metrics: &mut Metrics, date: &str, change: &Change) -> (Counts, Counts) {
    metrics.total.add(change);
    let day = metrics.days.entry(date.to_owned()).or_default();
    day.add(change);
    let day = day.clone();
    while metrics.days.len() > DAYS_MAX {
        metrics.days.pop_first();
    }
    (metrics.total.clone(), day)
}

impl Counts {
    fn add(&mut self, change: &Change) {
        match change {
            Change::Started => self.started += 1,
            Change::Ended { outcome, duration_ms } => {
                self.ended += 1;
                *self.outcomes.entry((*outcome).to_owned()).or_default() += 1;
                self.duration_ms += duration_ms;
                self.duration_max_ms = self.duration_max_ms.max(*duration_ms);
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and milliseconds are far below 2^52")]
fn figures(counts: Counts) -> Figures {
    let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
    let ended = counts.ended.max(1) as f64;
    let completed = counts.outcomes.get("completed").copied().unwrap_or_default();
    Figures {
        started: counts.started,
        ended: counts.ended,
        duration_sum: counts.duration_ms as f64 / 1000.0,
        duration_average: rounded(counts.duration_ms as f64 / 1000.0 / ended),
        duration_max: counts.duration_max_ms as f64 / 1000.0,
        completed_share: rounded(completed as f64 / ended),
        outcomes: counts.outcomes,
    }
}

#[cfg(test)]
mod tests;
