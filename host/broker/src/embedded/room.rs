//! Whether the disk has room for more messages.
//!
//! A write that finds no room costs the session, since redb has to be opened again after it, and with it what was in
//! work. So a publish that would leave hardly any room is refused beforehand, unless the file itself has room inside. A
//! small file is kept in reserve and given up when there is no room at all, so that what is acknowledged can still be
//! written and a backlog can be worked off.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::store::Store;
use trunkline_config::state_dir;
use trunkline_telemetry::wait::{Loop, Retry};

/// In the directory of the store.
const RESERVE: &str = "reserve";
const RESERVE_MIN_BYTES: u64 = 256 << 10;
const RESERVE_MAX_BYTES: u64 = 8 << 20;
/// The part of the disk that is kept in reserve.
const RESERVE_PART: u64 = 32;

/// In reserves: with less than this free one is kept, and with this much there is room again.
const LOW: u64 = 32;
const ENOUGH: u64 = 4;

/// What is known of the room.
pub(super) struct Room {
    dir: PathBuf,
    reserve_bytes: u64,
    has_reserve: bool,
    /// Since a publish was refused, until there is room; shows it.
    retry: Retry,
    /// After a write that found no room, nothing is written before this time, whatever the disk says: it may be a quota.
    not_before: Option<Instant>,
    /// What the store held when a write found no room: so much does fit.
    fits: Option<u64>,
}

impl Room {
    pub(super) fn new(dir: &Path) -> Self {
        let size = rustix::fs::statvfs(dir).map_or(0, |facts| facts.f_blocks.saturating_mul(facts.f_frsize));
        let reserve_bytes = (size / RESERVE_PART).clamp(RESERVE_MIN_BYTES, RESERVE_MAX_BYTES);
        let is_kept = std::fs::metadata(dir.join(RESERVE)).is_ok_and(|facts| facts.len() >= reserve_bytes);
        Self {
            dir: dir.to_owned(),
            reserve_bytes,
            has_reserve: is_kept,
            retry: Retry::new(Loop::StoreRoom, ""),
            not_before: None,
            fits: None,
        }
    }

    /// Free bytes of the disk; as many as can be where nobody knows.
    fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.dir).map_or(u64::MAX, |facts| facts.f_bavail.saturating_mul(facts.f_frsize))
    }

    /// How many bytes of messages may be written now.
    pub(super) fn allows(&mut self, store: &Store) -> u64 {
        if self.is_held_back() {
            return 0;
        }
        let free = self.free();
        let is_low = free < LOW * self.reserve_bytes;
        if is_low && !self.has_reserve && free >= ENOUGH * self.reserve_bytes {
            self.reserve_or_tell();
        }
        // Twice, for pages are written anew before old ones are free.
        let outside = free.saturating_sub(2 * self.reserve_bytes) / 2;
        outside.max(self.inside(store))
    }

    /// How many bytes fit into the file as it is.
    fn inside(&self, store: &Store) -> u64 {
        // A record takes up to twice its size, in pages that are half full.
        let used = store.live_bytes().saturating_mul(2);
        let allocated = store.size().map_or(0, |(_, allocated)| allocated);
        let known = self.fits.map_or(allocated, |fits| allocated.min(fits.saturating_mul(2)));
        known.saturating_sub(used) / 2
    }

    /// A publish was refused: shows it, and why.
    pub(super) fn refused(&mut self) -> String {
        let free = self.free();
        let why = format!("{free} bytes are free on the disk of {}", self.dir.display());
        if self.retry.tries() == 0 {
            tracing::error!(free, dir = %self.dir.display(),
                "the disk of the embedded store has no room: nothing is taken in until there is some");
            let _shown = self.retry.failed(&why);
        }
        why
    }

    /// Whether a publish was refused and there was no room since.
    pub(super) fn is_short(&self) -> bool {
        self.retry.tries() > 0
    }

    /// Whether messages may be moved from queue to queue.
    pub(super) fn allows_moves(&self) -> bool {
        !self.is_short()
    }

    /// A write found no room: gives the reserve up, and holds back for a while that grows.
    pub(super) fn ran_out(&mut self, why: &str, held_bytes: u64) {
        self.fits = Some(held_bytes);
        let pause = self.retry.failed(why).unwrap_or_default();
        self.not_before = Some(Instant::now() + pause);
        if std::fs::remove_file(self.dir.join(RESERVE)).is_ok() {
            tracing::warn!("the reserve on the disk of the embedded store is given up");
        }
        self.has_reserve = false;
    }

    /// Looks whether there is room again, if there was none, and gives the time until it is to be looked again.
    pub(super) fn look(&mut self) -> Option<Duration> {
        if !self.is_short() {
            return None;
        }
        let may_have_room = !self.is_held_back() && self.free() >= ENOUGH * self.reserve_bytes;
        // What the disk says was not true before, where a write found no room.
        if may_have_room && (self.fits.is_none() || self.reserve_or_tell()) {
            tracing::info!("the disk of the embedded store has room again");
            (self.fits, self.not_before) = (None, None);
            self.retry.succeeded();
            return None;
        }
        Loop::StoreRoom.pause(self.retry.tries())
    }

    fn is_held_back(&self) -> bool {
        self.not_before.is_some_and(|time| Instant::now() < time)
    }

    fn reserve_or_tell(&mut self) -> bool {
        let made = self.reserve();
        made.inspect_err(|error| tracing::debug!(%error, "no room for the reserve")).is_ok()
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
