//! Why an event was not handled.

use std::time::Duration;

/// What the host is asked to do instead of publishing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Call again later, as often as the route allows.
    Retry {
        /// For logs and the dead letter.
        reason: String,
        /// Wait at least this long; the route's schedule when absent.
        after: Option<Duration>,
    },
    /// Never again: dead-letter it.
    Reject(String),
}

impl Failure {
    /// Something passing.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    /// Something passing that takes a while.
    #[must_use]
    pub fn retry_after(reason: impl Into<String>, after: Duration) -> Self {
        Self::Retry { reason: reason.into(), after: Some(after) }
    }

    /// Something that stays wrong.
    #[must_use]
    pub fn reject(text: impl Into<String>) -> Self {
        Self::Reject(text.into())
    }
}
