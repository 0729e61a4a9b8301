//! Errors of a broker.

use trunkline_event::QueueName;

/// An error of a broker. The variants differ in what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection, the channel or the store was lost. The outcome of everything in flight is unknown, and the broker delivers
    /// the messages again.
    #[error("the broker session was lost: {0}")]
    Lost(String),
    /// The queue does not exist, or exists with other arguments.
    #[error("queue {queue}: {reason}")]
    Queue {
        /// The queue.
        queue: QueueName,
        /// The broker's text.
        reason: String,
    },
    /// The broker cannot be used at all: the URL is not valid, another daemon has locked the store, or the store is damaged.
    #[error("{0}")]
    Unusable(String),
}
