//! Times as numbers, for headers and stores.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The largest timestamp that counts seconds: 9999-12-30T22:00:00Z. Later times cannot be written in RFC 3339 in every time
/// zone.
const TIMESTAMP_SECONDS_MAX: u64 = 253_402_207_200;

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

/// The time of an AMQP timestamp, since the Unix epoch. An AMQP timestamp counts seconds. JavaScript producers commonly write
/// `Date.now()`, which counts milliseconds. In seconds, such a number is after the year 9999.
#[must_use]
pub const fn timestamp_since_epoch(timestamp: u64) -> Duration {
    if timestamp <= TIMESTAMP_SECONDS_MAX { Duration::from_secs(timestamp) } else { Duration::from_millis(timestamp) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_may_count_milliseconds() {
        for (timestamp, expected) in [
            (0, Duration::ZERO),
            (1_700_000_000, Duration::from_secs(1_700_000_000)),
            (TIMESTAMP_SECONDS_MAX, Duration::from_secs(TIMESTAMP_SECONDS_MAX)),
            (1_700_000_000_500, Duration::from_millis(1_700_000_000_500)),
            (u64::MAX, Duration::from_millis(u64::MAX)),
        ] {
            assert_eq!(timestamp_since_epoch(timestamp), expected, "{timestamp}");
        }
    }
}
