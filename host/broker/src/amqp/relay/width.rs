//! The number of due messages that are held at a time, as arithmetic.

/// Messages that are relayed at a time.
const PREFETCH_MAX: u16 = 64;
/// Messages that are relayed at a time while their sizes are unknown.
const PREFETCH_FIRST: u16 = 8;
/// Bytes of the bodies that are held at a time, by the largest of the last bodies.
const BYTES_MAX: usize = 64 << 20;

/// The prefetch of the relay. It begins small, grows while bodies are small, and shrinks as soon as a body is large.
#[derive(Debug)]
pub(crate) struct RelayWidth {
    prefetch: u16,
    /// Deliveries since the prefetch was last looked at.
    seen: u16,
    /// The largest body among these deliveries.
    largest: usize,
}

impl RelayWidth {
    pub(crate) const fn new() -> Self {
        Self { prefetch: PREFETCH_FIRST, seen: 0, largest: 0 }
    }

    pub(crate) const fn prefetch(&self) -> u16 {
        self.prefetch
    }

    /// Notes the size of a body that arrived. Returns the new prefetch when it changes by half or more, because each change
    /// costs the broker a consumer.
    pub(crate) fn arrived(&mut self, bytes: usize) -> Option<u16> {
        self.seen += 1;
        self.largest = self.largest.max(bytes);
        let fits = u16::try_from(BYTES_MAX / self.largest.max(1)).unwrap_or(u16::MAX).clamp(1, PREFETCH_MAX);
        let shrinks = fits <= self.prefetch / 2;
        if !shrinks && self.seen < self.prefetch {
            return None;
        }
        (self.seen, self.largest) = (0, 0);
        let is_other = shrinks || fits / 2 >= self.prefetch;
        if is_other {
            self.prefetch = fits;
        }
        is_other.then_some(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_bodies_widen_it_and_a_large_body_narrows_it_at_once() {
        let mut width = RelayWidth::new();
        let mut after =
            |bytes: usize, count: u16| (0..count).filter_map(|_| width.arrived(bytes)).collect::<Vec<u16>>();
        assert_eq!(after(1 << 10, PREFETCH_FIRST), [PREFETCH_MAX]);
        assert_eq!(after(1 << 10, 1_000), [0; 0], "each change costs a consumer");
        assert_eq!(after(16 << 20, 1), [4], "four bodies of 16 MiB");
        assert_eq!(after(16 << 20, 100), [0; 0]);
        assert_eq!(after(200 << 20, 1), [1], "one message is always held");
        assert_eq!(after(1 << 10, 1), [PREFETCH_MAX]);
    }

    #[test]
    fn bodies_stay_within_their_bytes() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut width = RelayWidth::new();
        for _ in 0..10_000 {
            let bytes = 1_usize << random.u32(0..27);
            let _changed = width.arrived(bytes);
            assert!(width.prefetch == 1 || usize::from(width.prefetch) * bytes < 2 * BYTES_MAX, "{width:?} at {bytes}");
        }
    }
}
