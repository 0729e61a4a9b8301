//! The largest number of connections, and the time limits of a connection.

use std::time::Duration;

/// Connections that are served at once.
const SERVED_MAX: usize = 512;
/// Further connections, which wait for a slot, send a probe, or are being refused.
const PENDING_MAX: usize = 128;
/// Time for the headers of a request, from the beginning of the connection or from the last response.
pub(super) const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// A client that reads no byte of its response for this time is disconnected.
pub(super) const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// Time for open connections to end when the daemon stops.
pub(super) const END_WITHIN: Duration = Duration::from_secs(5);
/// Bound of a request's headers, and of the response bytes that are buffered beside the kernel's buffers.
pub(super) const BUFFER_MAX_BYTES: usize = 64 << 10;
/// Time for the headers of a probe without a slot, and for each write of its response.
pub(super) const PROBE_STEP_WITHIN: Duration = Duration::from_secs(1);
/// Time for a whole probe without a slot.
pub(super) const PROBE_WITHIN: Duration = Duration::from_secs(5);

/// The largest numbers of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionLimits {
    /// Connections with a slot.
    pub(super) served: usize,
    /// Connections without a slot.
    pub(super) pending: usize,
}

impl ConnectionLimits {
    /// Connections get at most half of the process's descriptors. The broker, files and plugins need the other half.
    pub(super) fn for_descriptors(descriptors: Option<u64>) -> Self {
        let half = descriptors.map_or(usize::MAX, |most| usize::try_from(most / 2).unwrap_or(usize::MAX));
        let all = half.clamp(10, SERVED_MAX + PENDING_MAX);
        let pending = all * PENDING_MAX / (SERVED_MAX + PENDING_MAX);
        Self { served: all - pending, pending }
    }

    pub(super) const fn all(self) -> usize {
        self.served + self.pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_descriptors_are_for_connections() {
        let limits = |descriptors| ConnectionLimits::for_descriptors(Some(descriptors));
        assert_eq!(ConnectionLimits::for_descriptors(None), ConnectionLimits { served: 512, pending: 128 });
        assert_eq!(limits(1_000_000), ConnectionLimits::for_descriptors(None));
        assert_eq!(limits(1024), ConnectionLimits { served: 410, pending: 102 });
        for descriptors in 64..2048 {
            let ConnectionLimits { served, pending } = limits(descriptors);
            assert!(served > pending && pending > 4, "{descriptors}: {served} and {pending}");
            assert!(served + pending <= usize::try_from(descriptors / 2).expect("few"), "{descriptors}");
        }
        assert_eq!(limits(4), ConnectionLimits { served: 8, pending: 2 });
    }
}
