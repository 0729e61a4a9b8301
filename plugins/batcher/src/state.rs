//! The state: which input is in which batch. The host keeps the state of each tenant apart, so keys name no tenant.
//!
//! | key | value |
//! |---|---|
//! | `open/TYPE` | the batch that collects inputs; a call that finds a closed batch here moves it |
//! | `closed/TYPE/NUMBER` | a closed batch until `batcher.done` arrives, then the ids of its inputs |
//! | `input/TYPE/ID` | the batch of an input, written before the next batch is opened; kept for [`REMEMBERED`] batches |
//!
//! Each change concerns one key and may be repeated, because the host repeats a call that ended between two changes.

use serde::{Deserialize, Serialize};
use trunkline_plugin::{Failure, kv};

use crate::Gathered;

/// A repeated input is recognised for this many batches.
const REMEMBERED: u64 = 100;
/// A batch is closed when its JSON is larger. The host accepts values of 1 MiB.
const BATCH_MAX_BYTES: usize = 512 * 1024;
/// An input of this size still fits into a batch that is just below [`BATCH_MAX_BYTES`].
const INPUT_MAX_BYTES: usize = 256 * 1024;

/// A batch, open or closed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// Counts the batches of a type, from 1.
    pub(crate) number: u64,
    pub(crate) events: Vec<Gathered>,
    /// The input or timer that closed the batch. Only that event publishes the batch, also when it is delivered again.
    closed_by: Option<String>,
    /// The ids of the inputs, once the batch is published.
    inputs: Option<Vec<String>>,
}

/// The place of an input.
#[derive(Debug, PartialEq)]
pub(crate) enum Place {
    /// In the open batch.
    Open { number: u64, is_first: bool },
    /// In a batch that this input closed.
    Closed(Batch),
    /// In a batch that another event publishes, or in a published one.
    Settled,
}

fn open_key(kind: &str) -> String {
    format!("open/{kind}")
}

fn closed_key(kind: &str, number: u64) -> String {
    format!("closed/{kind}/{number}")
}

fn input_key(kind: &str, id: &str) -> String {
    format!("input/{kind}/{id}")
}

fn encode(batch: &Batch) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(batch).map_err(|error| Failure::reject(error.to_string()))
}

/// The open batch, and its stored bytes.
fn open(kind: &str) -> Result<(Option<Vec<u8>>, Batch), Failure> {
    let Some(bytes) = kv::get(&open_key(kind))? else {
        return Ok((None, Batch { number: 1, events: Vec::new(), closed_by: None, inputs: None }));
    };
    let batch = serde_json::from_slice(&bytes).map_err(|error| Failure::retry(format!("damaged state: {error}")))?;
    Ok((Some(bytes), batch))
}

/// Puts an input into the open batch, unless the input is in a batch already.
pub(crate) fn put(input: &Gathered, size: usize) -> Result<Place, Failure> {
    let (kind, id) = (&input.kind, &input.id);
    loop {
        let (seen, mut batch) = open(kind)?;
        // This look-up comes after the open batch was read, because an input is noted before the next batch is opened.
        if let Some(number) = kv::get_json::<u64>(&input_key(kind, id))? {
            return published_by(kind, number, id).map(|own| own.map_or(Place::Settled, Place::Closed));
        }
        let is_here = batch.events.iter().any(|known| known.id == *id);
        if batch.closed_by.is_some() {
            let is_own = batch.closed_by.as_deref() == Some(id);
            shut(kind, seen.as_deref(), &batch)?;
            if is_here {
                return Ok(if is_own { Place::Closed(batch) } else { Place::Settled });
            }
            continue;
        }
        if !is_here {
            batch.events.push(input.clone());
            let mut bytes = encode(&batch)?;
            if batch.events.len() >= size || bytes.len() > BATCH_MAX_BYTES {
                batch.closed_by = Some(id.clone());
                bytes = encode(&batch)?;
            }
            if !kv::compare_and_set(&open_key(kind), seen.as_deref(), &bytes)? {
                continue;
            }
            if batch.closed_by.is_some() {
                shut(kind, Some(&bytes), &batch)?;
                return Ok(Place::Closed(batch));
            }
        }
        let is_first = batch.events.first().is_some_and(|first| first.id == *id);
        return Ok(Place::Open { number: batch.number, is_first });
    }
}

/// Tells whether an input is small enough for any batch.
pub(crate) fn fits(data: &[u8]) -> bool {
    data.len() <= INPUT_MAX_BYTES
}

/// Closes batch `number` for a timer, if it is still open. A repeat of the same timer gives the batch again.
pub(crate) fn close(kind: &str, number: u64, timer: &str) -> Result<Option<Batch>, Failure> {
    loop {
        let (seen, mut batch) = open(kind)?;
        if batch.number != number {
            return published_by(kind, number, timer);
        }
        if batch.events.is_empty() {
            return Ok(None);
        }
        let mut bytes = seen;
        if batch.closed_by.is_none() {
            batch.closed_by = Some(timer.to_owned());
            let closed = encode(&batch)?;
            if !kv::compare_and_set(&open_key(kind), bytes.as_deref(), &closed)? {
                continue;
            }
            bytes = Some(closed);
        }
        shut(kind, bytes.as_deref(), &batch)?;
        return Ok((batch.closed_by.as_deref() == Some(timer)).then_some(batch));
    }
}

/// Moves a closed batch to its own key, and opens the next batch. Any call that finds a closed batch does this.
fn shut(kind: &str, seen: Option<&[u8]>, batch: &Batch) -> Result<(), Failure> {
    // An existing value stays: the batch may be published by now, and then the value holds the ids only.
    kv::compare_and_set(&closed_key(kind, batch.number), None, &encode(batch)?)?;
    for event in &batch.events {
        kv::set_json(&input_key(kind, &event.id), &batch.number)?;
    }
    let next = Batch { number: batch.number + 1, events: Vec::new(), closed_by: None, inputs: None };
    kv::compare_and_set(&open_key(kind), seen, &encode(&next)?)?;
    Ok(())
}

/// A closed batch that this input or timer publishes, until `batcher.done` has arrived for it.
fn published_by(kind: &str, number: u64, closer: &str) -> Result<Option<Batch>, Failure> {
    let batch = kv::get_json::<Batch>(&closed_key(kind, number))?;
    Ok(batch.filter(|batch| batch.inputs.is_none() && batch.closed_by.as_deref() == Some(closer)))
}

/// Notes that a batch is published: only the ids of its inputs are kept. Removes a batch that is [`REMEMBERED`] batches
/// old.
pub(crate) fn forget(kind: &str, number: u64) -> Result<(), Failure> {
    if let Some(mut batch) = kv::get_json::<Batch>(&closed_key(kind, number))?
        && batch.inputs.is_none()
    {
        batch.inputs = Some(batch.events.drain(..).map(|event| event.id).collect());
        kv::set_json(&closed_key(kind, number), &batch)?;
    }
    let (_, now) = open(kind)?;
    let past = [number.checked_sub(REMEMBERED), Some(number).filter(|number| number + REMEMBERED < now.number)];
    for number in past.into_iter().flatten() {
        let batch = kv::get_json::<Batch>(&closed_key(kind, number))?;
        if let Some(inputs) = batch.and_then(|batch| batch.inputs) {
            for id in inputs {
                kv::delete(&input_key(kind, &id))?;
            }
            kv::delete(&closed_key(kind, number))?;
        }
    }
    Ok(())
}
