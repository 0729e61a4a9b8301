//! The clock of the store, which measures delays, TTLs and dedupe windows. Its time never goes back, whatever happens to
//! the wall clock.
//!
//! Delays, TTLs and dedupe windows are durations. While the store is open, the clock follows the system's boot clock,
//! which counts while the machine sleeps and cannot be set. Between two runs the smaller of the differences of boot clock
//! and wall clock has passed. After a reboot only the wall clock is left: a wrong wall clock counts in that case, and a
//! wall clock that was set back counts as no time at all.

use std::sync::LazyLock;

use rustix::time::{ClockId, clock_gettime};

use trunkline_event::now_ms;

/// The wall clock counts as set when it moved by more than this against the boot clock.
const CLOCK_SET_MIN_MS: u64 = 2_000;
/// Longest age of the anchor on disk. After a crash and a reboot the clock may be wrong by so much.
const ANCHOR_MAX_AGE_MS: u64 = 24 * 3_600_000;

/// The time of the store at an instant. The store keeps it, and the next run continues from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockAnchor {
    /// The time of the store in milliseconds.
    pub(crate) store_ms: u64,
    /// Readings of the system's clocks at that instant.
    pub(crate) reading: ClockReading,
}

/// Readings of the system's clocks at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockReading {
    /// Milliseconds since the Unix epoch.
    pub(crate) wall_ms: u64,
    /// Milliseconds since the machine started.
    pub(crate) boot_ms: u64,
    /// Identifies the start of the machine; 0 if unknown.
    pub(crate) boot: u64,
}

impl ClockReading {
    fn now() -> Self {
        static BOOT: LazyLock<u64> = LazyLock::new(boot);
        Self { wall_ms: now_ms(), boot_ms: boot_ms(), boot: *BOOT }
    }

    /// Milliseconds since an earlier reading.
    fn since(self, earlier: Self) -> u64 {
        let by_wall = self.wall_ms.saturating_sub(earlier.wall_ms);
        let is_same_boot = self.boot == earlier.boot && self.boot != 0;
        if is_same_boot { by_wall.min(self.boot_ms.saturating_sub(earlier.boot_ms)) } else { by_wall }
    }
}

/// Milliseconds since the machine started, including the time in which it slept.
fn boot_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1000).saturating_add(nanoseconds.unwrap_or(0) / 1_000_000)
}

/// The first 64 bits of the kernel's boot id.
fn boot() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}

/// The clock of an open store.
#[derive(Debug)]
pub(crate) struct StoreClock {
    base: ClockAnchor,
}

impl StoreClock {
    /// Continues from the anchor of an earlier run. A store without an anchor begins with the time of the wall clock.
    pub(crate) fn resume(anchor: Option<ClockAnchor>) -> Self {
        let reading = ClockReading::now();
        let store_ms =
            anchor.map_or(reading.wall_ms, |anchor| anchor.store_ms.saturating_add(reading.since(anchor.reading)));
        Self { base: ClockAnchor { store_ms, reading } }
    }

    /// Milliseconds, close to those since the Unix epoch as long as the wall clock was never wrong.
    pub(crate) fn now_ms(&self) -> u64 {
        self.base.store_ms.saturating_add(boot_ms().saturating_sub(self.base.reading.boot_ms))
    }

    /// The anchor to write into the store.
    pub(crate) fn anchor(&self) -> ClockAnchor {
        ClockAnchor { store_ms: self.now_ms(), reading: ClockReading::now() }
    }

    /// Whether the anchor on disk has to be written again, because the wall clock was set or the anchor is old.
    pub(crate) fn is_stale(&self, kept: ClockAnchor) -> bool {
        let now = ClockReading::now();
        let by_wall = now.wall_ms.abs_diff(kept.reading.wall_ms);
        let by_boot = now.boot_ms.abs_diff(kept.reading.boot_ms);
        let went_back = now.wall_ms < kept.reading.wall_ms && by_wall > CLOCK_SET_MIN_MS;
        went_back || by_wall.abs_diff(by_boot) > CLOCK_SET_MIN_MS || by_boot > ANCHOR_MAX_AGE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_MS: u64 = 365 * 24 * 3_600_000;
    const THEN: ClockReading = ClockReading { wall_ms: 50 * YEAR_MS, boot_ms: 1_000_000, boot: 7 };

    #[test]
    fn between_two_runs_the_slower_clock_counts() {
        let later = |wall_ms: u64, boot_ms: u64, boot: u64| ClockReading { wall_ms, boot_ms, boot }.since(THEN);
        let (wall, boot) = (THEN.wall_ms, THEN.boot_ms);
        assert_eq!(later(wall + 5_000, boot + 5_000, 7), 5_000);
        assert_eq!(later(wall + YEAR_MS, boot + 5_000, 7), 5_000, "the wall clock was set a year ahead");
        assert_eq!(later(wall - YEAR_MS, boot + 5_000, 7), 0, "it was set a year back");
        assert_eq!(later(0, boot + 5_000, 7), 0, "it is at or before 1970");
        assert_eq!(later(wall + 5_000, boot + YEAR_MS, 7), 5_000, "another time namespace");
        assert_eq!(later(wall + 5_000, 0, 7), 0, "another time namespace");
        assert_eq!(later(wall + 60_000, 3_000, 8), 60_000, "the machine was rebooted");
        assert_eq!(later(wall - 60_000, 3_000, 8), 0);
        assert_eq!(
            ClockReading { boot: 0, ..THEN }.since(ClockReading { boot: 0, boot_ms: 9, ..THEN }),
            0,
            "the boot is unknown"
        );
    }

    #[test]
    fn the_time_of_the_store_never_goes_back() {
        let now = ClockReading::now();
        for wall_ms in [0, now.wall_ms - YEAR_MS, now.wall_ms, now.wall_ms + YEAR_MS, u64::MAX] {
            let reading = ClockReading { wall_ms, ..now };
            let anchor = ClockAnchor { store_ms: 123_456, reading };
            let clock = StoreClock::resume(Some(anchor));
            let first = clock.now_ms();
            assert!((123_456..183_456).contains(&first), "{first} with a wall clock that was at {wall_ms}");
            assert!(clock.now_ms() >= first);
            let is_set = wall_ms.abs_diff(now.wall_ms) > CLOCK_SET_MIN_MS;
            assert_eq!(clock.is_stale(anchor), is_set, "{wall_ms}");
        }
        let end = StoreClock::resume(Some(ClockAnchor { store_ms: u64::MAX, reading: now }));
        assert_eq!(end.now_ms(), u64::MAX, "the largest time does not wrap");
        let begun = StoreClock::resume(None);
        assert!(begun.now_ms().abs_diff(now_ms()) < 60_000);
    }
}
