//! Threads and descriptors of the daemon over the run. Under load they vary. The counts at rest, and the smallest
//! counts over many seconds, must not grow.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::checker::Invariant;

/// The allowed growth, from FAULTS.md I10.
const SLACK: u64 = 5;
/// A process with fewer samples shows no trend.
const TREND_SAMPLES: usize = 30;
/// An idle thread of the daemon ends after 3 s.
const RESTS_WITHIN: Duration = Duration::from_secs(25);
const PAUSE: Duration = Duration::from_millis(200);

/// One sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Sample {
    /// The sample of a process, while the process exists.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()?;
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count().try_into().ok()?;
        Some(Self { threads, descriptors })
    }

    fn fold(self, other: Self, pick: fn(u64, u64) -> u64) -> Self {
        Self { threads: pick(self.threads, other.threads), descriptors: pick(self.descriptors, other.descriptors) }
    }

    /// True when the sample exceeds the earlier one by no more than the allowed growth.
    const fn is_flat(self, before: Self) -> bool {
        self.threads <= before.threads + SLACK && self.descriptors <= before.descriptors + SLACK
    }
}

/// The figures of the report.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Use {
    /// At rest before the load.
    pub first: Sample,
    /// At rest after it.
    pub last: Sample,
    /// The largest counts.
    pub max: Sample,
    /// Processes that lived long enough to show a trend.
    pub trends: usize,
    /// Processes whose smallest counts grew.
    pub growing: Vec<String>,
}

impl Use {
    /// True when nothing grew.
    #[must_use]
    pub fn invariant(&self) -> Invariant {
        let Self { first, last, max, trends, growing } = self;
        let detail = format!(
            "threads {} at first, {} at last, {} at most; descriptors {}, {}, {}; {} of {trends} long lives grew {}",
            first.threads,
            last.threads,
            max.threads,
            first.descriptors,
            last.descriptors,
            max.descriptors,
            growing.len(),
            growing.join("; ")
        );
        let pass = first.threads > 0 && last.threads > 0 && last.is_flat(*first) && growing.is_empty();
        Invariant { id: "I10", what: "threads and descriptors of the daemon are flat", pass, detail }
    }
}

#[derive(Debug)]
struct Life {
    pid: u32,
    samples: Vec<Sample>,
}

impl Life {
    /// The smallest counts of the first and of the last third.
    fn trend(&self) -> Option<(Sample, Sample)> {
        let third = self.samples.len() / 3;
        let least = |samples: &[Sample]| samples.iter().copied().reduce(|one, other| one.fold(other, u64::min));
        let is_long = self.samples.len() >= TREND_SAMPLES;
        is_long.then(|| least(&self.samples[..third]).zip(least(&self.samples[2 * third..]))).flatten()
    }
}

/// All samples.
#[derive(Debug, Default)]
pub struct Usage {
    lives: Mutex<Vec<Life>>,
}

impl Usage {
    fn lives(&self) -> MutexGuard<'_, Vec<Life>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a sample of a process, about once a second.
    pub fn note(&self, pid: u32) {
        if let Some(sample) = Sample::of(pid) {
            self.add(pid, sample);
        }
    }

    fn add(&self, pid: u32, sample: Sample) {
        let mut lives = self.lives();
        match lives.last_mut().filter(|life| life.pid == pid) {
            Some(life) => life.samples.push(sample),
            None => lives.push(Life { pid, samples: vec![sample] }),
        }
    }

    /// The figures between two samples at rest.
    #[must_use]
    pub fn report(&self, first: Sample, last: Sample) -> Use {
        let lives = self.lives();
        let all = lives.iter().flat_map(|life| life.samples.iter().copied()).chain([first, last]);
        let max = all.reduce(|one, other| one.fold(other, u64::max)).unwrap_or_default();
        let trends: Vec<_> = lives.iter().filter_map(|life| Some((life.pid, life.trend()?))).collect();
        let growing = trends.iter().filter(|(_, (first, last))| !last.is_flat(*first));
        let growing = growing.map(|(pid, (first, last))| format!("process {pid} from {first:?} to {last:?}")).collect();
        Use { first, last, max, trends: trends.len(), growing }
    }
}

/// Waits until the process is at rest: until it has no more than `before`, or the time is over.
pub async fn at_rest(pid: u32, before: Option<Sample>) -> Sample {
    let since = Instant::now();
    let mut last = Sample::of(pid).unwrap_or_default();
    while before.is_some_and(|before| !last.is_flat(before)) && since.elapsed() < RESTS_WITHIN {
        tokio::time::sleep(PAUSE).await;
        last = Sample::of(pid).unwrap_or_default();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Sample = Sample { threads: 10, descriptors: 40 };

    fn lived(descriptors: impl Fn(u64) -> u64) -> Use {
        let usage = Usage::default();
        for second in 0..60 {
            usage.add(1, Sample { threads: 10, descriptors: descriptors(second) });
        }
        usage.report(REST, REST)
    }

    #[test]
    fn varying_use_is_flat() {
        let used = lived(|second| 40 + (second % 7) * 30);
        assert!(used.invariant().pass, "{used:?}");
        assert_eq!((used.max.descriptors, used.trends), (220, 1));
    }

    #[test]
    fn a_leak_is_not_flat() {
        assert!(!lived(|second| 40 + second).invariant().pass);
        let more = Sample { threads: 16, descriptors: 40 };
        assert!(!Usage::default().report(REST, more).invariant().pass);
        assert!(!Usage::default().report(REST, Sample::default()).invariant().pass, "never seen");
    }

    #[test]
    fn a_process_has_threads_and_descriptors() {
        let ours = Sample::of(std::process::id()).unwrap();
        assert!(ours.threads > 0 && ours.descriptors > 2, "{ours:?}");
    }
}
