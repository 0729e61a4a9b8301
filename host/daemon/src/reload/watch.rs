//! When files changed, and are whole again.
//!
//! The truth is what the files look like ([`Facts`]); the system's notifications only say when to look, and looking
//! every second serves where there are none (network file systems, no watches left). Directories are watched and not files:
//! editors, `cp` and Kubernetes replace files by renaming. A change is told when everything stands still and nobody has
//! one of the files open for writing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::facts::{self, Facts};
use trunkline_config::{Config, Lock};
use trunkline_telemetry::wait;

/// How often the files are looked at without a notification.
const POLL: Duration = Duration::from_secs(1);
/// So long nothing may change before a change is told.
const STILL: Duration = Duration::from_millis(60);
/// Somebody who holds a file open and has written nothing for so long is not waited for.
const WRITING_MAX: Duration = Duration::from_secs(30);

/// The files that a generation is made of, and the directories whose list of files matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    paths: BTreeSet<PathBuf>,
}

impl Inputs {
    /// These files and directories; what is not there yet may come.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { paths: paths.into_iter().collect() }
    }

    /// Everything that a configuration is read from and names.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let plugins = config.plugins.values().flat_map(facts::files);
        Self::new(config.files.iter().cloned().chain(plugins).chain([Lock::beside(&config.file)]))
    }

    /// These and more.
    #[must_use]
    pub fn and(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.paths.extend(paths);
        self
    }

    fn facts(&self) -> BTreeMap<PathBuf, Option<Facts>> {
        self.paths.iter().map(|path| (path.clone(), Facts::of(path))).collect()
    }

    /// Where changes are seen: beside each path, and beside what it leads to.
    fn directories(&self) -> BTreeSet<PathBuf> {
        let real = self.paths.iter().filter_map(|path| path.canonicalize().ok());
        let all = self.paths.iter().cloned().chain(real).collect::<Vec<_>>();
        let parents = all.iter().filter_map(|path| path.parent().map(Path::to_owned));
        parents.chain(all.iter().filter(|path| path.is_dir()).cloned()).collect()
    }
}

/// What the notifications told.
#[derive(Default)]
struct Seen {
    something: Notify,
    /// Files that are being written, and when they last were.
    writing: Mutex<HashMap<PathBuf, Instant>>,
}

/// Watches inputs.
pub struct Watch {
    inputs: Inputs,
    last: BTreeMap<PathBuf, Option<Facts>>,
    seen: Arc<Seen>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Watch {
    /// Begins to watch. `inputs` are what was read: a change since then is found by comparing at the next look only
    /// when it is made after this call.
    #[must_use]
    pub fn new(inputs: Inputs) -> Self {
        let seen = Arc::new(Seen::default());
        let told = seen.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| told.note(event));
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "no notifications of changed files; looking every second"))
            .ok();
        let mut watch = Self { last: inputs.facts(), inputs, seen, watcher, watched: BTreeSet::new() };
        watch.follow();
        watch
    }

    /// Watches others from now on. Files that were watched before keep what is known of them.
    pub fn set(&mut self, inputs: Inputs) {
        let mut facts = inputs.facts();
        for (path, known) in &mut facts {
            if let Some(last) = self.last.get(path) {
                *known = *last;
            }
        }
        (self.inputs, self.last) = (inputs, facts);
        self.follow();
    }

    /// Returns when something changed and all is still again. Safe to drop while waiting: nothing is forgotten.
    pub async fn changed(&mut self) {
        loop {
            let mut before = self.inputs.facts();
            if before == self.last {
                let _poll = tokio::time::timeout(POLL, self.seen.something.notified()).await;
                continue;
            }
            loop {
                wait::after(STILL).await;
                let now = self.inputs.facts();
                if now == before && !self.is_being_written() {
                    break;
                }
                before = now;
            }
            self.last = before;
            // What a link leads to may be elsewhere now.
            self.follow();
            return;
        }
    }

    fn is_being_written(&self) -> bool {
        let mut writing = self.seen.writing.lock().unwrap_or_else(PoisonError::into_inner);
        writing.retain(|_, since| since.elapsed() < WRITING_MAX);
        let is_open = |path: &PathBuf| {
            writing.contains_key(path) || path.canonicalize().is_ok_and(|real| writing.contains_key(&real))
        };
        self.inputs.paths.iter().any(is_open)
    }

    /// Watches the directories that matter now, and no others.
    fn follow(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted = self.inputs.directories();
        for gone in self.watched.difference(&wanted) {
            let _was_removed = watcher.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for directory in wanted {
            // One that is made anew under its old name is another directory: watching again is how it is found.
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => _ = watched.insert(directory),
                Err(error) => tracing::debug!(directory = %directory.display(), %error, "directory is not watched"),
            }
        }
        self.watched = watched;
    }
}

impl Seen {
    fn note(&self, event: notify::Result<notify::Event>) {
        if let Ok(event) = event {
            let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            match event.kind {
                // Our own reading.
                EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) => {
                    event.paths.iter().for_each(|path| _ = writing.remove(path));
                }
                EventKind::Access(_) => return,
                EventKind::Modify(ModifyKind::Data(_)) => {
                    writing.extend(event.paths.into_iter().map(|path| (path, Instant::now())));
                }
                EventKind::Modify(_) | EventKind::Create(_) | EventKind::Any | EventKind::Other => {}
            }
        }
        self.something.notify_one();
    }
}
