//! The meaning of a history, by the invariants of FAULTS.md section 3. A pure function of the history and the facts.

use serde::Serialize;

use crate::ledger::{Entry, Ledger, Violations, is_complete};
use crate::plan::{EMISSIONS_MAX, PREFETCH};

/// Events that a hard fault may leave in flight: the prefetch of both routes, and acknowledgements that are in memory
/// only.
pub const WINDOW: u64 = 2 * 2 * PREFETCH;

/// The time between the sight of an output and its acknowledgement. Within this time the daemon may have to repeat a
/// complete event.
const UNACKNOWLEDGED_MS: u32 = 5_000;

/// The time of a fault that may repeat work, by the ledger's clock, until the daemon had recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The time at which the fault struck.
    pub from_ms: u32,
    /// The time at which the daemon had recovered.
    pub to_ms: u32,
}

/// The last fault that struck while the event was in flight, or none.
#[must_use]
pub fn struck(windows: &[Window], sent_ms: u32, done_ms: u32) -> Option<usize> {
    let until = done_ms.saturating_add(UNACKNOWLEDGED_MS);
    windows.iter().rposition(|window| window.from_ms <= until && window.to_ms >= sent_ms)
}

/// Facts beside the history.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Faults that may repeat work. SIGTERM and hostile messages are not among them. On the embedded broker there are
    /// none, because input, outputs and acknowledgement are one transaction.
    pub windows: Vec<Window>,
    /// The largest resident memory of the daemon.
    pub rss_max_bytes: u64,
    /// The limit for that memory.
    pub rss_limit_bytes: u64,
    /// The time of each probe after the last fault, one for each route; `None` when a probe was not settled.
    pub probes_ms: Vec<Option<u64>>,
    /// The limit for a probe.
    pub probe_limit_ms: u64,
    /// Messages in the queues after the drain.
    pub left: Vec<String>,
}

/// The sets of Jepsen's `total-queue`, as counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Events that the producer sent at least once.
    pub attempted: u64,
    /// Confirmed to the producer.
    pub acknowledged: u64,
    /// With every output, or dead.
    pub settled: u64,
    /// Confirmed, without any output.
    pub lost: u64,
    /// Confirmed, with some outputs missing.
    pub partial: u64,
    /// Outputs that follow from no event.
    pub unexpected: u64,
    /// Outputs whose id or body differs from the computed one.
    pub wrong: u64,
    /// Seen more than once, beyond the producer's own repeats.
    pub duplicated: u64,
    /// Repeats that follow from a repeat of the producer.
    pub producer_repeats: u64,
    /// Repeats by the sink's own connection.
    pub sink_repeats: u64,
    /// Never confirmed, but settled.
    pub recovered: u64,
    /// Poison events in a dead-letter queue.
    pub poison_dead: u64,
    /// Poison events that were confirmed.
    pub poison: u64,
}

/// One invariant.
#[derive(Debug, Clone, Serialize)]
pub struct Invariant {
    /// The name in FAULTS.md.
    pub id: &'static str,
    /// A short description.
    pub what: &'static str,
    /// The invariant held.
    pub pass: bool,
    /// Figures, or the first violations.
    pub detail: String,
}

/// The result of the checker.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The sets.
    pub counts: Counts,
    /// The invariants.
    pub invariants: Vec<Invariant>,
}

impl Verdict {
    /// True when every invariant held.
    #[must_use]
    pub fn pass(&self) -> bool {
        self.invariants.iter().all(|invariant| invariant.pass)
    }
}

