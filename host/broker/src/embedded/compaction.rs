//! Giving the disk back what a backlog took: redb uses the pages of what was drained again, and keeps the file as long as it
//! was.
//!
//! Nothing can be read or written meanwhile, and what it takes grows with what is still stored. So it is done when
//! nothing happens, where the file is mostly empty, and only while what would be moved is little.

use std::time::{Duration, Instant};

use super::store::{Fault, Store};

/// Nothing happened for so long.
const IDLE_FOR: Duration = Duration::from_millis(500);
/// A shorter file is not worth it.
const FILE_MIN_BYTES: u64 = 16 << 20;
/// Messages that may be stored, which is what it has to move.
const LIVE_MAX_BYTES: u64 = 64 << 20;
/// The file is so many times as long as what it holds.
const MOSTLY_EMPTY: u64 = 4;

#[derive(Default)]
pub(super) struct Compaction {
    /// Length of the file after the last time; it has to double before the next.
    length_after: u64,
}

impl Compaction {
    /// How long nothing has to happen before it is due; none while it is not worth it.
    pub(super) fn wait(&self, store: &Store) -> Option<Duration> {
        let ((length, _), live) = (store.size()?, store.live_bytes());
        let is_worth_it = length >= FILE_MIN_BYTES
            && length >= self.length_after.saturating_mul(2)
            && length >= live.saturating_mul(MOSTLY_EMPTY)
            && live <= LIVE_MAX_BYTES;
        is_worth_it.then_some(IDLE_FOR)
    }

    pub(super) fn run(&mut self, store: &mut Store) -> Result<(), Fault> {
        let (began, before) = (Instant::now(), store.size().unwrap_or_default().0);
        store.compact()?;
        let after = store.size().unwrap_or_default().0;
        self.length_after = after;
        let took_ms = began.elapsed().as_millis();
        tracing::info!(before, after, took_ms, "the file of the embedded store is cut to what it holds");
        Ok(())
    }
}
