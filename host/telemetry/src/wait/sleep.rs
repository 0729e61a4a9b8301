//! Sleeping.

use std::time::{Duration, Instant};

/// Waits until `time`. For deadlines; work that is tried again goes through [`RetryLoop`](super::RetryLoop).
#[expect(clippy::disallowed_methods, reason = "this module is the only one that may sleep")]
pub fn until(time: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(time.into())
}

/// Waits for `duration`. For deadlines; work that is tried again goes through [`RetryLoop`](super::RetryLoop).
#[expect(clippy::disallowed_methods, reason = "this module is the only one that may sleep")]
pub fn after(duration: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(duration)
}

/// Ticks with a period. The first tick is at once. Missed ticks are skipped.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this module is the only one that may sleep")]
pub fn every(period: Duration) -> tokio::time::Interval {
    let mut every = tokio::time::interval(period);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    every
}

/// Blocks the thread for `duration`. Not for async workers.
#[expect(clippy::disallowed_methods, reason = "this module is the only one that may sleep")]
pub fn block(duration: Duration) {
    std::thread::sleep(duration);
}
