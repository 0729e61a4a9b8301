//! Values of a delivery that its copies carry as headers.

use std::sync::Arc;
use std::time::Duration;

use trunkline_event::{HeaderKey, RouteName};

/// Values of a delivery that its copies carry as headers, with the key that signs the headers.
#[derive(Debug, Clone)]
pub(crate) struct Provenance {
    /// Id of the event; a new id when the message has none.
    pub(crate) id: String,
    /// Number of the attempt that just ended, from 1.
    pub(crate) attempt: u32,
    /// Time of receipt, RFC 3339.
    pub(crate) received_at: String,
    /// Name of the route.
    pub(crate) route: RouteName,
    pub(crate) plugin: Arc<str>,
    pub(crate) digest: Arc<str>,
    /// Last lines that the plugin logged or printed.
    pub(crate) log: String,
    /// Whether the sender gave the id.
    pub(crate) own_id: bool,
    /// Time at which the message's own TTL ends, in milliseconds since the Unix epoch; none for a message without a TTL.
    pub(crate) expires_ms: Option<u64>,
    /// Key that signs copies; none on a broker where only the daemon writes headers.
    pub(crate) key: Option<HeaderKey>,
}

impl Provenance {
    /// The rest of the message's own TTL; none for a message without a TTL.
    pub(crate) fn left(&self, now_ms: u64) -> Option<Duration> {
        self.expires_ms.map(|expires_ms| Duration::from_millis(expires_ms.saturating_sub(now_ms)))
    }
}
