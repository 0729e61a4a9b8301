//! Escalates when several very negative calls occur within a window of time. The n-th call escalates, and the count
//! starts again. The calls below the threshold are kept for each organisation.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline_plugin::document::Document;
use trunkline_plugin::time::Timestamp;
use trunkline_plugin::{Emission, Event, Failure, config, handler};

/// The number of calls; config `count`.
const COUNT: f64 = 3.0;
const COUNT_MAX: f64 = 100.0;
/// The window of time; config `window`.
const WINDOW: Duration = Duration::from_secs(3600);

/// A very negative call.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Call {
    call_id: String,
    /// RFC 3339, UTC.
    at: String,
    score: f64,
}

#[derive(Serialize)]
struct Escalation<'a> {
    calls: &'a [Call],
    count: usize,
    window_s: u64,
    threshold: f64,
    worst_score: f64,
    message: String,
    organization_id: Option<&'a str>,
}

/// One escalation when this call is the n-th, else nothing.
#[handler(
    description = "Escalates when many calls are very negative",
    takes = ["sentiment.analyzed"],
    emits = ["supervisor.escalation.created"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let Some((negative, threshold)) = sentiment::very_negative(&event)? else { return Ok(Vec::new()) };
    let window = config::duration("window", WINDOW)?;
    let count = count()?;
    // The event's time is used instead of the clock, so that a late delivery is not counted with the calls of today.
    let at = event.time.as_deref().and_then(Timestamp::parse);
    let at = at.ok_or_else(|| Failure::reject(format!("{}: the event has no time in RFC 3339", event.kind)))?;
    let call = Call { call_id: negative.call_id, at: at.to_string(), score: negative.score };
    let applied =
        Document::new("calls").apply(&event.id, |calls: &mut Vec<Call>| Ok(add(calls, &call, window, count)))?;
    // A repeat of a call that was only counted has no answer, so nothing is emitted.
    let Some(calls) = applied.answer().flatten() else { return Ok(Vec::new()) };
    let escalation = Escalation {
        count: calls.len(),
        window_s: window.as_secs(),
        threshold,
        worst_score: calls.iter().map(|call| call.score).fold(0.0, f64::min),
        message: format!("{} very negative calls within {} minutes.", calls.len(), window.as_secs() / 60),
        organization_id: event.tenant.as_deref(),
        calls: &calls,
    };
    Ok(vec![Emission::json("supervisor.escalation.created", &escalation)?])
}

fn count() -> Result<usize, Failure> {
    let count = config::number("count", COUNT)?;
    if !(1.0..=COUNT_MAX).contains(&count) || count.fract() != 0.0 {
        return Err(Failure::retry("config \"count\" is not a whole number from 1 to 100"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number from 1 to 100")]
    Ok(count as usize)
}

/// Adds a call and drops the calls outside the window. Gives all calls, and forgets them, when there are enough.
fn add(calls: &mut Vec<Call>, call: &Call, window: Duration, count: usize) -> Option<Vec<Call>> {
    // A call that is analysed again counts once, with its latest score.
    calls.retain(|known| known.call_id != call.call_id);
    calls.push(call.clone());
    let time = |call: &Call| Timestamp::parse(&call.at);
    let newest = calls.iter().filter_map(time).max();
    calls.retain(|call| match (time(call), newest) {
        (Some(time), Some(newest)) => newest.since(time) < window,
        (None, _) | (_, None) => false,
    });
    calls.sort_by_key(time);
    (calls.len() >= count).then(|| std::mem::take(calls))
}

#[cfg(test)]
mod tests;
