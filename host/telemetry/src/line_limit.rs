//! A limit for log lines that one bad producer could cause by the thousand. The first line after a flood has the number
//! of lines that were left out.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// The limit of one kind of line.
#[derive(Debug, Default)]
pub(super) struct LineLimit(Mutex<Option<LimitWindow>>);

#[derive(Debug)]
struct LimitWindow {
    begun: Instant,
    lines: u32,
    left_out: u64,
}

impl LineLimit {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The number of lines that were left out since the last line, if a line may be written now.
    pub(super) fn allows(&self) -> Option<u64> {
        self.allows_at(Instant::now())
    }

    fn allows_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        let window = state.get_or_insert(LimitWindow { begun: now, lines: 0, left_out: 0 });
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
    fn a_flood_makes_ten_lines_a_second() {
        let (limit, begin) = (LineLimit::default(), Instant::now());
        let written = (0..1000).filter_map(|_| limit.allows_at(begin)).collect::<Vec<_>>();
        assert_eq!(written, [0; 10]);
        assert_eq!(limit.allows_at(begin + WINDOW), Some(990), "the next line has the number");
        assert_eq!(limit.allows_at(begin + WINDOW), Some(0));
    }
}
