//! The time of the store, by which delays, TTLs and dedupe windows are measured: it only goes on, whatever happens to the
//! wall clock.
//!
//! All of them are durations. So while the store is open, time is what the system's boot clock counts, which goes on
//! while the machine sleeps and which nobody can set. Between two runs it is the smaller of what the boot clock and the
//! wall clock say, and after a reboot what the wall clock says: only there a wrong wall clock is believed, and one that was
//! set back counts as no time at all.

use std::sync::LazyLock;

use rustix::time::{ClockId, clock_gettime};

use trunkline_event::now_ms;

/// The wall clock was set when it moved by more than this against the boot clock.
const SET_MS: u64 = 2_000;
/// How old a kept anchor may get: after a crash and a reboot, so much more may pass than did.
const ANCHOR_MAX_AGE_MS: u64 = 24 * 3_600_000;

/// The time of the store at an instant, kept in the store: where the next run goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    /// The time of the store in milliseconds.
    pub(super) store_ms: u64,
    /// What the clocks said then.
    pub(super) moment: Moment,
}

/// What the clocks of the system say at an instant, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Since the Unix epoch.
    pub(super) wall_ms: u64,
    /// Since the machine started.
    pub(super) boot_ms: u64,
    /// Names the start of the machine; 0 when that is not known.
    pub(super) boot: u64,
}

impl Moment {
    fn now() -> Self {
        static BOOT: LazyLock<u64> = LazyLock::new(boot);
        Self { wall_ms: now_ms(), boot_ms: boot_ms(), boot: *BOOT }
    }

    /// How much time has passed since an earlier moment.
    fn since(self, earlier: Self) -> u64 {
        let by_wall = self.wall_ms.saturating_sub(earlier.wall_ms);
        let is_same_boot = self.boot == earlier.boot && self.boot != 0;
        if is_same_boot { by_wall.min(self.boot_ms.saturating_sub(earlier.boot_ms)) } else { by_wall }
    }
}

/// Milliseconds since the machine started, those included in which it slept.
fn boot_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1000).saturating_add(nanoseconds.unwrap_or(0) / 1_000_000)
}

/// The first 64 bits of the kernel's id of this start.
fn boot() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}

/// The clock of an open store.
#[derive(Debug)]
pub(super) struct Clock {
    base: Anchor,
}

impl Clock {
    /// Goes on from where an earlier run was; a store that has no anchor begins with the wall clock's time.
    pub(super) fn resume(anchor: Option<Anchor>) -> Self {
        let moment = Moment::now();
        let store_ms =
            anchor.map_or(moment.wall_ms, |anchor| anchor.store_ms.saturating_add(moment.since(anchor.moment)));
        Self { base: Anchor { store_ms, moment } }
    }

    /// Milliseconds; near those since the Unix epoch where the wall clock was never wrong.
    pub(super) fn now_ms(&self) -> u64 {
        self.base.store_ms.saturating_add(boot_ms().saturating_sub(self.base.moment.boot_ms))
    }

    /// To be kept.
    pub(super) fn anchor(&self) -> Anchor {
        Anchor { store_ms: self.now_ms(), moment: Moment::now() }
    }

    /// Whether a kept anchor would mislead the next run, since the wall clock was set, or is getting old.
    pub(super) fn is_stale(&self, kept: Anchor) -> bool {
        let now = Moment::now();
        let by_wall = now.wall_ms.abs_diff(kept.moment.wall_ms);
        let by_boot = now.boot_ms.abs_diff(kept.moment.boot_ms);
        let went_back = now.wall_ms < kept.moment.wall_ms && by_wall > SET_MS;
        went_back || by_wall.abs_diff(by_boot) > SET_MS || by_boot > ANCHOR_MAX_AGE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_MS: u64 = 365 * 24 * 3_600_000;
    const THEN: Moment = Moment { wall_ms: 50 * YEAR_MS, boot_ms: 1_000_000, boot: 7 };

    #[test]
    fn between_two_runs_the_slower_clock_counts() {
        let later = |wall_ms: u64, boot_ms: u64, boot: u64| Moment { wall_ms, boot_ms, boot }.since(THEN);
        let (wall, boot) = (THEN.wall_ms, THEN.boot_ms);
        assert_eq!(later(wall + 5_000, boot + 5_000, 7), 5_000);
        assert_eq!(later(wall + YEAR_MS, boot + 5_000, 7), 5_000, "the wall clock was set a year ahead");
        assert_eq!(later(wall - YEAR_MS, boot + 5_000, 7), 0, "it was set a year back");
        assert_eq!(later(0, boot + 5_000, 7), 0, "it is at or before 1970");
        assert_eq!(later(wall + 5_000, boot + YEAR_MS, 7), 5_000, "another time namespace");
        assert_eq!(later(wall + 5_000, 0, 7), 0, "another time namespace");
        assert_eq!(later(wall + 60_000, 3_000, 8), 60_000, "the machine was started anew");
        assert_eq!(later(wall - 60_000, 3_000, 8), 0);
        assert_eq!(Moment { boot: 0, ..THEN }.since(Moment { boot: 0, boot_ms: 9, ..THEN }), 0, "nobody knows");
    }

    #[test]
    fn the_time_of_the_store_never_goes_back() {
        let now = Moment::now();
        for wall_ms in [0, now.wall_ms - YEAR_MS, now.wall_ms, now.wall_ms + YEAR_MS, u64::MAX] {
            let moment = Moment { wall_ms, ..now };
            let anchor = Anchor { store_ms: 123_456, moment };
            let clock = Clock::resume(Some(anchor));
            let first = clock.now_ms();
            assert!((123_456..183_456).contains(&first), "{first} with a wall clock that was at {wall_ms}");
            assert!(clock.now_ms() >= first);
            let is_set = wall_ms.abs_diff(now.wall_ms) > SET_MS;
            assert_eq!(clock.is_stale(anchor), is_set, "{wall_ms}");
        }
        let end = Clock::resume(Some(Anchor { store_ms: u64::MAX, moment: now }));
        assert_eq!(end.now_ms(), u64::MAX, "nothing wraps at the end of time");
        let begun = Clock::resume(None);
        assert!(begun.now_ms().abs_diff(now_ms()) < 60_000);
    }
}
