//! A limit for a log line that a loop would write after every failed attempt. The loop writes the first line with a reason at
//! once. The loop then writes at most one line a minute with the same reason, with the number of omitted lines.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The shortest time between two lines with the same reason.
const REPEATED_AFTER: Duration = Duration::from_secs(60);
/// Largest number of reasons that the limit remembers.
const REASONS_MAX: usize = 16;

/// The limit for one log line of one loop.
#[derive(Debug, Default)]
pub struct RepeatLimit(BTreeMap<String, RepeatedReason>);

#[derive(Debug)]
struct RepeatedReason {
    written: Instant,
    left_out: u64,
}

impl RepeatLimit {
    /// The number of omitted lines with this reason since the last line, if the loop may write a line now.
    pub fn allows(&mut self, reason: &str) -> Option<u64> {
        self.allows_at(reason, Instant::now())
    }

    /// Forgets every reason, because the work succeeded. The loop then writes the next failure at once.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn allows_at(&mut self, reason: &str, now: Instant) -> Option<u64> {
        if let Some(known) = self.0.get_mut(reason) {
            if now.duration_since(known.written) < REPEATED_AFTER {
                known.left_out += 1;
                return None;
            }
            known.written = now;
            return Some(std::mem::take(&mut known.left_out));
        }
        if self.0.len() == REASONS_MAX {
            self.0.clear();
        }
        self.0.insert(reason.to_owned(), RepeatedReason { written: now, left_out: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_written_once_a_minute() {
        let (mut limit, begin) = (RepeatLimit::default(), Instant::now());
        assert_eq!(limit.allows_at("refused", begin), Some(0));
        let repeats = (1..60).filter_map(|second| limit.allows_at("refused", begin + Duration::from_secs(second)));
        assert_eq!(repeats.count(), 0);
        assert_eq!(limit.allows_at("another reason", begin), Some(0));
        assert_eq!(limit.allows_at("refused", begin + REPEATED_AFTER), Some(59));
        limit.clear();
        assert_eq!(
            limit.allows_at("refused", begin + REPEATED_AFTER),
            Some(0),
            "the first failure after a success has a line"
        );
        for number in 0..10 * REASONS_MAX {
            limit.allows_at(&number.to_string(), begin);
        }
        assert!(limit.0.len() <= REASONS_MAX);
    }
}
