//! A delivery as a broker hands it out, and the time of its arrival.

use std::sync::Arc;
use std::time::Duration;

use trunkline_broker::Delivery;
use trunkline_event::Message;

/// One reading of the clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExecutorTime {
    /// Time since the executor began.
    pub(crate) since_start: Duration,
    /// Wall-clock time.
    pub(crate) wall: jiff::Timestamp,
}

impl ExecutorTime {
    /// Milliseconds since the Unix epoch.
    pub(crate) fn unix_ms(self) -> u64 {
        u64::try_from(self.wall.as_millisecond()).unwrap_or_default()
    }

    /// Time from now to a wall-clock time in milliseconds since the Unix epoch; none when that time has passed.
    pub(crate) fn until(self, unix_ms: i64) -> Option<Duration> {
        let left = u64::try_from(unix_ms).ok()?.checked_sub(self.unix_ms())?;
        (left > 0).then(|| Duration::from_millis(left))
    }
}

/// A delivery as a broker hands it out.
pub(crate) trait IncomingDelivery {
    fn message(&self) -> &Arc<Message>;
    /// Error text of a message that could not be read.
    fn unreadable(&self) -> Option<&str>;
    /// Whether the message came back so often that it may have ended a daemon.
    fn is_suspect(&self) -> bool;
    /// Whether the broker may have delivered the message before.
    fn is_redelivered(&self) -> bool;
    /// Time that the message waited in its queue, as far as the broker reports the time.
    fn waited(&self) -> Duration;
}

impl IncomingDelivery for Delivery {
    fn message(&self) -> &Arc<Message> {
        &self.message
    }

    fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }

    fn is_suspect(&self) -> bool {
        self.is_suspect()
    }

    fn is_redelivered(&self) -> bool {
        self.redelivered
    }

    fn waited(&self) -> Duration {
        self.waited
    }
}
