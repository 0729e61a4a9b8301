//! The rate of a route: a token bucket that holds a small burst, and at least one event.

use std::time::Duration;

use trunkline_config::Rate;

#[derive(Debug)]
pub(super) struct TokenBucket {
    /// Time between two events.
    cost: Duration,
    /// Events that may start at once after a pause.
    burst: u32,
    /// Time at which the bucket is full again.
    full_at: Duration,
}

impl TokenBucket {
    /// A bucket with a burst of a tenth of a second.
    pub(super) fn new(rate: Rate) -> Self {
        Self::with_burst(rate, Duration::from_millis(100))
    }

    /// A bucket with the burst of that time.
    pub(super) fn with_burst(rate: Rate, within: Duration) -> Self {
        let cost = rate.per / rate.events.max(1);
        let burst = within.as_nanos() / cost.as_nanos().max(1);
        Self { cost, burst: u32::try_from(burst).unwrap_or(u32::MAX).max(1), full_at: Duration::ZERO }
    }

    pub(super) fn take(&mut self, now: Duration) -> bool {
        if self.deadline(now).is_some() {
            return false;
        }
        self.full_at = self.full_at.max(now) + self.cost;
        true
    }

    /// Reserves the next free time, and gives it.
    pub(super) fn reserve(&mut self, now: Duration) -> Duration {
        let turn = self.deadline(now).unwrap_or(now);
        self.full_at = self.full_at.max(now) + self.cost;
        turn
    }

    /// Whether every taken event is paid back.
    pub(super) fn is_full(&self, now: Duration) -> bool {
        self.full_at <= now
    }

    /// Time at which the next event may start, if not now.
    pub(super) fn deadline(&self, now: Duration) -> Option<Duration> {
        let free_at = (self.full_at + self.cost).saturating_sub(self.cost.saturating_mul(self.burst));
        (free_at > now).then_some(free_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(rate: Rate, for_ms: u64) -> u64 {
        let mut bucket = TokenBucket::new(rate);
        (0..for_ms).map(|ms| u64::from(bucket.take(Duration::from_millis(ms)))).sum()
    }

    #[test]
    fn the_rate_holds_over_time_and_bursts_are_small() {
        let per_second = |events| Rate { events, per: Duration::from_secs(1) };
        for (rate, expected) in [(per_second(10), 100), (per_second(100), 1010), (per_second(1), 10)] {
            let seen = starts(rate, 10_000);
            assert!(seen.abs_diff(expected) <= 10, "{rate:?}: {seen}");
        }
        assert_eq!(starts(Rate { events: 2, per: Duration::from_secs(60) }, 59_000), 2);
        let mut bucket = TokenBucket::new(per_second(100));
        let burst = (0..100).filter(|_| bucket.take(Duration::from_secs(50))).count();
        assert_eq!(burst, 10, "a tenth of a second's worth");
    }
}
