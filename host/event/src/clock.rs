//! Times as numbers, for headers and stores.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A duration in whole milliseconds, at most what 64 bits hold.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since the Unix epoch, by the wall clock.
#[must_use]
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}
