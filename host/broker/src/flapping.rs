//! Sessions that end too often. Each of them may last long enough to look healthy in a single check.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use trunkline_telemetry::Condition;

/// The largest number of sessions that may end within [`WITHIN`].
const ENDS_MAX: usize = 3;
const WITHIN: Duration = Duration::from_secs(60);

/// Detects sessions that end too often, by the times at which sessions ended.
#[derive(Debug)]
pub(crate) struct FlappingDetector {
    /// The sessions in the words of the condition, for example `sessions with the broker`.
    sessions: &'static str,
    /// At most one more than [`ENDS_MAX`].
    ends: VecDeque<Instant>,
    raised_until: Option<Instant>,
}

impl FlappingDetector {
    pub(crate) const fn new(sessions: &'static str) -> Self {
        Self { sessions, ends: VecDeque::new(), raised_until: None }
    }

    /// Notes the end of a session. Raises the condition after too many ends; the condition is cleared when no session has
    /// ended for a minute.
    pub(crate) fn ended(&mut self, why: &str) {
        if self.note(Instant::now()) {
            let sessions = self.sessions;
            let detail =
                format!("more than {ENDS_MAX} {sessions} ended within a minute; the reason of the last end is: {why}");
            Condition::SessionFlapping.raise_for("", detail, WITHIN);
        }
    }

    /// Whether too many sessions ended, or did so before and another one has ended within the time.
    fn note(&mut self, now: Instant) -> bool {
        self.ends.push_back(now);
        if self.ends.len() > ENDS_MAX + 1 {
            self.ends.pop_front();
        }
        let are_too_many =
            self.ends.len() > ENDS_MAX && self.ends.front().is_some_and(|first| now.duration_since(*first) < WITHIN);
        let is_raised = self.raised_until.is_some_and(|until| now < until);
        if are_too_many || is_raised {
            self.raised_until = Some(now + WITHIN);
        }
        are_too_many || is_raised
    }
}

impl Drop for FlappingDetector {
    /// No session follows any more, so the condition no longer holds.
    fn drop(&mut self) {
        Condition::SessionFlapping.clear("");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_three_in_a_minute_are_too_many_until_it_has_been_calm() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut flapping = FlappingDetector::new("sessions");
        for (second, is_raised) in [
            (0, false),
            (20, false),
            (40, false),
            (60, false),
            (70, true),
            (120, true),
            (179, true),
            (240, false),
            (241, false),
            (242, false),
            (243, true),
        ] {
            assert_eq!(flapping.note(at(second)), is_raised, "after {second} s");
        }
        assert!(flapping.ends.len() <= ENDS_MAX + 1);
    }
}
