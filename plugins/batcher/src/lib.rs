//! Collects the events of a tenant and type, and emits one event `batch` with all of them. A batch is closed when it
//! has `size` events, or `seconds` after its first event.
//!
//! A redelivered input is in one batch only, and a repeated batch has the same contents as before. Everything that
//! decides this is in the state ([`state`]), which outlives the call.
//!
//! Two of the emitted events come back to the plugin, so its route must take them. `batcher.timer` is delivered after
//! `seconds`. `batcher.done` is published together with a batch, so its arrival proves that the batch was published.
//!
//! `[plugins.batcher]`: `config = { size = "20", seconds = "5" }`, `allow = { kv = true }`.

mod state;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline_plugin::json::Value;
use trunkline_plugin::{Emission, Event, Failure, config, handler};

use state::{Batch, Place};

const TIMER: &str = "batcher.timer";
const DONE: &str = "batcher.done";
const SIZE_MAX: usize = 1000;
const SECONDS_MAX: f64 = 86_400.0;

/// An event in a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Gathered {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    source: String,
    time: Option<String>,
    user: Option<String>,
    data: Value,
}

/// The data of `batcher.timer` and `batcher.done`: the batch that they name.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    #[serde(rename = "type")]
    kind: String,
    number: u64,
}

#[derive(Serialize)]
struct Out<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    /// Counts the batches of a tenant and type, from 1.
    number: u64,
    /// `size` or `time`: the rule that closed the batch.
    reason: &'static str,
    count: usize,
    events: &'a [Gathered],
}

#[handler(
    description = "Gathers events of a tenant and type, and emits a batch of the events as one event",
    emits = ["batch", "batcher.timer", "batcher.done"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    match event.kind.as_str() {
        TIMER => timer(&event),
        DONE => done(&event),
        _ => gather(event),
    }
}

fn gather(event: Event) -> Result<Vec<Emission>, Failure> {
    let (size, seconds) = settings()?;
    if !state::fits(&event.data) {
        return Err(Failure::reject(format!("{}: the event is too long for a batch", event.kind)));
    }
    let data: Value = event.json()?;
    let Event { id, kind, source, time, user, .. } = event;
    let input = Gathered { id, kind: kind.clone(), source, time, user, data };
    let mut out = Vec::new();
    match state::put(&input, size)? {
        Place::Open { number, is_first: true } => {
            let about = About { kind, number };
            let timer = Emission::json(TIMER, &about)?.dedupe_key(format!("timer-{number}"));
            out.push(timer.deliver_after(Duration::from_secs_f64(seconds)));
        }
        Place::Open { is_first: false, .. } | Place::Settled => {}
        Place::Closed(batch) => out.extend(emit(&kind, &batch, "size")?),
    }
    Ok(out)
}

fn timer(event: &Event) -> Result<Vec<Emission>, Failure> {
    let about: About = event.json()?;
    match state::close(&about.kind, about.number, &event.id)? {
        Some(batch) => emit(&about.kind, &batch, "time"),
        None => Ok(Vec::new()),
    }
}

fn done(event: &Event) -> Result<Vec<Emission>, Failure> {
    let about: About = event.json()?;
    state::forget(&about.kind, about.number)?;
    Ok(Vec::new())
}

fn emit(kind: &str, batch: &Batch, reason: &'static str) -> Result<Vec<Emission>, Failure> {
    let number = batch.number;
    let out = Out { kind, number, reason, count: batch.events.len(), events: &batch.events };
    let about = About { kind: kind.to_owned(), number };
    Ok(vec![
        Emission::json("batch", &out)?.subject(kind).dedupe_key(format!("batch-{number}")),
        Emission::json(DONE, &about)?.dedupe_key(format!("done-{number}")),
    ])
}

fn settings() -> Result<(usize, f64), Failure> {
    let (size, seconds) = (config::number("size", 20.0)?, config::number("seconds", 5.0)?);
    let wrong = |key: &str| Failure::retry(format!("config {key:?} is out of range"));
    if size.fract() != 0.0 || !(1.0..=SIZE_MAX as f64).contains(&size) {
        return Err(wrong("size"));
    }
    if !(0.1..=SECONDS_MAX).contains(&seconds) {
        return Err(wrong("seconds"));
    }
    Ok((size as usize, seconds))
}

#[cfg(test)]
mod tests;
