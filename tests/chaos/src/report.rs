//! The report of a run, as JSON for programs and as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::checker::{Counts, Invariant};
use crate::faults::Done;
use crate::schedule::{BrokerKind, Kind};
use crate::usage::Use;

/// `report.json`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The time of the start, RFC 3339.
    pub date: String,
    /// The commit of the harness's sources.
    pub commit: String,
    /// The value of `--seed` that gives the same sequence of faults.
    pub seed: u64,
    /// The broker.
    pub broker: BrokerKind,
    /// The command line.
    pub command: String,
    /// The duration of the run, in seconds.
    pub seconds: f64,
    /// The time from the first event to the last confirm, in seconds.
    pub load_seconds: f64,
    /// Confirmed events a second in that time, including the faults.
    pub events_per_second: f64,
    /// The sets.
    pub counts: Counts,
    /// The longest recovery of all faults.
    pub recovery_max_ms: Option<u64>,
    /// The largest resident memory of the daemon.
    pub rss_max_bytes: u64,
    /// Threads and descriptors of the daemon.
    pub usage: Use,
    /// Starts of the daemon, including the first.
    pub daemon_starts: u64,
    /// New sessions after the first one.
    pub reconnects: u64,
    /// The invariants, and the requirements beside them.
    pub invariants: Vec<Invariant>,
    /// Sums over faults.
    pub kinds: Vec<OfKind>,
    /// Every fault, in order.
    pub schedule: Vec<Done>,
    /// Everything held.
    pub pass: bool,
}

/// All faults of one kind.
#[derive(Debug, Serialize)]
pub struct OfKind {
    /// The kind.
    pub kind: Kind,
    /// Rows of FAULTS.md.
    pub rows: &'static [&'static str],
    /// The number of faults.
    pub count: usize,
    /// The number of faults with an effect.
    pub acted: usize,
    /// The number of faults with an effect and a recovery in time.
    pub passed: usize,
    /// Repeated events.
    pub repeats: u64,
    /// Refused messages, requests and connections.
    pub refusals: u64,
    /// New sessions and new processes.
    pub reconnects: u64,
    /// The longest recovery.
    pub recovery_max_ms: Option<u64>,
}

impl OfKind {
    /// True when an effect was expected and missing.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        !self.kind.may_go_unnoticed() && self.repeats + self.refusals + self.reconnects == 0
    }
}

/// Sums up the faults of each kind.
#[must_use]
pub fn by_kind(schedule: &[Done]) -> Vec<OfKind> {
    let mut kinds: BTreeMap<Kind, Vec<&Done>> = BTreeMap::new();
    for done in schedule {
        kinds.entry(done.fault.kind).or_default().push(done);
    }
    let sum = |(kind, all): (Kind, Vec<&Done>)| OfKind {
        kind,
        rows: kind.rows(),
        count: all.len(),
        acted: all.iter().filter(|done| done.acted).count(),
        passed: all.iter().filter(|done| done.pass).count(),
        repeats: all.iter().map(|done| done.repeats).sum(),
        refusals: all.iter().map(|done| done.refusals).sum(),
        reconnects: all.iter().map(|done| done.reconnects).sum(),
        recovery_max_ms: all.iter().filter_map(|done| done.recovery_ms).max(),
    };
    kinds.into_iter().map(sum).collect()
}

impl Report {
    /// Writes `report.json` into a folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let file = dir.join("report.json");
        std::fs::write(&file, serde_json::to_vec_pretty(self)?).with_context(|| file.display().to_string())
    }

    /// The report as a text for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let word = |pass: bool| if pass { "pass" } else { "FAIL" };
        let ms = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let _text = writeln!(
            text,
            "\nfault               rows       count  acted  passed  repeats  refusals  new sessions  recovery max ms"
        );
        for kind in &self.kinds {
            let _text = writeln!(
                text,
                "{:<19} {:<10} {:>5}  {:>5}  {:>6}  {:>7}  {:>8}  {:>12}  {:>15}",
                kind.kind.name(),
                kind.rows.join(" "),
                kind.count,
                kind.acted,
                kind.passed,
                kind.repeats,
                kind.refusals,
                kind.reconnects,
                ms(kind.recovery_max_ms)
            );
        }
        let _text = writeln!(text);
        for invariant in &self.invariants {
            let Invariant { id, what, pass, detail } = invariant;
            let _text = writeln!(text, "{} {id:<7} {what}: {detail}", word(*pass));
        }
        let counts = &self.counts;
        let _text = writeln!(
            text,
            "\nattempted {}, acknowledged {}, settled {}, lost {}, partial {}, unexpected {}, wrong {}, duplicated {} \
             (and {} by the producer, {} by the sink), recovered {}, poison {} of {}",
            counts.attempted,
            counts.acknowledged,
            counts.settled,
            counts.lost,
            counts.partial,
            counts.unexpected,
            counts.wrong,
            counts.duplicated,
            counts.producer_repeats,
            counts.sink_repeats,
            counts.recovered,
            counts.poison_dead,
            counts.poison,
        );
        let _text = writeln!(
            text,
            "{:.1} s, {:.0} events/s, recovery max {} ms, memory max {} MiB, {} starts, {} new sessions",
            self.seconds,
            self.events_per_second,
            ms(self.recovery_max_ms),
            self.rss_max_bytes >> 20,
            self.daemon_starts,
            self.reconnects,
        );
        let _text = writeln!(text, "{}: {:?}, seed {}", word(self.pass), self.broker, self.seed);
        text
    }
}
