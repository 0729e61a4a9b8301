//! The trial of a canary: the share of events, the counts, and the sequential test that promotes or rolls back.
//!
//! An event that fails on the canary runs at once on the stable plugin. Only a failure that the stable plugin then handles
//! counts against the canary. Two sequential probability ratio tests (Wald 1945) run at the same time: one of such failures,
//! and one of calls much slower than the stable plugin's median. One test is enough to roll back; both are needed to
//! promote. A verdict holds for a pair of digests, and another file on either side begins another trial. The trial knows
//! no clock and no file.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Shares of failures: one that is acceptable, and one that is not.
const FAILING: Test = Test { good: 0.005, bad: 0.05 };
/// Shares of calls that take more than [`SLOWER`] times the median and [`SLOWER_BY`] more.
const SLOW: Test = Test { good: 0.1, bad: 0.5 };
const SLOWER: u32 = 2;
const SLOWER_BY: Duration = Duration::from_millis(1);
/// Accepted probability that a good canary is rolled back, and that a bad canary is promoted.
const ROLLED_BACK_WRONGLY: f64 = 0.01;
const PROMOTED_WRONGLY: f64 = 0.001;
/// Calls of the stable plugin behind the median: at most, and at least.
const STABLE_CALLS: usize = 101;
const STABLE_CALLS_MIN: usize = 11;

/// Two shares that the test tells apart.
struct Test {
    good: f64,
    bad: f64,
}

impl Test {
    /// Weight of one observation in the logarithm of the likelihood ratio.
    fn weight(&self, hit: bool) -> f64 {
        if hit { (self.bad / self.good).ln() } else { ((1.0 - self.bad) / (1.0 - self.good)).ln() }
    }
}

fn bound_of_bad() -> f64 {
    ((1.0 - PROMOTED_WRONGLY) / ROLLED_BACK_WRONGLY).ln()
}

fn bound_of_good() -> f64 {
    (PROMOTED_WRONGLY / (1.0 - ROLLED_BACK_WRONGLY)).ln()
}

/// State of a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrialPhase {
    /// The canary gets its share of the events.
    Trial,
    /// The canary gets every event.
    Promoted,
    /// The canary gets no event.
    RolledBack,
}

/// One canary against one stable plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trial {
    /// Digest of the stable plugin.
    pub stable: String,
    /// Digest of the canary.
    pub canary: String,
    /// State of the trial.
    pub phase: TrialPhase,
    /// Reason of the verdict; empty during the trial.
    pub reason: String,
    /// Messages that the canary handled.
    pub good: u64,
    /// Messages that failed on the canary and that the stable plugin handled.
    pub bad: u64,
    /// Messages that failed on both plugins, which do not count for or against the canary.
    pub both: u64,
    /// Handled messages that took much longer than the stable plugin's median.
    pub slow: u64,
    failing: f64,
    slowness: f64,
    #[serde(skip)]
    calls: VecDeque<Duration>,
}

/// Result of one message on the canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CanaryResult {
    /// The canary handled the message in this time.
    Good(Duration),
    /// The canary failed, and the stable plugin handled the message.
    Bad,
    /// Both plugins failed.
    Both,
}

impl Trial {
    pub(super) fn new(stable: &str, canary: &str) -> Self {
        Self {
            stable: stable.to_owned(),
            canary: canary.to_owned(),
            phase: TrialPhase::Trial,
            reason: String::new(),
            good: 0,
            bad: 0,
            both: 0,
            slow: 0,
            failing: 0.0,
            slowness: 0.0,
            calls: VecDeque::new(),
        }
    }

    /// Whether this is the trial of these two digests.
    pub(super) fn is_of(&self, stable: &str, canary: &str) -> bool {
        self.stable == stable && self.canary == canary
    }

