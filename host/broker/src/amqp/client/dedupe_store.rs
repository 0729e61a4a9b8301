//! The dedupe records beside RabbitMQ: a small database in the state directory. One thread writes. Records that arrive during a
//! transaction share the next one.
//!
//! While the file cannot be used, every event counts as new, because a repeat is better than a loss. [`Condition::DedupeOff`]
//! shows this, and the file is opened again until it works.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redb::{Database, ReadableDatabase};
use tokio::sync::{oneshot, watch};

use crate::dedupe::{self, RecordCounts};
use crate::guard::{GuardedError, guarded};
use crate::{DedupeLookup, DedupeRecord, Error};
use trunkline_config::state_dir;
use trunkline_event::now_ms;
use trunkline_telemetry::Condition;
use trunkline_telemetry::wait::{Loop, RetryLoop};

/// Records that share a transaction.
const BATCH_MAX: usize = 1024;
/// Size of redb's page cache.
const CACHE_BYTES: usize = 8 << 20;
/// A file that was opened again counts as usable after this time without a record to write.
const TRIAL: Duration = Duration::from_secs(2);

/// The store, opened at the first look-up or record. Without the key `dedupe` of a route there is no file.
pub(crate) struct DedupeStore {
    file: PathBuf,
    access: watch::Sender<DedupeAccess>,
    writer: Mutex<Option<(SyncSender<DedupeCommand>, JoinHandle<()>)>>,
}

/// The file as look-ups see it.
#[derive(Clone)]
enum DedupeAccess {
    /// The file is opened for the first time. Look-ups wait for it.
    Opening,
    Open(Arc<Database>),
    Off,
}

enum DedupeCommand {
    Record(DedupeRecord, oneshot::Sender<()>),
    /// A look-up failed, with this reason.
    ReadFailed(String),
}

/// Why the writer stops using a file.
enum ServeEnd {
    /// The store was dropped.
    Dropped,
    /// A read or a write failed, with this reason.
    Failed(String),
}

impl DedupeStore {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self {
            file: state_dir.join("dedupe.redb"),
            access: watch::Sender::new(DedupeAccess::Opening),
            writer: Mutex::default(),
        }
    }

    /// Looks up an event. An event that cannot be looked up counts as new.
    pub(crate) async fn look_up(&self, record: &DedupeRecord) -> DedupeLookup {
        let Some(writer) = self.writer() else { return DedupeLookup::Unknown };
        let mut access = self.access.subscribe();
        let settled = access.wait_for(|access| !matches!(access, DedupeAccess::Opening)).await;
        let Ok(DedupeAccess::Open(database)) = settled.map(|access| access.clone()) else {
            return DedupeLookup::Unknown;
        };
        let found = database.begin_read().map_err(redb::Error::from);
        found.and_then(|read| dedupe::look_up(&read, record, now_ms())).unwrap_or_else(|error| {
            // A writer whose queue is full finds the failure by itself.
            let _sent = writer.try_send(DedupeCommand::ReadFailed(error.to_string()));
            DedupeLookup::Unknown
        })
    }

    /// Writes a record. The record is on disk when the future is ready.
    ///
    /// # Errors
    /// [`Error::Lost`] when the file cannot be written.
    pub(crate) async fn record(&self, record: DedupeRecord) -> Result<(), Error> {
        let lost = || Error::Lost("the daemon cannot write dedupe records".to_owned());
        let (written, answer) = oneshot::channel();
        let writer = self.writer().ok_or_else(lost)?;
        // The queue is full while the disk is slower than the broker. Waiting is right, but not on an async thread.
        if let Err(TrySendError::Full(again)) = writer.try_send(DedupeCommand::Record(record, written)) {
            let sent = tokio::task::spawn_blocking(move || writer.send(again)).await;
            sent.map_err(|_panicked| lost())?.map_err(|_gone| lost())?;
        }
        answer.await.map_err(|_dropped| lost())
    }

    /// The queue of the writing thread, which the first caller starts.
    fn writer(&self) -> Option<SyncSender<DedupeCommand>> {
        let mut writer = self.writer.lock();
        if let Some((commands, _thread)) = &*writer {
            return Some(commands.clone());
        }
        let (commands, waiting) = sync_channel(BATCH_MAX);
        let work = DedupeWriter { file: self.file.clone(), access: self.access.clone(), waiting };
        match std::thread::Builder::new().name("trunkline-dedupe".to_owned()).spawn(move || work.run()) {
            Ok(thread) => {
                Condition::DedupeOff.clear("");
                *writer = Some((commands.clone(), thread));
                Some(commands)
            }
            Err(error) => {
                Condition::DedupeOff
                    .raise("", format!("the daemon does not recognise repeated events, because the writing thread cannot be started: {error}"));
                None
            }
        }
    }
}

impl Drop for DedupeStore {
    /// Waits until the file is closed, so that another store can open it.
    fn drop(&mut self) {
        let writer = self.writer.get_mut().take();
        if let Some((commands, thread)) = writer {
            drop(commands);
            let _panicked = thread.join();
        }
    }
}

struct DedupeWriter {
    file: PathBuf,
    access: watch::Sender<DedupeAccess>,
    waiting: Receiver<DedupeCommand>,
}

