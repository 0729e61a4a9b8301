//! Changes of one transaction.

use super::clock::ClockAnchor;
use super::record::{DelayedKey, DelayedRecord, MessageRecord};
use crate::DedupeRecord;

/// Changes that are written in one transaction. All puts are applied before all removes.
#[derive(Debug, Default)]
pub(crate) struct WriteBatch {
    /// Messages, each with the id of its queue and its position in the queue.
    pub(crate) puts: Vec<((u32, u64), MessageRecord)>,
    pub(crate) removes: Vec<(u32, u64)>,
    pub(crate) delay_puts: Vec<(DelayedKey, DelayedRecord)>,
    pub(crate) delay_removes: Vec<DelayedKey>,
    pub(crate) dedupe_records: Vec<DedupeRecord>,
    /// The time of the store, when it is to be written again.
    pub(crate) anchor: Option<ClockAnchor>,
}

impl WriteBatch {
    /// Number of changed messages and dedupe records.
    pub(crate) fn len(&self) -> usize {
        self.puts.len()
            + self.removes.len()
            + self.delay_puts.len()
            + self.delay_removes.len()
            + self.dedupe_records.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0 && self.anchor.is_none()
    }
}
