//! What a history means, in the words of FAULTS.md section 3. Pure: history and facts in, verdict out.

use serde::Serialize;

use crate::ledger::{Entry, Ledger, Violations, is_complete};
use crate::plan::{EMISSIONS_MAX, PREFETCH};

/// What a hard fault may leave in flight: the prefetch of both routes, and what was acknowledged in memory only.
pub const WINDOW: u64 = 2 * 2 * PREFETCH;

/// From an output's sight to its acknowledgement: what the daemon may have to do again although all of it came out.
const UNACKNOWLEDGED_MS: u32 = 5_000;

/// The time of a fault that may repeat work, by the ledger's clock, until the daemon had recovered from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// When it struck.
    pub from_ms: u32,
    /// When it was over.
    pub to_ms: u32,
}

/// The last fault that struck while an event was in flight; `None` when there was none.
#[must_use]
pub fn struck(windows: &[Window], sent_ms: u32, done_ms: u32) -> Option<usize> {
    let until = done_ms.saturating_add(UNACKNOWLEDGED_MS);
    windows.iter().rposition(|window| window.from_ms <= until && window.to_ms >= sent_ms)
}

/// What is known beside the history.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Faults that may repeat work: not SIGTERM, and not what others may send. None on the embedded broker, where
    /// input, outputs and acknowledgement are one transaction.
    pub windows: Vec<Window>,
    /// Resident memory of the daemon at its worst.
    pub rss_max_bytes: u64,
    /// What it may be.
    pub rss_limit_bytes: u64,
    /// How long the probes took after the last fault, one a route; `None` when one did not come back.
    pub probes_ms: Vec<Option<u64>>,
    /// How long they may take.
    pub probe_limit_ms: u64,
    /// What is left in the queues after the drain.
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
    /// Confirmed, and nothing came of it.
    pub lost: u64,
    /// Confirmed, and some of its outputs are missing.
    pub partial: u64,
    /// Nobody can have made it.
    pub unexpected: u64,
    /// With an id or a body that is not the computed one.
    pub wrong: u64,
    /// Seen more than once, beyond what the producer itself repeated.
    pub duplicated: u64,
    /// Repetitions that follow from a repetition of the producer.
    pub producer_repeats: u64,
    /// Repetitions by the sink's own broker connection.
    pub sink_repeats: u64,
    /// Never confirmed, and yet settled.
    pub recovered: u64,
    /// Poison that is in a dead-letter queue.
    pub poison_dead: u64,
    /// Poison that was confirmed.
    pub poison: u64,
}

/// One invariant.
#[derive(Debug, Clone, Serialize)]
pub struct Invariant {
    /// As in FAULTS.md.
    pub id: &'static str,
    /// In a few words.
    pub what: &'static str,
    /// Whether it held.
    pub pass: bool,
    /// Figures, or the first violations.
    pub detail: String,
}

/// The whole.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The sets.
    pub counts: Counts,
    /// The invariants.
    pub invariants: Vec<Invariant>,
}

impl Verdict {
    /// Whether everything held.
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

/// Repetitions of an entry that are ours, and those that the producer's own repetitions explain.
fn repeats(entry: &Entry, emissions: usize) -> (u64, u64) {
    let allowed = u64::from(entry.attempts.saturating_sub(1));
    let extra = |count: &u16| u64::from(count.saturating_sub(1));
    let split = |extra: u64| (extra.saturating_sub(allowed), extra.min(allowed));
    let all = entry.outputs[..emissions].iter().map(extra).chain([extra(&entry.dead)]).map(split);
    all.fold((0, 0), |(ours, producers), (more, explained)| (ours + more, producers + explained))
}

/// Repetitions that are ours.
struct Duplicates {
    /// Of events that no fault met in flight.
    without: Violations,
    /// After one fault, at the worst.
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
            "probes come back and the queues are empty",
            probes_fit && !facts.probes_ms.is_empty() && facts.left.is_empty(),
            format!("probes {:?} ms, left: {}", facts.probes_ms, facts.left.join(", ")),
        ),
    ]
}

#[cfg(test)]
mod tests;
