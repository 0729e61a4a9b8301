//! Rates over the last seconds.

/// Number of whole seconds over which a rate is the mean.
const OVER_S: u64 = 5;
/// Number of seconds that are kept: the whole seconds and the current one.
const KEPT: usize = OVER_S as usize + 1;

/// Counts of an occurrence for each of the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    counts: [u64; KEPT],
    /// The latest second in which something was counted.
    last_s: u64,
}

impl Meter {
    /// Counts one occurrence at a time of the store.
    pub(crate) fn count(&mut self, now_ms: u64) {
        self.count_at(now_ms / 1000);
    }

    /// Occurrences a second.
    pub(crate) fn rate(&self, now_ms: u64) -> f64 {
        self.rate_at(now_ms / 1000)
    }

    /// Counts one occurrence. A time before the latest second counts in the latest second.
    fn count_at(&mut self, now_s: u64) {
        if now_s > self.last_s {
            let passed = (now_s - self.last_s).min(KEPT as u64);
            for second in 0..passed {
                self.counts[place(now_s.saturating_sub(second))] = 0;
            }
            self.last_s = now_s;
        }
        let count = &mut self.counts[place(self.last_s)];
        *count = count.saturating_add(1);
    }

    fn rate_at(&self, now_s: u64) -> f64 {
        let whole = now_s.saturating_sub(OVER_S)..now_s;
        let kept = self.last_s.saturating_sub(KEPT as u64 - 1)..=self.last_s;
        let count: u64 = whole.filter(|second| kept.contains(second)).map(|second| self.counts[place(second)]).sum();
        #[expect(clippy::cast_precision_loss, reason = "five seconds have fewer than 2^52 occurrences")]
        let (count, over) = (count as f64, OVER_S as f64);
        count / over
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % KEPT as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_five_whole_seconds_count() {
        let mut meter = Meter::default();
        for (second, times) in [(100, 10), (101, 20), (103, 5)] {
            (0..times).for_each(|_| meter.count_at(second));
        }
        for (now, expected) in
            [(100, 0.0), (101, 2.0), (102, 6.0), (104, 7.0), (105, 7.0), (106, 5.0), (107, 1.0), (109, 0.0)]
        {
            assert!((meter.rate_at(now) - expected).abs() < 1e-9, "{now}: {}", meter.rate_at(now));
        }
        meter.count_at(50);
        assert!((meter.rate_at(104) - 7.2).abs() < 1e-9, "a time before the latest second");
        meter.count_at(1_000_000);
        assert!((meter.rate_at(1_000_001) - 0.2).abs() < 1e-9, "old seconds do not count");
    }
}
