//! Requests to store changes in one transaction.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::embedded::state::DeliveryId;
use crate::embedded::store::DelayedRecord;
use crate::{Batch, DedupeRecord, Passing, Refusal, Unpublished};
use trunkline_event::Message;

/// Estimate of the bytes that a message takes on disk in addition to its body.
const RECORD_BYTES: u64 = 512;

/// Messages, each with the numbers of its queues.
pub(crate) type RoutedMessages = Vec<(Arc<Message>, BTreeSet<usize>)>;

/// Changes that one transaction stores whole or not at all.
#[derive(Default)]
pub(crate) struct WriteRequest {
    pub(crate) routed: RoutedMessages,
    /// Delayed messages, each with the time of the store at which it is due.
    pub(crate) delayed: Vec<(u64, DelayedRecord)>,
    /// Deliveries that are acknowledged.
    pub(crate) settles: Vec<DeliveryId>,
    pub(crate) dedupe_record: Option<DedupeRecord>,
}

impl WriteRequest {
    /// Bytes of all bodies, each counted once for each queue.
    pub(crate) fn bytes(&self) -> usize {
        let routed = self.routed.iter().map(|(message, queues)| message.body.len().saturating_mul(queues.len()));
        let delayed = self.delayed.iter().map(|(_, delayed)| delayed.message.body.len());
        routed.chain(delayed).fold(0, usize::saturating_add)
    }

    pub(crate) fn messages(&self) -> usize {
        self.routed.len() + self.delayed.len()
    }
}

/// Why a [`WriteRequest`] is not stored.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WriteError {
    /// The store failed, or a delivery is not held by its consumer any more.
    #[error("{0}")]
    Lost(String),
    /// Queues are full for the messages with these indexes in `routed`.
    #[error("a queue is full")]
    Full(Vec<usize>),
    /// The disk is full.
    #[error("{0}")]
    NoRoom(String),
}

impl WriteError {
    /// The error of a publish of the batch.
    pub(crate) fn into_unpublished(self, batch: Batch) -> Unpublished {
        let refused = match self {
            Self::Lost(reason) => return Unpublished::lost(batch, reason),
            Self::Full(full_indexes) => {
                let routed =
                    batch.rest().filter(|(_, publication)| publication.delay.is_none_or(|delay| delay.is_zero()));
                let indexes: Vec<usize> = routed.map(|(index, _)| index).collect();
                let refused = full_indexes.into_iter().filter_map(|index| indexes.get(index).copied());
                refused.map(|index| (index, Refusal::from(Passing::Full))).collect()
            }
            Self::NoRoom(reason) => {
                batch.rest().map(|(index, _)| (index, Refusal::from(Passing::NoRoom(reason.clone())))).collect()
            }
        };
        Unpublished { batch, refused, lost: None }
    }
}

/// Indexes of the messages that go to one of the full queues.
pub(crate) fn indexes_of(messages: &RoutedMessages, full: &BTreeSet<usize>) -> Vec<usize> {
    let hits = messages.iter().enumerate().filter(|(_, (_, queues))| !queues.is_disjoint(full));
    hits.map(|(index, _)| index).collect()
}

/// Estimate of the bytes that a request takes on disk.
pub(crate) fn disk_bytes(request: &WriteRequest) -> u64 {
    let stored =
        request.routed.iter().map(|(_, queues)| queues.len() as u64).sum::<u64>() + request.delayed.len() as u64;
    (request.bytes() as u64).saturating_add(stored.saturating_mul(RECORD_BYTES))
}
