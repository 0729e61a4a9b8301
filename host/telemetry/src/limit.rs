//! Log lines that one bad producer could write by the thousand: some a second, and then how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Counts the lines of one kind.
#[derive(Debug, Default)]
pub(super) struct Limit(Mutex<Option<Window>>);

#[derive(Debug)]
struct Window {
    begun: Instant,
    lines: u32,
    left_out: u64,
}

impl Limit {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether a line may be written now, and then how many were left out since the last one.
    pub(super) fn allows(&self) -> Option<u64> {
        self.allows_at(Instant::now())
    }

    fn allows_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = state.get_or_insert(Window { begun: now, lines: 0, left_out: 0 });
        if now.duration_since(window.begun) >= WINDOW {
            (window.begun, window.lines) = (now, 0);
        }
        if window.lines == LINES_MAX {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_in_ten_lines_a_second() {
        let (limit, begin) = (Limit::default(), Instant::now());
        let written = (0..1000).filter_map(|_| limit.allows_at(begin)).collect::<Vec<_>>();
        assert_eq!(written, [0; 10]);
        assert_eq!(limit.allows_at(begin + WINDOW), Some(990), "the next one says how many");
        assert_eq!(limit.allows_at(begin + WINDOW), Some(0));
    }
}