    /// Messages that went to the canary.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.good + self.bad + self.both
    }

    /// Notes the duration of a call of the stable plugin.
    pub(super) fn stable_took(&mut self, took: Duration) {
        if self.calls.len() == STABLE_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(took);
    }

    /// Counts a message of the canary. With `decides`, the count may decide the trial. True when the trial is decided.
    pub(super) fn note(&mut self, seen: CanaryResult, decides: bool) -> bool {
        match seen {
            CanaryResult::Both => self.both += 1,
            CanaryResult::Bad => {
                self.bad += 1;
                self.failing += FAILING.weight(true);
            }
            CanaryResult::Good(took) => {
                self.good += 1;
                self.failing = (self.failing + FAILING.weight(false)).max(bound_of_good());
                if let Some(median) = self.median() {
                    let is_slow = took > median * SLOWER + SLOWER_BY;
                    self.slow += u64::from(is_slow);
                    // The sum stays at the bound, so that a canary that turns bad late is found as soon as an early one.
                    self.slowness = (self.slowness + SLOW.weight(is_slow)).max(bound_of_good());
                }
            }
        }
        if self.phase != TrialPhase::Trial || !decides {
            return false;
        }
        let (bad, messages) = (self.bad, self.messages());
        if self.failing >= bound_of_bad() {
            self.end(
                TrialPhase::RolledBack,
                format!("the canary failed {bad} of {messages} messages that the stable plugin handled"),
            );
        } else if self.slowness >= bound_of_bad() {
            let slow = self.slow;
            self.end(
                TrialPhase::RolledBack,
                format!("{slow} of {messages} calls of the canary took more than {SLOWER} times the median of the stable plugin"),
            );
        } else if self.failing <= bound_of_good() && self.slowness <= bound_of_good() {
            self.end(
                TrialPhase::Promoted,
                format!("the canary handled {messages} messages: {bad} failed, {} slow", self.slow),
            );
        }
        self.phase != TrialPhase::Trial
    }

    pub(super) fn end(&mut self, phase: TrialPhase, reason: String) {
        self.phase = phase;
        self.reason = reason;
    }

    fn median(&self) -> Option<Duration> {
        if self.calls.len() < STABLE_CALLS_MIN {
            return None;
        }
        let mut sorted: Vec<Duration> = self.calls.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

/// Whether a key belongs to a share in hundredths of a percent. The answer for a key and a route never changes.
pub(super) fn is_in_share(route: &str, key: &str, share: u16) -> bool {
    let mut hash = Sha256::new();
    hash.update(route.as_bytes());
    hash.update([0]);
    hash.update(key.as_bytes());
    let digest = hash.finalize();
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    number % 10_000 < u64::from(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a canary with a share of failures until the trial is decided; gives the phase and the number of messages.
    fn run(seed: u64, failing: f64, slow: f64, most: u64) -> (TrialPhase, u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut trial = Trial::new("a", "b");
        (0..STABLE_CALLS).for_each(|n| trial.stable_took(Duration::from_micros(900 + n as u64)));
        while trial.messages() < most {
            let took = Duration::from_millis(if random.f64() < slow { 9 } else { 1 });
            if trial.note(if random.f64() < failing { CanaryResult::Bad } else { CanaryResult::Good(took) }, true) {
                break;
            }
        }
        (trial.phase.clone(), trial.messages())
    }

    #[test]
    fn a_canary_that_fails_is_rolled_back_soon() {
        for (failing, within) in [(0.3, 200), (0.1, 600), (1.0, 3)] {
            let worst = (0..10_000).map(|seed| run(seed, failing, 0.0, 10_000)).collect::<Vec<_>>();
            let wrong = worst.iter().filter(|(phase, _)| *phase != TrialPhase::RolledBack).count();
            let longest = worst.iter().map(|(_, messages)| *messages).max();
            assert!(wrong <= 10, "{failing}: {wrong} of 10000 were not rolled back");
            assert!(longest <= Some(within), "{failing}: {longest:?}");
        }
    }

    #[test]
    fn a_good_canary_is_promoted() {
        let ends = (0..10_000).map(|seed| run(seed, 0.001, 0.01, 10_000)).collect::<Vec<_>>();
        let promoted = ends.iter().filter(|(phase, _)| *phase == TrialPhase::Promoted).count();
        assert!(promoted >= 9_800, "{promoted} of 10000");
        assert!(ends.iter().all(|(_, messages)| *messages < 1_000));
    }

    #[test]
    fn a_slow_canary_is_rolled_back() {
        let ends = (0..1_000).map(|seed| run(seed, 0.0, 0.9, 10_000)).collect::<Vec<_>>();
        assert!(ends.iter().all(|(phase, messages)| *phase == TrialPhase::RolledBack && *messages < 100));
    }

    #[test]
    fn failures_of_both_plugins_decide_nothing() {
        let mut trial = Trial::new("a", "b");
        assert!((0..10_000).all(|_| !trial.note(CanaryResult::Both, true)));
        assert!((0..10_000).all(|_| !trial.note(CanaryResult::Bad, false)), "by order only");
    }

    #[test]
    fn a_share_is_kept_and_sticks() {
        let hits = (0..100_000).filter(|n| is_in_share("r", &format!("key-{n}"), 1_000)).count();
        assert!((9_500..10_500).contains(&hits), "{hits} of 100000 at 10 %");
        assert!((0..100).all(|n| is_in_share("r", &format!("{n}"), 10_000) && !is_in_share("r", &format!("{n}"), 0)));
        let same = |n: u32| is_in_share("r", &n.to_string(), 5_000) == is_in_share("r", &n.to_string(), 5_000);
        assert!((0..1_000).all(same));
    }
}
