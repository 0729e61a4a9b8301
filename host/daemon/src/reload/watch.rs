//! Watching the files of a generation until they have changed and are complete.
//!
//! The stamps of the files ([`FileStamp`]) decide. The system's notifications only say when to look. A look each second
//! serves where there are no notifications, as on network file systems. Directories are watched instead of files, because
//! editors, `cp` and Kubernetes replace files by renaming. A change is reported when no file changes any more and none is
//! open for writing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use trunkline_telemetry::wait;

use super::blocking::on_blocking_thread;
use super::file_stamp::FileStamp;
use super::inputs::Inputs;
use super::notifications::Notifications;

/// Period of looks without a notification.
const POLL: Duration = Duration::from_secs(1);
/// Time without a change before a change is reported.
const STILL: Duration = Duration::from_millis(60);

/// The stamps of all files.
type Stamps = BTreeMap<PathBuf, Option<FileStamp>>;

/// Watches the inputs of a generation. The disk is read on blocking threads.
pub struct Watch {
    inputs: Arc<Inputs>,
    /// Inputs that replace the present ones at the next look.
    next: Option<Arc<Inputs>>,
    last: Stamps,
    notifications: Arc<Notifications>,
    /// Absent where there are no notifications.
    directories: Option<Arc<Mutex<WatchedDirectories>>>,
}

/// The watcher of the system, and the directories that it watches.
struct WatchedDirectories {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
}

/// One look at the disk.
struct Look {
    stamps: Stamps,
    is_being_written: bool,
}

impl Watch {
    /// Begins to watch the files that were read. A change after this call is found. The call reads the disk.
    #[must_use]
    pub fn new(inputs: Inputs) -> Self {
        let notifications = Arc::new(Notifications::default());
        let notified = notifications.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| notified.note(event));
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "the system does not report changed files; the daemon checks the files every second"))
            .ok();
        let directories = watcher.map(|watcher| {
            let mut directories = WatchedDirectories { watcher, watched: BTreeSet::new() };
            directories.follow(&inputs);
            Arc::new(Mutex::new(directories))
        });
        Self { last: inputs.stamps(), inputs: Arc::new(inputs), next: None, notifications, directories }
    }

    /// Watches other inputs from now on. Paths that were watched before keep their stamps.
    pub fn set(&mut self, inputs: Inputs) {
        self.next = Some(Arc::new(inputs));
    }

    /// Returns when files changed and are complete. Safe to drop while waiting: no change is forgotten.
    pub async fn changed(&mut self) {
        loop {
            self.adopt_next().await;
            let mut before = self.look().await.stamps;
            if before == self.last {
                let _poll = tokio::time::timeout(POLL, self.notifications.changed.notified()).await;
                continue;
            }
            loop {
                wait::after(STILL).await;
                let now = self.look().await;
                let is_still = now.stamps == before && !now.is_being_written;
                before = now.stamps;
                if is_still {
                    break;
                }
            }
            // The target of a link may be in another directory now.
            self.follow(self.inputs.clone()).await;
            self.last = before;
            return;
        }
    }

    /// Takes the inputs of [`Watch::set`].
    async fn adopt_next(&mut self) {
        let Some(inputs) = self.next.clone() else { return };
        self.follow(inputs.clone()).await;
        let read = inputs.clone();
        let mut stamps = on_blocking_thread(move || read.stamps()).await;
        for (path, stamp) in &mut stamps {
            if let Some(last) = self.last.get(path) {
                *stamp = *last;
            }
        }
        (self.inputs, self.last, self.next) = (inputs, stamps, None);
    }

    async fn look(&self) -> Look {
        let (inputs, notifications) = (self.inputs.clone(), self.notifications.clone());
        let look =
            move || Look { stamps: inputs.stamps(), is_being_written: notifications.is_being_written(inputs.paths()) };
        on_blocking_thread(look).await
    }

    async fn follow(&self, inputs: Arc<Inputs>) {
        if let Some(directories) = self.directories.clone() {
            on_blocking_thread(move || directories.lock().follow(&inputs)).await;
        }
    }
}

impl WatchedDirectories {
    /// Watches the directories of the inputs, and no others.
    fn follow(&mut self, inputs: &Inputs) {
        let wanted = inputs.directories();
        for gone in self.watched.difference(&wanted) {
            let _was_removed = self.watcher.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for directory in wanted {
            // A directory that was made anew under its old name is found by watching again.
            match self.watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => _ = watched.insert(directory),
                Err(error) => {
                    tracing::debug!(directory = %directory.display(), %error, "a directory cannot be watched for changes");
                }
            }
        }
        self.watched = watched;
    }
}
