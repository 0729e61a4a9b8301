//! Counters that are registered once and looked up by their label.

use metrics::Counter;

/// Registers the series at 0, because `rate()` misses the first increment of a new series. A series that exists keeps its count.
pub(super) fn zero(counter: Counter) -> Counter {
    counter.absolute(0);
    counter
}

/// Increments the counter of `key`.
pub(super) fn count<K: PartialEq>(counters: &[(K, Counter)], key: K, by: u64) {
    if let Some((_, counter)) = counters.iter().find(|(known, _)| *known == key) {
        counter.increment(by);
    }
}
