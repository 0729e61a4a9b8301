//! Compaction of the store's file. redb reuses the pages of removed messages, and never makes the file shorter by itself.
//!
//! Nothing can be read or written during a compaction, and its time grows with the stored messages. The file is therefore
//! compacted only when no command arrives, the file is mostly empty, and few messages are stored.

use std::time::{Duration, Instant};

use crate::embedded::store::{Fault, MessageStore};

/// The writer compacts when no command arrived for this time.
const IDLE_FOR: Duration = Duration::from_millis(500);
/// Length of the shortest file that is compacted.
const FILE_MIN_BYTES: u64 = 16 << 20;
/// Most bytes of stored records that a compaction may have to move.
const LIVE_MAX_BYTES: u64 = 64 << 20;
/// The file is compacted when it is so many times as long as its records.
const MOSTLY_EMPTY: u64 = 4;

/// Decides when the file is compacted.
#[derive(Default)]
pub(crate) struct Compaction {
    /// Length of the file after the last compaction. The file has to double before the next one.
    length_after: u64,
}

impl Compaction {
    /// Time without commands after which a compaction is due; `None` while it is not worth it.
    pub(crate) fn wait(&self, store: &MessageStore) -> Option<Duration> {
        let ((length, _), record_bytes) = (store.size()?, store.record_bytes());
        let is_worth_it = length >= FILE_MIN_BYTES
            && length >= self.length_after.saturating_mul(2)
            && length >= record_bytes.saturating_mul(MOSTLY_EMPTY)
            && record_bytes <= LIVE_MAX_BYTES;
        is_worth_it.then_some(IDLE_FOR)
    }

    pub(crate) fn run(&mut self, store: &mut MessageStore) -> Result<(), Fault> {
        let (began, before) = (Instant::now(), store.size().unwrap_or_default().0);
        store.compact()?;
        let after = store.size().unwrap_or_default().0;
        self.length_after = after;
        let took_ms = began.elapsed().as_millis();
        tracing::info!(before, after, took_ms, "the daemon compacted the file of the embedded store");
        Ok(())
    }
}
