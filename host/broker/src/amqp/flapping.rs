//! Sessions that end too often: each may last long enough to look well when somebody looks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use trunkline_telemetry::Condition;

/// So many sessions may end within [`WITHIN`].
const ENDS_MAX: usize = 3;
const WITHIN: Duration = Duration::from_secs(60);

/// When sessions ended.
#[derive(Debug, Default)]
pub(super) struct Flapping {
    /// Within the time, and one more than may be.
    ends: VecDeque<Instant>,
    raised_until: Option<Instant>,
}

impl Flapping {
    /// A session ended. Raises the condition when there were too many; it goes when none has ended for a minute.
    pub(super) fn ended(&mut self, why: &str) {
        if self.note(Instant::now()) {
            let detail =
                format!("more than {ENDS_MAX} sessions with the broker ended within a minute; the last one: {why}");
            Condition::SessionFlapping.raise_for("", detail, WITHIN);
        }
    }

    /// Whether there were too many, or there have been and it has not been calm since.
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

impl Drop for Flapping {
    /// Who makes no sessions has nothing to show.
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
        let mut flapping = Flapping::default();
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
