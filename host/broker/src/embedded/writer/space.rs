//! Space on the disk for more messages.
//!
//! A write on a full disk ends the session, because redb has to be opened again, and all deliveries come again. A publish
//! that would leave too little space is therefore refused beforehand, unless the store's file has free space inside. A
//! small reserve file is removed when the disk is full, so that acknowledgements can still be written.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::embedded::store::MessageStore;
use trunkline_config::state_dir;
use trunkline_telemetry::wait::{Loop, RetryLoop};

/// Name of the reserve file in the directory of the store.
const RESERVE: &str = "reserve";
const RESERVE_MIN_BYTES: u64 = 256 << 10;
const RESERVE_MAX_BYTES: u64 = 8 << 20;
/// The reserve is one part in so many of the disk.
const RESERVE_PART: u64 = 32;

/// With less free space than this many reserves the reserve file is made.
const LOW_RESERVES: u64 = 32;
/// With this many reserves of free space the disk counts as usable again.
const ENOUGH_RESERVES: u64 = 4;

/// Space on the disk of the store.
pub(crate) struct DiskSpace {
    dir: PathBuf,
    reserve_bytes: u64,
    has_reserve: bool,
    /// Raises the condition from the first refused publish until the disk has space.
    retry: RetryLoop,
    /// No message is written before this time after a write on a full disk. A quota may be exhausted that the free space of
    /// the disk does not show.
    paused_until: Option<Instant>,
    /// Bytes of records in the store at the time of a write on a full disk. So many bytes are known to fit.
    known_to_fit: Option<u64>,
}

impl DiskSpace {
    pub(crate) fn new(dir: &Path) -> Self {
        let size = rustix::fs::statvfs(dir).map_or(0, |stat| stat.f_blocks.saturating_mul(stat.f_frsize));
        let reserve_bytes = (size / RESERVE_PART).clamp(RESERVE_MIN_BYTES, RESERVE_MAX_BYTES);
        let has_reserve = std::fs::metadata(dir.join(RESERVE)).is_ok_and(|stat| stat.len() >= reserve_bytes);
        Self {
            dir: dir.to_owned(),
            reserve_bytes,
            has_reserve,
            retry: RetryLoop::new(Loop::StoreRoom, ""),
            paused_until: None,
            known_to_fit: None,
        }
    }

    /// Free bytes of the disk; the largest number where they are unknown.
    fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.dir).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Bytes of messages that may be written now.
    pub(crate) fn available_bytes(&mut self, store: &MessageStore) -> u64 {
        if self.is_paused() {
            return 0;
        }
        let free = self.free();
        let is_low = free < LOW_RESERVES * self.reserve_bytes;
        if is_low && !self.has_reserve && free >= ENOUGH_RESERVES * self.reserve_bytes {
            self.try_reserve();
        }
        // Half of the free space, because new pages are written before old pages are free.
        let outside = free.saturating_sub(2 * self.reserve_bytes) / 2;
        outside.max(self.free_in_file(store))
    }

    /// Bytes of messages that fit into the file without making it longer.
    fn free_in_file(&self, store: &MessageStore) -> u64 {
        // A record takes up to twice its size, because pages may be half full.
        let used = store.record_bytes().saturating_mul(2);
        let allocated = store.size().map_or(0, |(_, allocated)| allocated);
        let known = self.known_to_fit.map_or(allocated, |known_to_fit| allocated.min(known_to_fit.saturating_mul(2)));
        known.saturating_sub(used) / 2
    }

    /// Reports a refused publish, and returns the reason.
    pub(crate) fn refuse(&mut self) -> String {
        let free = self.free();
        let why = format!("only {free} bytes are free on the disk of {}", self.dir.display());
        if self.retry.tries() == 0 {
            tracing::error!(free, dir = %self.dir.display(),
                "the disk of the embedded store is full; the broker refuses messages until the disk has space");
            let _shown = self.retry.failed(&why);
        }
        why
    }

    /// Whether a publish was refused and the disk has had no space since.
    pub(crate) fn is_short(&self) -> bool {
        self.retry.tries() > 0
    }

    /// Whether messages may be moved between queues.
    pub(crate) fn allows_moves(&self) -> bool {
        !self.is_short()
    }

    /// Handles a write on a full disk: removes the reserve, and pauses writes for longer each time.
    pub(crate) fn ran_out(&mut self, why: &str, held_bytes: u64) {
        self.known_to_fit = Some(held_bytes);
        let pause = self.retry.failed(why).unwrap_or_default();
        self.paused_until = Some(Instant::now() + pause);
        if std::fs::remove_file(self.dir.join(RESERVE)).is_ok() {
            tracing::warn!(
                "the disk is full; the daemon deleted the reserve file of the embedded store and can still write acknowledgements; make space on the disk"
            );
        }
        self.has_reserve = false;
    }

    /// Checks whether a full disk has space again. Returns the time until the next check, if one is needed.
    pub(crate) fn recheck(&mut self) -> Option<Duration> {
        if !self.is_short() {
            return None;
        }
        let may_have_room = !self.is_paused() && self.free() >= ENOUGH_RESERVES * self.reserve_bytes;
        // After a write on a full disk the free space alone proves nothing, so the reserve is written as well.
        if may_have_room && (self.known_to_fit.is_none() || self.try_reserve()) {
            tracing::info!("the disk of the embedded store has space again; the broker accepts messages");
            (self.known_to_fit, self.paused_until) = (None, None);
            self.retry.succeeded();
            return None;
        }
        Loop::StoreRoom.pause(self.retry.tries())
    }

    fn is_paused(&self) -> bool {
        self.paused_until.is_some_and(|time| Instant::now() < time)
    }

    fn try_reserve(&mut self) -> bool {
        let made = self.reserve();
        made.inspect_err(|error| tracing::debug!(%error, "the reserve file of the embedded store cannot be made"))
            .is_ok()
    }

    fn reserve(&mut self) -> io::Result<()> {
        if self.has_reserve {
            return Ok(());
        }
        let path = self.dir.join(RESERVE);
        let written = || {
            let mut file = state_dir::file(&path)?;
            file.set_len(0)?;
            let zeros = vec![0; 1 << 16];
            for _ in 0..self.reserve_bytes / zeros.len() as u64 {
                file.write_all(&zeros)?;
            }
            file.sync_data()
        };
        written().inspect_err(|_| drop(std::fs::remove_file(&path)))?;
        self.has_reserve = true;
        Ok(())
    }
}
