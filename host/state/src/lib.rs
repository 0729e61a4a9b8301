//! What plugins keep between events: keys and values in a store of their own, apart by plugin and tenant.
//!
//! One writer thread owns all changes and puts what came meanwhile into one transaction. A change is answered when it is
//! applied, which no crash of the daemon has to survive; [`Space::flush`] is answered when everything that the caller
//! wrote *or read* is on disk, so that nothing leaves a call that a crash could take back. All who wait share one fsync.
//! After a failed write the store is opened anew from what is on disk; calls that stood on lost changes are told so.
//! Knows nothing of WebAssembly.

#![deny(unsafe_code)]

mod table;
mod totals;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::Database;
use tokio::sync::{mpsc, oneshot};

use trunkline_config::Quota;
use trunkline_config::state_dir;
use trunkline_event::PluginName;

const FILE: &str = "state.redb";
/// Changes that wait for the writer; more make their callers wait.
const CHANGES_MAX: usize = 1024;
/// Longest key, in bytes.
pub const KEY_MAX_BYTES: usize = 1024;
/// Longest value, in bytes.
pub const VALUE_MAX_BYTES: usize = 1 << 20;
/// Changes of one batch, and values that one read gives.
pub const BATCH_MAX: usize = 1000;

/// Why the state was not read or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The plugin keeps as much as it may.
    #[error("over the quota of {0}; `allow.kv` in [plugins.NAME] can raise it")]
    Quota(String),
    /// The key or value is none that can be kept, or no number.
    #[error("{0}")]
    Unfit(String),
    /// The store cannot be used now.
    #[error("the state store: {0}")]
    Unavailable(String),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Writes values, all or none.
    Set(Vec<(String, Vec<u8>)>),
    /// Removes keys; those that are not there are no error.
    Delete(Vec<String>),
    /// Adds to a decimal number, which begins at 0.
    Increment(String, i64),
    /// Writes if the value is still this one (none: if there is none).
    Swap {
        /// Key.
        key: String,
        /// The value that was seen.
        seen: Option<Vec<u8>>,
        /// The new value.
        value: Vec<u8>,
    },
}

/// What a change came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was made.
    Done,
    /// The number after an increment.
    Number(i64),
    /// A swap was not made, and this is the value now.
    Other(Option<Vec<u8>>),
}

/// Keys of a space, in order, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Keys.
    pub keys: Vec<String>,
    /// The last of them, when there are more.
    pub cursor: Option<String>,
}

/// The open store. Cheap to clone; closed when the last clone and the last [`Space`] are gone.
#[derive(Clone)]
pub struct State {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// What readers and the writer share.
struct Shared {
    file: PathBuf,
    /// None only while it is opened anew, or when that failed.
    database: RwLock<Option<Database>>,
    /// Number of the last transaction that can be seen.
    applied: AtomicU64,
    /// Number of the last one that is on disk.
    durable: AtomicU64,
    /// Counts how often changes were lost.
    epoch: AtomicU64,
}

enum Command {
    Change { space: Arc<Name>, quota: Quota, change: Change, reply: oneshot::Sender<Result<(Answer, Mark), Error>> },
    Flush(oneshot::Sender<Result<(), Error>>),
}

/// A point in the store's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    epoch: u64,
    number: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Name {
    plugin: String,
    /// Empty: no tenant. Else `=` and the tenant, which may be empty too.
    tenant: String,
}

impl State {
    /// Opens the store in `dir`, which is made if it is missing, and starts the writer.
    ///
    /// # Errors
    /// When it cannot be used, for example because another daemon has it open.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let file = dir.join(FILE);
        state_dir::make(dir).map_err(|error| unavailable(&file, &error))?;
        let database = table::open(&file)?;
        let shared = Arc::new(Shared {
            file,
            database: RwLock::new(Some(database)),
            applied: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
        });
        let (commands, received) = mpsc::channel(CHANGES_MAX);
        writer::start(shared.clone(), received)?;
        Ok(Self { shared, commands })
    }

    /// What a plugin keeps for a tenant.
    #[must_use]
    pub fn space(&self, plugin: &PluginName, tenant: Option<&str>, quota: Quota) -> Space {
        let tenant = tenant.map(|tenant| format!("={tenant}")).unwrap_or_default();
        let name = Arc::new(Name { plugin: plugin.to_string(), tenant });
        Space { state: self.clone(), name, quota, last: None }
    }
}

/// Whether the store of a directory keeps anything, as far as can be seen while nobody has it open. Its file is not touched.
#[must_use]
pub fn is_kept_in(dir: &Path) -> bool {
    let file = dir.join(FILE);
    file.exists() && table::is_used(&file)
}

