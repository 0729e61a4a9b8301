//! The failure of a handler.

use std::time::Duration;

/// Answer of a handler that could not handle an event. The host publishes no emission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Asks for another attempt. The route limits the number of attempts.
    Retry {
        /// Text for the log and for the dead letter.
        reason: String,
        /// Shortest wait before the next attempt. Without this wait the route's `retry` settings decide.
        after: Option<Duration>,
    },
    /// Dead-letters the event at once, with this text as the error.
    Reject(String),
}

impl Failure {
    /// Creates a passing failure. A later attempt may succeed.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    /// Creates a passing failure. The next attempt begins no sooner than `after`.
    #[must_use]
    pub fn retry_after(reason: impl Into<String>, after: Duration) -> Self {
        Self::Retry { reason: reason.into(), after: Some(after) }
    }

    /// Creates a permanent failure. Every attempt would fail.
    #[must_use]
    pub fn reject(text: impl Into<String>) -> Self {
        Self::Reject(text.into())
    }
}
