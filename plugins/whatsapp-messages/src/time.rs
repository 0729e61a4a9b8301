//! Seconds since the Unix epoch as RFC 3339, the form of times in the queues.

use trunkline_plugin::time::Timestamp;

/// 9999-12-31T23:59:59Z; later years have five digits.
const LAST: u64 = 253_402_300_799;

/// The time as `2026-11-21T10:00:00Z`.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let seconds = i64::try_from(seconds.min(LAST)).unwrap_or_default();
    Timestamp::from_millis(seconds * 1000).to_string()
}

/// The current time, in whole seconds.
#[must_use]
pub fn now() -> String {
    rfc3339(u64::try_from(Timestamp::now().millis() / 1000).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_763_719_200, "2025-11-21T10:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST, "9999-12-31T23:59:59Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
