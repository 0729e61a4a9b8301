//! The history of a run: attempts, confirms and outputs. It is compact, because a run has millions of events. The
//! ledger records; the checker judges.

use std::time::Instant;

use crate::plan::{EMISSIONS_MAX, Plan};

/// Violations that are kept as text. All others are only counted.
const EXAMPLES_MAX: usize = 20;

/// The history of one event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry {
    /// The number of times the producer sent the event, or may have sent it.
    pub attempts: u16,
    /// The broker confirmed the event.
    pub is_confirmed: bool,
    /// The number of times each output was seen, without redeliveries of the sink's own broker connection.
    pub outputs: [u16; EMISSIONS_MAX],
    /// The number of times the event was seen as a dead letter, counted likewise.
    pub dead: u16,
    /// The time at which the producer first sent the event, by the ledger's clock.
    pub sent_ms: u32,
    /// The time at which all outputs had been seen; 0 until then.
    pub done_ms: u32,
}

/// An emission that was seen.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a> {
    /// Its id.
    pub id: &'a str,
    /// The header `trunkline-cause`.
    pub cause: &'a str,
    /// The header `trunkline-index`.
    pub index: Option<i64>,
    /// The header `trunkline-plugin-digest`.
    pub digest: &'a str,
    /// Its body.
    pub body: &'a [u8],
    /// The sink's queue delivered the message before, so only the sink causes this repeat.
    pub redelivered: bool,
}

/// A message of a dead-letter queue.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// Its id, which is the input's id.
    pub id: &'a str,
    /// The header `trunkline-reason`.
    pub reason: &'a str,
    /// As in [`Output`].
    pub redelivered: bool,
}

/// The number of violations, with examples.
#[derive(Debug, Clone, Default)]
pub struct Violations {
    /// How many.
    pub count: u64,
    /// The first ones.
    pub examples: Vec<String>,
}

impl Violations {
    /// Adds a violation.
    pub fn add(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text());
        }
    }
}

/// The history.
#[derive(Debug)]
pub struct Ledger {
    plan: Plan,
    entries: Vec<Entry>,
    confirmed: u64,
    settled: u64,
    began: Instant,
    /// Messages that were seen again, and events that the producer sent again.
    pub repeats: u64,
    /// Repeats that follow from lost acknowledgements of the sink.
    pub sink_repeats: u64,
    /// Outputs of events that were never sent, or with an index that the event does not have.
    pub unexpected: Violations,
    /// Outputs whose id or body differs from the computed one.
    pub wrong: Violations,
    /// Dead letters that are not poison, or have another reason.
    pub dead_healthy: Violations,
    /// Outputs of another plugin than the first one.
    pub digests: Violations,
    digest: Option<String>,
}

impl Ledger {
    /// An empty history.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            entries: Vec::new(),
            confirmed: 0,
            settled: 0,
            began: Instant::now(),
            repeats: 0,
            sink_repeats: 0,
            unexpected: Violations::default(),
            wrong: Violations::default(),
            dead_healthy: Violations::default(),
            digests: Violations::default(),
            digest: None,
        }
    }

    /// Milliseconds since the ledger was made: the clock of events and faults.
    #[must_use]
    pub fn now_ms(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_millis()).unwrap_or(u32::MAX)
    }

    /// The plan of the events.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// All entries, by number.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The number of confirmed events.
    #[must_use]
    pub const fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// The number of attempted events that have every output, or are dead letters.
    #[must_use]
    pub const fn settled(&self) -> u64 {
        self.settled
    }

    /// Tells whether event `number` has every output, or is a dead letter.
    #[must_use]
    pub fn is_settled(&self, number: u64) -> bool {
        self.entry(number).is_some_and(|entry| is_complete(entry, self.plan.event(number).emissions))
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(number).ok()?).filter(|entry| entry.attempts > 0)
    }

    /// Notes that the producer is about to send the event.
    pub fn attempt(&mut self, number: u64) {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if self.entries.len() <= at {
            self.entries.resize(at + 1, Entry::default());
        }
        let now = self.now_ms();
        let entry = &mut self.entries[at];
        if entry.attempts == 0 {
            entry.sent_ms = now;
        } else {
            self.repeats += 1;
        }
        entry.attempts = entry.attempts.saturating_add(1);
    }

    /// Notes that the broker has confirmed the event. From now on it must not be lost.
    pub fn confirm(&mut self, number: u64) {
        let entry = usize::try_from(number).ok().and_then(|at| self.entries.get_mut(at));
        if let Some(entry) = entry.filter(|entry| !entry.is_confirmed) {
            entry.is_confirmed = true;
            self.confirmed += 1;
        }
    }

    /// Notes an output.
    pub fn output(&mut self, output: Output<'_>) {
        let known = self.plan.number(output.cause).filter(|number| self.entry(*number).is_some());
        let index = output.index.and_then(|index| usize::try_from(index).ok());
        let (Some(number), Some(index)) = (known, index) else {
            return self.unexpected.add(|| format!("output {} of {:?}", output.id, output.cause));
        };
        let event = self.plan.event(number);
        if index >= event.emissions {
            return self
                .unexpected
                .add(|| format!("output {index} of {}, which has {}", output.cause, event.emissions));
        }
        let wanted = self.plan.output_id(event, index);
        if output.id != wanted || output.body != Plan::body(number).as_bytes() {
            return self.wrong.add(|| format!("output {index} of {}: {} instead of {wanted}", output.cause, output.id));
        }
        match &self.digest {
            None => self.digest = Some(output.digest.to_owned()),
            Some(digest) if digest == output.digest => {}
            Some(_) => self.digests.add(|| format!("{} by {}", output.id, output.digest)),
        }
        self.note(number, event.emissions, output.redelivered, |entry| &mut entry.outputs[index]);
    }

    /// Notes a dead letter.
    pub fn dead(&mut self, dead: DeadLetter<'_>) {
        let known = self.plan.number(dead.id).filter(|number| self.entry(*number).is_some());
        let Some(number) = known else {
            return self.unexpected.add(|| format!("dead letter {:?} ({})", dead.id, dead.reason));
        };
        let event = self.plan.event(number);
        if !event.is_poison || dead.reason != "rejected" {
            self.dead_healthy.add(|| format!("{} is dead: {}", dead.id, dead.reason));
        }
        self.note(number, event.emissions, dead.redelivered, |entry| &mut entry.dead);
    }

    fn note(&mut self, number: u64, emissions: usize, redelivered: bool, count: impl Fn(&mut Entry) -> &mut u16) {
        let now = self.now_ms();
        let Some(entry) = usize::try_from(number).ok().and_then(|at| self.entries.get_mut(at)) else {
            return;
        };
        let was_complete = is_complete(entry, emissions);
        let count = count(entry);
        if redelivered && *count > 0 {
            self.sink_repeats += 1;
            return;
        }
        self.repeats += u64::from(*count > 0);
        *count = count.saturating_add(1);
        if !was_complete && is_complete(entry, emissions) {
            entry.done_ms = now.max(1);
            self.settled += 1;
        }
    }
}

/// Tells whether an event is a dead letter or has all its outputs.
#[must_use]
pub fn is_complete(entry: &Entry, emissions: usize) -> bool {
    entry.dead > 0 || (emissions > 0 && entry.outputs[..emissions].iter().all(|count| *count > 0))
}
