//! A canary on trial: who gets it, what is counted, and the sequential test that promotes it or rolls it back.
//!
//! A canary's message costs nothing: what fails on the canary runs at once on the stable plugin, and only what the stable
//! one then does well counts against the canary. Two sequential probability ratio tests (Wald 1945) run at the same time, one of
//! such failures and one of calls much slower than the stable plugin's median. Either of them rolls back; it takes both to promote. A
//! verdict holds for a pair of digests: another file on either side begins another trial. Knows no clock and no file.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A share of failures that is as good as none, and one that is not acceptable.
const FAILING: Test = Test { good: 0.005, bad: 0.05 };
/// The same of calls that take more than [`SLOWER`] times the median and [`SLOWER_BY`] more.
const SLOW: Test = Test { good: 0.1, bad: 0.5 };
const SLOWER: u32 = 2;
const SLOWER_BY: Duration = Duration::from_millis(1);
/// How often a good canary may be rolled back, and a bad one promoted.
const ROLLED_BACK_WRONGLY: f64 = 0.01;
const PROMOTED_WRONGLY: f64 = 0.001;
/// Calls of the stable plugin that its median is taken of, and how many there must be.
const STABLE_CALLS: usize = 101;
const STABLE_CALLS_MIN: usize = 11;

/// Two shares that are to be told apart.
struct Test {
    good: f64,
    bad: f64,
}

impl Test {
    /// What one observation adds to the logarithm of the likelihood ratio.
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

/// Where a trial stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The canary gets its share.
    Trial,
    /// It gets everything.
    Promoted,
    /// It gets nothing.
    RolledBack,
}

/// One canary against one stable plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trial {
    /// Digests of the two.
    pub stable: String,
    /// The other.
    pub canary: String,
    /// Where it stands.
    pub phase: Phase,
    /// Why it stands there; empty during the trial.
    pub reason: String,
    /// Messages that the canary handled well.
    pub good: u64,
    /// Those that it failed and the stable plugin handled.
    pub bad: u64,
    /// Those that both failed: they say nothing of the canary.
    pub both: u64,
    /// Of the good ones, those that took much longer than the stable plugin's median.
    pub slow: u64,
    failing: f64,
    slowness: f64,
    #[serde(skip)]
    calls: VecDeque<Duration>,
}

/// What one message on the canary came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It handled it.
    Good(Duration),
    /// It failed; the stable plugin handled it.
    Bad,
    /// Both failed.
    Both,
}

impl Trial {
    pub(super) fn new(stable: &str, canary: &str) -> Self {
        Self {
            stable: stable.to_owned(),
            canary: canary.to_owned(),
            phase: Phase::Trial,
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

    /// Whether this is the trial of these two.
    pub(super) fn is_of(&self, stable: &str, canary: &str) -> bool {
        self.stable == stable && self.canary == canary
    }

    /// Messages that went to the canary.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.good + self.bad + self.both
    }

    /// A call of the stable plugin took so long.
    pub(super) fn stable_took(&mut self, took: Duration) {
        if self.calls.len() == STABLE_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(took);
    }

    /// Counts a message of the canary, and decides the trial if it may; true when that decided it.
    pub(super) fn note(&mut self, seen: Seen, decides: bool) -> bool {
        match seen {
            Seen::Both => self.both += 1,
            Seen::Bad => {
                self.bad += 1;
                self.failing += FAILING.weight(true);
            }
            Seen::Good(took) => {
                self.good += 1;
                self.failing = (self.failing + FAILING.weight(false)).max(bound_of_good());
                if let Some(median) = self.median() {
                    let is_slow = took > median * SLOWER + SLOWER_BY;
                    self.slow += u64::from(is_slow);
                    // Kept at the bound: a canary that turns bad late is seen as soon as one that began so.
                    self.slowness = (self.slowness + SLOW.weight(is_slow)).max(bound_of_good());
                }
            }
        }
        if self.phase != Phase::Trial || !decides {
            return false;
        }
        let (bad, messages) = (self.bad, self.messages());
        if self.failing >= bound_of_bad() {
            self.end(
                Phase::RolledBack,
                format!("it failed {bad} of {messages} messages that the stable plugin handled"),
            );
        } else if self.slowness >= bound_of_bad() {
            let slow = self.slow;
            self.end(
                Phase::RolledBack,
                format!("{slow} of {messages} calls took over {SLOWER} times the stable median"),
            );
        } else if self.failing <= bound_of_good() && self.slowness <= bound_of_good() {
            self.end(Phase::Promoted, format!("{messages} messages, {bad} failed, {} slow", self.slow));
        }
        self.phase != Phase::Trial
    }

    pub(super) fn end(&mut self, phase: Phase, reason: String) {
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

/// Whether a key belongs to the share, in hundredths of a percent: always the same answer for a key and a route.
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

    /// Runs a canary that fails so often until it is decided; gives the phase and how many messages that took.
    fn run(seed: u64, failing: f64, slow: f64, most: u64) -> (Phase, u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut trial = Trial::new("a", "b");
        (0..STABLE_CALLS).for_each(|n| trial.stable_took(Duration::from_micros(900 + n as u64)));
        while trial.messages() < most {
            let took = Duration::from_millis(if random.f64() < slow { 9 } else { 1 });
            if trial.note(if random.f64() < failing { Seen::Bad } else { Seen::Good(took) }, true) {
                break;
            }
        }
        (trial.phase.clone(), trial.messages())
    }

    #[test]
    fn a_canary_that_fails_is_rolled_back_soon() {
        for (failing, within) in [(0.3, 200), (0.1, 600), (1.0, 3)] {
            let worst = (0..10_000).map(|seed| run(seed, failing, 0.0, 10_000)).collect::<Vec<_>>();
            let wrong = worst.iter().filter(|(phase, _)| *phase != Phase::RolledBack).count();
            let longest = worst.iter().map(|(_, messages)| *messages).max();
            assert!(wrong <= 10, "{failing}: {wrong} of 10000 were not rolled back");
            assert!(longest <= Some(within), "{failing}: {longest:?}");
        }
    }

    #[test]
    fn a_good_canary_is_promoted() {
        let ends = (0..10_000).map(|seed| run(seed, 0.001, 0.01, 10_000)).collect::<Vec<_>>();
        let promoted = ends.iter().filter(|(phase, _)| *phase == Phase::Promoted).count();
        assert!(promoted >= 9_800, "{promoted} of 10000");
        assert!(ends.iter().all(|(_, messages)| *messages < 1_000));
    }

    #[test]
    fn a_slow_canary_is_rolled_back() {
        let ends = (0..1_000).map(|seed| run(seed, 0.0, 0.9, 10_000)).collect::<Vec<_>>();
        assert!(ends.iter().all(|(phase, messages)| *phase == Phase::RolledBack && *messages < 100));
    }

    #[test]
    fn what_both_fail_decides_nothing() {
        let mut trial = Trial::new("a", "b");
        assert!((0..10_000).all(|_| !trial.note(Seen::Both, true)));
        assert!((0..10_000).all(|_| !trial.note(Seen::Bad, false)), "by order only");
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