/// Judges a history.
#[must_use]
pub fn check(ledger: &Ledger, facts: &Facts) -> Verdict {
    let mut counts = Counts {
        unexpected: ledger.unexpected.count,
        wrong: ledger.wrong.count,
        sink_repeats: ledger.sink_repeats,
        ..Counts::default()
    };
    let (mut lost, mut partial, mut poison) = (Violations::default(), Violations::default(), Violations::default());
    let (mut doubled, mut in_window) = (Violations::default(), vec![0; facts.windows.len()]);
    for (number, entry) in (0_u64..).zip(ledger.entries()).filter(|(_, entry)| entry.attempts > 0) {
        let event = ledger.plan().event(number);
        let is_settled = is_complete(entry, event.emissions);
        counts.attempted += 1;
        counts.acknowledged += u64::from(entry.is_confirmed);
        counts.settled += u64::from(is_settled);
        counts.recovered += u64::from(is_settled && !entry.is_confirmed);
        let seen = entry.outputs[..event.emissions].iter().filter(|count| **count > 0).count();
        if !is_settled && seen > 0 {
            counts.partial += 1;
            partial.add(|| format!("{} has {seen} of {} outputs", ledger.plan().id(number), event.emissions));
        } else if !is_settled && entry.is_confirmed {
            counts.lost += 1;
            lost.add(|| ledger.plan().id(number));
        }
        if event.is_poison && entry.is_confirmed {
            counts.poison += 1;
            counts.poison_dead += u64::from(entry.dead > 0);
            if entry.dead == 0 {
                poison.add(|| format!("{} is not dead", ledger.plan().id(number)));
            }
        }
        let (ours, producers) = repeats(entry, event.emissions);
        counts.duplicated += ours;
        counts.producer_repeats += producers;
        let done_ms = if is_settled { entry.done_ms } else { u32::MAX };
        match struck(&facts.windows, entry.sent_ms, done_ms) {
            _ if ours == 0 => {}
            Some(at) => in_window[at] += ours,
            None => {
                let id = ledger.plan().id(number);
                doubled.add(|| format!("{id}, in flight from {} to {done_ms} ms", entry.sent_ms));
            }
        }
    }
    let duplicates = Duplicates { without: doubled, most: in_window.into_iter().max().unwrap_or_default() };
    let invariants = invariants(ledger, facts, &duplicates, [&lost, &partial, &poison]);
    Verdict { counts, invariants }
}

/// The daemon's repeats of an entry, and the repeats that follow from the producer's repeats.
fn repeats(entry: &Entry, emissions: usize) -> (u64, u64) {
    let allowed = u64::from(entry.attempts.saturating_sub(1));
    let extra = |count: &u16| u64::from(count.saturating_sub(1));
    let split = |extra: u64| (extra.saturating_sub(allowed), extra.min(allowed));
    let all = entry.outputs[..emissions].iter().map(extra).chain([extra(&entry.dead)]).map(split);
    all.fold((0, 0), |(ours, producers), (more, explained)| (ours + more, producers + explained))
}

/// Repeats by the daemon.
struct Duplicates {
    /// Repeats of events that were not in flight during a fault.
    without: Violations,
    /// The largest number of repeats after one fault.
    most: u64,
}

fn invariants(ledger: &Ledger, facts: &Facts, duplicates: &Duplicates, found: [&Violations; 3]) -> Vec<Invariant> {
    let [lost, partial, poison] = found;
    let duplicates_max = WINDOW * u64::try_from(EMISSIONS_MAX).unwrap_or(u64::MAX);
    let probes_fit = facts.probes_ms.iter().all(|took| took.is_some_and(|took| took <= facts.probe_limit_ms));
    let none = |id, what, violations: &[&Violations]| {
        let count: u64 = violations.iter().map(|violations| violations.count).sum();
        let examples = violations.iter().flat_map(|violations| violations.examples.iter().cloned());
        let detail = if count == 0 {
            "none".to_owned()
        } else {
            format!("{count}: {}", examples.take(5).collect::<Vec<_>>().join("; "))
        };
        Invariant { id, what, pass: count == 0, detail }
    };
    let of = |id, what, pass, detail| Invariant { id, what, pass, detail };
    vec![
        none("I1", "confirmed events without an outcome", &[lost]),
        none("I2", "outputs that were not computed", &[&ledger.unexpected, &ledger.wrong]),
        none("I3", "events with a part of their outputs, or outputs of two plugins", &[partial, &ledger.digests]),
        of(
            "I5",
            "duplicates after one fault, at most a window",
            duplicates.most <= duplicates_max,
            format!("{} of at most {duplicates_max}", duplicates.most),
        ),
        none("I5", "duplicates of events that no fault but SIGTERM met in flight", &[&duplicates.without]),
        none("I8", "poison that is not dead, or healthy events that are", &[poison, &ledger.dead_healthy]),
        of(
            "I10",
            "memory of the daemon",
            facts.rss_max_bytes > 0 && facts.rss_max_bytes <= facts.rss_limit_bytes,
            format!("{} of at most {} MiB", facts.rss_max_bytes >> 20, facts.rss_limit_bytes >> 20),
        ),
        of(
            "I11",
            "probes are settled and the queues are empty",
            probes_fit && !facts.probes_ms.is_empty() && facts.left.is_empty(),
            format!("probes {:?} ms, left: {}", facts.probes_ms, facts.left.join(", ")),
        ),
    ]
}

#[cfg(test)]
mod tests;
