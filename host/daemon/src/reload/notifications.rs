//! The system's notifications of changed files.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A writer that keeps a file open and has written nothing for this time is not waited for.
const WRITING_MAX: Duration = Duration::from_secs(30);

/// The notifications since the last look.
#[derive(Default)]
pub(super) struct Notifications {
    /// Notified for each change.
    pub(super) changed: Notify,
    /// Files that are being written, with the time of the last write.
    writing: Mutex<HashMap<PathBuf, Instant>>,
}

impl Notifications {
    /// Whether one of the files is open for writing.
    pub(super) fn is_being_written<'p>(&self, mut paths: impl Iterator<Item = &'p PathBuf>) -> bool {
        // The copy keeps the lock free while paths are resolved on the disk.
        let writing = {
            let mut writing = self.writing.lock();
            writing.retain(|_, since| since.elapsed() < WRITING_MAX);
            writing.clone()
        };
        let is_open = |path: &PathBuf| {
            writing.contains_key(path) || path.canonicalize().is_ok_and(|real| writing.contains_key(&real))
        };
        !writing.is_empty() && paths.any(is_open)
    }

    /// Notes a notification.
    pub(super) fn note(&self, event: notify::Result<notify::Event>) {
        if let Ok(event) = event {
            let mut writing = self.writing.lock();
            match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) => {
                    event.paths.iter().for_each(|path| _ = writing.remove(path));
                }
                // The daemon's own reading causes these.
                EventKind::Access(_) => return,
                EventKind::Modify(ModifyKind::Data(_)) => {
                    writing.extend(event.paths.into_iter().map(|path| (path, Instant::now())));
                }
                EventKind::Modify(_) | EventKind::Create(_) | EventKind::Any | EventKind::Other => {}
            }
        }
        self.changed.notify_one();
    }
}