/// The keys of one plugin and one tenant, as one call sees them.
pub struct Space {
    state: State,
    name: Arc<Name>,
    quota: Quota,
    /// The last that this call wrote or may have seen.
    last: Option<Mark>,
}

impl Space {
    /// The value of a key.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let name = self.name.clone();
        self.read(|database| table::get(database, &name, key))
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn exists(&mut self, key: &str) -> Result<bool, Error> {
        let name = self.name.clone();
        self.read(|database| table::exists(database, &name, key))
    }

    /// The keys after `cursor`, a page of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn keys(&mut self, cursor: Option<&str>) -> Result<Page, Error> {
        let name = self.name.clone();
        self.read(|database| table::keys(database, &name, cursor))
    }

    /// Makes a change; it can be seen by all when this returns, and is on disk after [`Space::flush`].
    ///
    /// # Errors
    /// When it was not made.
    pub async fn change(&mut self, change: Change) -> Result<Answer, Error> {
        check(&change)?;
        let (reply, answer) = oneshot::channel();
        let command = Command::Change { space: self.name.clone(), quota: self.quota, change, reply };
        self.state.commands.send(command).await.map_err(|_| gone())?;
        let (answer, mark) = answer.await.map_err(|_| gone())??;
        self.saw(mark);
        Ok(answer)
    }

    /// Waits until everything that was written or read here is on disk. Costs nothing when nothing was.
    ///
    /// # Errors
    /// When it is not: the changes of this call, or some that it saw, are lost.
    pub async fn flush(&mut self) -> Result<(), Error> {
        let Some(last) = self.last.take() else { return Ok(()) };
        if self.state.shared.epoch.load(Ordering::Acquire) != last.epoch {
            return Err(lost());
        }
        if self.state.shared.durable.load(Ordering::Acquire) >= last.number {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.state.commands.send(Command::Flush(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())??;
        match self.state.shared.epoch.load(Ordering::Acquire) == last.epoch {
            true => Ok(()),
            false => Err(lost()),
        }
    }

    fn read<T>(&mut self, read: impl FnOnce(&Database) -> Result<T, Error>) -> Result<T, Error> {
        let shared = self.state.shared.clone();
        let epoch = shared.epoch.load(Ordering::Acquire);
        let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let found = read(database.as_ref().ok_or_else(gone)?)?;
        // Whatever was read was applied by now.
        self.saw(Mark { epoch, number: shared.applied.load(Ordering::Acquire) });
        Ok(found)
    }

    /// The first epoch stays: a call that began before a loss must hear of it.
    fn saw(&mut self, mark: Mark) {
        let epoch = self.last.map_or(mark.epoch, |last| last.epoch);
        self.last = Some(Mark { epoch, number: mark.number });
    }
}

/// What is wrong with a change whatever the store holds.
fn check(change: &Change) -> Result<(), Error> {
    let key = |key: &str| match key.len() {
        1..=KEY_MAX_BYTES => Ok(()),
        length => Err(Error::Unfit(format!("a key of {length} bytes; it has 1 to {KEY_MAX_BYTES}"))),
    };
    let value = |value: &[u8]| match value.len() {
        ..=VALUE_MAX_BYTES => Ok(()),
        length => Err(Error::Unfit(format!("a value of {length} bytes; it has at most {VALUE_MAX_BYTES}"))),
    };
    let count = |count: usize| match count {
        ..=BATCH_MAX => Ok(()),
        _ => Err(Error::Unfit(format!("{count} keys at once; {BATCH_MAX} are possible"))),
    };
    match change {
        Change::Set(pairs) => {
            count(pairs.len())?;
            pairs.iter().try_for_each(|(name, bytes)| key(name).and_then(|()| value(bytes)))
        }
        Change::Delete(keys) => count(keys.len()).and_then(|()| keys.iter().try_for_each(|name| key(name))),
        Change::Increment(name, _) => key(name),
        Change::Swap { key: name, seen: _, value: bytes } => key(name).and_then(|()| value(bytes)),
    }
}

fn unavailable(file: &Path, problem: &dyn std::fmt::Display) -> Error {
    Error::Unavailable(format!("{}: {problem}", file.display()))
}

fn gone() -> Error {
    Error::Unavailable("it is not open".to_owned())
}

fn lost() -> Error {
    Error::Unavailable("what was written could not be kept; it is as it was before".to_owned())
}

#[cfg(test)]
mod tests;
