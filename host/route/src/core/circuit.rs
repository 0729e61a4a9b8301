//! The circuit breaker: stops consuming after many failures, and probes with one event.

use std::collections::VecDeque;
use std::time::Duration;

use super::action::CircuitState;
use trunkline_config::CircuitBreaker;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BreakerState {
    Closed,
    /// No event runs until this time.
    Open(Duration),
    /// One event runs as a probe, and its outcome decides.
    Probing {
        begun: bool,
    },
}

#[derive(Debug)]
pub(super) struct Circuit {
    settings: CircuitBreaker,
    state: BreakerState,
    failures: VecDeque<Duration>,
}

impl Circuit {
    pub(super) fn new(settings: CircuitBreaker) -> Self {
        Self { settings, state: BreakerState::Closed, failures: VecDeque::new() }
    }

    /// Whether deliveries may be taken as usual.
    pub(super) fn lets_in(&self) -> bool {
        self.state == BreakerState::Closed
    }

    /// Whether one delivery may be taken as a probe.
    pub(super) fn is_probing(&self) -> bool {
        matches!(self.state, BreakerState::Probing { .. })
    }

    /// Whether another event may start.
    pub(super) fn admit(&mut self, now: Duration) -> bool {
        self.tick(now);
        match &mut self.state {
            BreakerState::Closed => true,
            BreakerState::Probing { begun } if !*begun => {
                *begun = true;
                true
            }
            BreakerState::Open(_) | BreakerState::Probing { .. } => false,
        }
    }

    /// Notes the time.
    pub(super) fn tick(&mut self, now: Duration) {
        if matches!(self.state, BreakerState::Open(until) if until <= now) {
            self.state = BreakerState::Probing { begun: false };
        }
    }

    /// Lets another probe run, because the last probe ended without an outcome.
    pub(super) fn forget_probe(&mut self) {
        if let BreakerState::Probing { begun } = &mut self.state {
            *begun = false;
        }
    }

    /// Notes an outcome. Gives the new state when the breaker opened or closed.
    pub(super) fn note(&mut self, failed: bool, now: Duration) -> Option<CircuitState> {
        match (self.state, failed) {
            (BreakerState::Probing { .. }, false) => {
                self.state = BreakerState::Closed;
                self.failures.clear();
                Some(CircuitState::Closed)
            }
            (BreakerState::Probing { .. }, true) => {
                self.state = BreakerState::Open(now + self.settings.pause);
                None
            }
            (BreakerState::Closed, true) => {
                self.failures.push_back(now);
                let begin = now.saturating_sub(self.settings.window);
                while self.failures.front().is_some_and(|at| *at < begin) {
                    self.failures.pop_front();
                }
                if self.failures.len() < self.settings.failures as usize {
                    return None;
                }
                self.failures.clear();
                self.state = BreakerState::Open(now + self.settings.pause);
                Some(CircuitState::Open)
            }
            (BreakerState::Closed, false) | (BreakerState::Open(_), _) => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.state {
            BreakerState::Open(until) => Some(until),
            BreakerState::Closed | BreakerState::Probing { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn opens_after_a_storm_probes_and_closes() {
        let mut circuit = Circuit::new(CircuitBreaker { failures: 3, window: s(10), pause: s(5) });
        assert_eq!(circuit.note(true, s(0)), None);
        assert_eq!(circuit.note(true, s(20)), None, "the first one is out of the window");
        assert_eq!(circuit.note(false, s(21)), None);
        assert_eq!(circuit.note(true, s(22)), None);
        assert_eq!(circuit.note(true, s(23)), Some(CircuitState::Open));
        assert!(!circuit.admit(s(24)) && !circuit.lets_in());
        assert_eq!(circuit.deadline(), Some(s(28)));
        assert!(circuit.admit(s(28)), "one probe");
        assert!(!circuit.admit(s(28)), "and no second one");
        assert_eq!(circuit.note(true, s(29)), None, "it stays open");
        assert!(!circuit.admit(s(33)));
        assert!(circuit.admit(s(34)));
        circuit.forget_probe();
        assert!(circuit.admit(s(34)), "the probe was left to the broker: another one");
        assert_eq!(circuit.note(false, s(35)), Some(CircuitState::Closed));
        assert!(circuit.lets_in() && circuit.admit(s(35)) && circuit.admit(s(35)));
    }
}
