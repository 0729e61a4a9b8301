//! Deliveries, and changes of queues that wait for the next transaction.

use super::message::QueuedMessage;

/// Identity of an unacknowledged delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeliveryId {
    /// Session of the store in which the message was delivered.
    pub(crate) session: u64,
    /// Number of the queue.
    pub(crate) queue: usize,
    /// Position of the message in the queue.
    pub(crate) position: u64,
    /// Number of the consumer that holds the message.
    pub(crate) consumer: u64,
}

/// A change that waits for the next transaction. There are at most as many changes as deliveries.
pub(crate) enum QueueChange {
    /// The message is acknowledged and has to be removed.
    Remove { queue: usize, position: u64 },
    /// The delivery count of the message changed. The count is written, so that it survives a restart.
    Recount { queue: usize, entry: QueuedMessage },
    /// The message has to be moved to the dead-letter target of the queue.
    GiveUp { queue: usize, entry: QueuedMessage, reason: &'static str },
}
