//! Stops consuming after a storm of failures, and asks with one event whether it is over.

use std::collections::VecDeque;
use std::time::Duration;

use trunkline_config::CircuitBreaker;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// Nothing runs until then.
    Open(Duration),
    /// One event runs; its outcome decides.
    Probing {
        begun: bool,
    },
}

#[derive(Debug)]
pub(super) struct Circuit {
    settings: CircuitBreaker,
    state: State,
    failures: VecDeque<Duration>,
}

impl Circuit {
    pub(super) fn new(settings: CircuitBreaker) -> Self {
        Self { settings, state: State::Closed, failures: VecDeque::new() }
    }

    /// Whether deliveries may be taken as usual.
    pub(super) fn lets_in(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether one delivery may be taken, to see.
    pub(super) fn is_probing(&self) -> bool {
        matches!(self.state, State::Probing { .. })
    }

    /// Whether one more may start.
    pub(super) fn admit(&mut self, now: Duration) -> bool {
        self.tick(now);
        match &mut self.state {
            State::Closed => true,
            State::Probing { begun } if !*begun => {
                *begun = true;
                true
            }
            State::Open(_) | State::Probing { .. } => false,
        }
    }

    /// Time passes.
    pub(super) fn tick(&mut self, now: Duration) {
        if matches!(self.state, State::Open(until) if until <= now) {
            self.state = State::Probing { begun: false };
        }
    }

    /// Another probe may run: the last one ended without an outcome.
    pub(super) fn unprobe(&mut self) {
        if let State::Probing { begun } = &mut self.state {
            *begun = false;
        }
    }

    /// An outcome. Gives the new state when it changed: true for open.
    pub(super) fn note(&mut self, failed: bool, now: Duration) -> Option<bool> {
        match (self.state, failed) {
            (State::Probing { .. }, false) => {
                self.state = State::Closed;
                self.failures.clear();
                Some(false)
            }
            (State::Probing { .. }, true) => {
                self.state = State::Open(now + self.settings.pause);
                None
            }
            (State::Closed, true) => {
                self.failures.push_back(now);
                let begin = now.saturating_sub(self.settings.window);
                while self.failures.front().is_some_and(|at| *at < begin) {
                    self.failures.pop_front();
                }
                if self.failures.len() < self.settings.failures as usize {
                    return None;
                }
                self.failures.clear();
                self.state = State::Open(now + self.settings.pause);
                Some(true)
            }
            (State::Closed, false) | (State::Open(_), _) => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Open(until) => Some(until),
            State::Closed | State::Probing { .. } => None,
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
        assert_eq!(circuit.note(true, s(23)), Some(true));
        assert!(!circuit.admit(s(24)) && !circuit.lets_in());
        assert_eq!(circuit.deadline(), Some(s(28)));
        assert!(circuit.admit(s(28)), "one probe");
        assert!(!circuit.admit(s(28)), "and no second one");
        assert_eq!(circuit.note(true, s(29)), None, "it stays open");
        assert!(!circuit.admit(s(33)));
        assert!(circuit.admit(s(34)));
        circuit.unprobe();
        assert!(circuit.admit(s(34)), "the probe was left to the broker: another one");
        assert_eq!(circuit.note(false, s(35)), Some(false));
        assert!(circuit.lets_in() && circuit.admit(s(35)) && circuit.admit(s(35)));
    }
}