impl DedupeWriter {
    /// Opens and serves the file until the store is dropped.
    fn run(self) {
        let mut retry = RetryLoop::new(Loop::DedupeOpen, "");
        loop {
            let why = match on_file(|| open(&self.file)) {
                Ok((database, counts)) => {
                    let database = Arc::new(database);
                    self.access.send_replace(DedupeAccess::Open(database.clone()));
                    match self.serve(&database, counts, &mut retry) {
                        ServeEnd::Dropped => return,
                        ServeEnd::Failed(why) => why,
                    }
                }
                Err(why) => why,
            };
            self.access.send_replace(DedupeAccess::Off);
            let why = format!("{}: {why}", self.file.display());
            if retry.tries() == 0 {
                let meanwhile = "dedupe records cannot be written; the daemon handles repeated events again";
                tracing::error!(error = why, "{meanwhile}");
            }
            let detail =
                format!("the daemon does not recognise repeated events and handles repeated events again: {why}");
            // The loop has no bound.
            let until = retry.failed(&detail).map(|pause| Instant::now() + pause).unwrap_or_else(|_| Instant::now());
            if self.refuse(until) {
                return;
            }
        }
    }

    /// Writes records until something fails. After a failure the file counts as usable once a record was written, or after
    /// [`TRIAL`] without a failure. On a full disk a file can be opened that takes no records.
    fn serve(&self, database: &Database, mut counts: RecordCounts, retry: &mut RetryLoop) -> ServeEnd {
        loop {
            let first = if retry.tries() == 0 {
                self.waiting.recv().map_err(|_gone| RecvTimeoutError::Disconnected)
            } else {
                self.waiting.recv_timeout(TRIAL)
            };
            let first = match first {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.works_again(retry);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return ServeEnd::Dropped,
            };
            let (mut batch, mut answers) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            while let Some(command) = next.take() {
                match command {
                    DedupeCommand::Record(record, answer) => {
                        batch.push(record);
                        answers.push(answer);
                    }
                    DedupeCommand::ReadFailed(why) => return ServeEnd::Failed(why),
                }
                if batch.len() < BATCH_MAX {
                    next = self.waiting.try_recv().ok();
                }
            }
            let written = on_file(|| {
                let begun = database.begin_write()?;
                dedupe::write(&begun, &batch, &mut counts, now_ms())?;
                begun.commit()?;
                Ok(())
            });
            match written {
                Ok(()) => {
                    self.works_again(retry);
                    for answer in answers {
                        let _caller_gone = answer.send(());
                    }
                }
                Err(why) => return ServeEnd::Failed(why),
            }
        }
    }

    fn works_again(&self, retry: &mut RetryLoop) {
        if retry.tries() > 0 {
            tracing::info!(file = %self.file.display(), "the daemon can write dedupe records again, and recognises repeated events again");
            retry.succeeded();
        }
    }

    /// Drops every command until this time; a dropped answer tells the caller. Returns whether the store was dropped.
    fn refuse(&self, until: Instant) -> bool {
        loop {
            match self.waiting.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(DedupeCommand::Record(_, _) | DedupeCommand::ReadFailed(_)) => {}
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }
}

/// Works on the file, and explains a failure.
fn on_file<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, String> {
    guarded(work).map_err(|error| match error {
        GuardedError::Failed(error) => error.to_string(),
        GuardedError::Contradiction => format!("{error}; remove the file to start without dedupe records"),
    })
}

fn open(file: &Path) -> Result<(Database, RecordCounts), redb::Error> {
    if let Some(dir) = file.parent() {
        state_dir::make(dir)?;
    }
    let database = Database::builder().set_cache_size(CACHE_BYTES).create_file(state_dir::file(file)?)?;
    let begun = database.begin_write()?;
    let counts = dedupe::open(&begun)?;
    begun.commit()?;
    Ok((database, counts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SettledAs;
    use trunkline_config::DedupeWindow;
    use trunkline_event::RouteName;

    fn record(id: &str) -> DedupeRecord {
        let window = DedupeWindow { window: Duration::from_secs(60), max: 100 };
        let route = RouteName::new("r").expect("a name");
        DedupeRecord { route, id: id.to_owned(), content: 1, window, settled_as: SettledAs::Done }
    }

    /// The first look-up waits for the file. An event does not count as new because the file is not open yet.
    #[tokio::test]
    async fn records_are_there_at_once_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        for run in 0..3 {
            let store = DedupeStore::new(dir.path());
            let asked = futures_util::future::join_all((0..run).map(|n| {
                let (store, record) = (&store, record(&n.to_string()));
                async move { store.look_up(&record).await }
            }));
            assert!(asked.await.iter().all(|known| *known == DedupeLookup::Same(SettledAs::Done)), "run {run}");
            store.record(record(&run.to_string())).await.expect("marked");
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_opened_as_soon_as_it_can() {
        let dir = tempfile::tempdir().expect("a directory");
        let in_the_way = dir.path().join("dedupe.redb");
        std::fs::create_dir(&in_the_way).expect("a directory in its place");
        let store = DedupeStore::new(dir.path());
        assert_eq!(store.look_up(&record("a")).await, DedupeLookup::Unknown, "the event counts as new meanwhile");
        assert!(store.record(record("a")).await.is_err(), "the caller gets an error");
        std::fs::remove_dir(&in_the_way).expect("out of the way");
        let deadline = Instant::now() + Duration::from_secs(30);
        while store.record(record("b")).await.is_err() {
            assert!(Instant::now() < deadline, "it is not opened again");
            trunkline_telemetry::wait::after(Duration::from_millis(20)).await;
        }
        assert_eq!(store.look_up(&record("b")).await, DedupeLookup::Same(SettledAs::Done));
    }
}
