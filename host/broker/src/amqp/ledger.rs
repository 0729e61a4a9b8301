//! The dedupe records beside a RabbitMQ: a small database of our own in the state directory. One thread writes; records
//! that come while it writes share the next transaction.
//!
//! While the file cannot be used, events pass as new, because a repeat is better than a loss: [`Condition::DedupeOff`] says
//! so, and the file is opened again until it works.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase};
use tokio::sync::{oneshot, watch};

use crate::marks::{self, Counts};
use crate::{Error, Known, Mark};
use trunkline_config::state_dir;
use trunkline_event::now_ms;
use trunkline_telemetry::Condition;
use trunkline_telemetry::wait::{Loop, Retry};

const BATCH_MAX: usize = 1024;
/// redb's page cache.
const CACHE_BYTES: usize = 8 << 20;
/// A file that was opened again without anything to write counts as usable after so long.
const TRIAL: Duration = Duration::from_secs(2);

/// Opened when the first route asks: without `dedupe` there is no file.
pub(super) struct Ledger {
    file: PathBuf,
    access: watch::Sender<Access>,
    writer: Mutex<Option<(SyncSender<Command>, JoinHandle<()>)>>,
}

/// What readers have of the file.
#[derive(Clone)]
enum Access {
    /// The first opening is under way: whoever asks waits for it.
    Opening,
    Open(Arc<Database>),
    Off,
}

enum Command {
    Mark(Mark, oneshot::Sender<()>),
    /// A read failed, with the reason.
    Suspect(String),
}

/// Why the writer does not go on with a file.
enum End {
    /// The ledger is gone.
    Closed,
    Failed(String),
}

impl Ledger {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            file: state_dir.join("dedupe.redb"),
            access: watch::Sender::new(Access::Opening),
            writer: Mutex::default(),
        }
    }

    /// Whether an event is settled; one that cannot be looked up counts as not.
    pub(super) async fn known(&self, mark: &Mark) -> Known {
        let Some(writer) = self.writer() else { return Known::No };
        let mut access = self.access.subscribe();
        let settled = access.wait_for(|access| !matches!(access, Access::Opening)).await;
        let Ok(Access::Open(database)) = settled.map(|access| access.clone()) else { return Known::No };
        let found = database.begin_read().map_err(redb::Error::from);
        found.and_then(|read| marks::known(&read, mark, now_ms())).unwrap_or_else(|error| {
            // A writer that is behind finds out by itself.
            let _told = writer.try_send(Command::Suspect(error.to_string()));
            Known::No
        })
    }

    /// On disk when it returns.
    pub(super) async fn mark(&self, mark: Mark) -> Result<(), Error> {
        let lost = || Error::Lost("the dedupe records cannot be written".to_owned());
        let (written, answer) = oneshot::channel();
        let writer = self.writer().ok_or_else(lost)?;
        // Full only while the disk is slower than the broker: waiting is right, but not on an async thread.
        if let Err(TrySendError::Full(again)) = writer.try_send(Command::Mark(mark, written)) {
            let sent = tokio::task::spawn_blocking(move || writer.send(again)).await;
            sent.map_err(|_panicked| lost())?.map_err(|_gone| lost())?;
        }
        answer.await.map_err(|_dropped| lost())
    }

    /// The thread that writes, started by whoever asks first.
    fn writer(&self) -> Option<SyncSender<Command>> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((commands, _thread)) = &*writer {
            return Some(commands.clone());
        }
        let (commands, waiting) = sync_channel(BATCH_MAX);
        let work = Writer { file: self.file.clone(), access: self.access.clone(), waiting };
        match std::thread::Builder::new().name("trunkline-dedupe".to_owned()).spawn(move || work.run()) {
            Ok(thread) => {
                Condition::DedupeOff.clear("");
                *writer = Some((commands.clone(), thread));
                Some(commands)
            }
            Err(error) => {
                Condition::DedupeOff.raise("", format!("repeats are not recognised: no thread to write with: {error}"));
                None
            }
        }
    }
}

impl Drop for Ledger {
    /// The file is closed when the ledger is gone: whoever opens it next finds it so.
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((commands, thread)) = writer {
            drop(commands);
            let _panicked = thread.join();
        }
    }
}

struct Writer {
    file: PathBuf,
    access: watch::Sender<Access>,
    waiting: Receiver<Command>,
}

impl Writer {
    /// Ends when the ledger is dropped.
    fn run(self) {
        let mut retry = Retry::new(Loop::DedupeOpen, "");
        loop {
            let why = match guarded(|| open(&self.file)) {
                Ok((database, counts)) => {
                    let database = Arc::new(database);
                    self.access.send_replace(Access::Open(database.clone()));
                    match self.serve(&database, counts, &mut retry) {
                        End::Closed => return,
                        End::Failed(why) => why,
                    }
                }
                Err(why) => why,
            };
            self.access.send_replace(Access::Off);
            let why = format!("{}: {why}", self.file.display());
            if retry.tries() == 0 {
                let meanwhile = "dedupe records cannot be kept; repeats are handled again until they can";
                tracing::error!(error = why, "{meanwhile}");
            }
            let detail = format!("repeats are not recognised and are handled again: {why}");
            // The loop has no bound.
            let until = retry.failed(&detail).map(|pause| Instant::now() + pause).unwrap_or_else(|_| Instant::now());
            if self.refuse(until) {
                return;
            }
        }
    }

    /// Writes what comes, until something fails. After a failure the file counts as usable once something was written, or
    /// nothing failed for a while: a full disk lets a file be opened that takes no more.
    fn serve(&self, database: &Database, mut counts: Counts, retry: &mut Retry) -> End {
        loop {
            let first = if retry.tries() == 0 {
                self.waiting.recv().map_err(|_gone| RecvTimeoutError::Disconnected)
            } else {
                self.waiting.recv_timeout(TRIAL)
            };
            let first = match first {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.is_well(retry);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return End::Closed,
            };
            let (mut batch, mut answers) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            while let Some(command) = next.take() {
                match command {
                    Command::Mark(mark, answer) => {
                        batch.push(mark);
                        answers.push(answer);
                    }
                    Command::Suspect(why) => return End::Failed(why),
                }
                if batch.len() < BATCH_MAX {
                    next = self.waiting.try_recv().ok();
                }
            }
            let written = guarded(|| {
                let begun = database.begin_write()?;
                marks::write(&begun, &batch, &mut counts, now_ms())?;
                begun.commit()?;
                Ok(())
            });
            match written {
                Ok(()) => {
                    self.is_well(retry);
                    for answer in answers {
                        let _nobody_waits = answer.send(());
                    }
                }
                Err(why) => return End::Failed(why),
            }
        }
    }

    fn is_well(&self, retry: &mut Retry) {
        if retry.tries() > 0 {
            tracing::info!(file = %self.file.display(), "dedupe records are kept again");
            retry.succeeded();
        }
    }

    /// Until then nothing is written, and whoever wants it is told by a dropped answer. Whether the ledger is gone.
    fn refuse(&self, until: Instant) -> bool {
        loop {
            match self.waiting.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Command::Mark(_, _) | Command::Suspect(_)) => {}
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }
}

/// Work on a file that may be damaged, which can make redb panic.
fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_panic) => Err("its pages contradict each other; without the file the records begin anew".to_owned()),
    }
}

fn open(file: &Path) -> Result<(Database, Counts), redb::Error> {
    if let Some(dir) = file.parent() {
        state_dir::make(dir)?;
    }
    let database = Database::builder().set_cache_size(CACHE_BYTES).create_file(state_dir::file(file)?)?;
    let begun = database.begin_write()?;
    let counts = marks::open(&begun)?;
    begun.commit()?;
    Ok((database, counts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ended;
    use trunkline_config::DedupeWindow;
    use trunkline_event::RouteName;

    fn mark(id: &str) -> Mark {
        let window = DedupeWindow { window: Duration::from_secs(60), max: 100 };
        let route = RouteName::new("r").expect("a name");
        Mark { route, id: id.to_owned(), content: 1, window, ended: Ended::Done }
    }

    /// What is asked first waits for the file, and does not count as new because it is not open yet.
    #[tokio::test]
    async fn records_are_there_at_once_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        for run in 0..3 {
            let ledger = Ledger::new(dir.path());
            let asked = futures_util::future::join_all((0..run).map(|n| {
                let (ledger, mark) = (&ledger, mark(&n.to_string()));
                async move { ledger.known(&mark).await }
            }));
            assert!(asked.await.iter().all(|known| *known == Known::Same(Ended::Done)), "run {run}");
            ledger.mark(mark(&run.to_string())).await.expect("marked");
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_opened_as_soon_as_it_can() {
        let dir = tempfile::tempdir().expect("a directory");
        let in_the_way = dir.path().join("dedupe.redb");
        std::fs::create_dir(&in_the_way).expect("a directory in its place");
        let ledger = Ledger::new(dir.path());
        assert_eq!(ledger.known(&mark("a")).await, Known::No, "it passes meanwhile");
        assert!(ledger.mark(mark("a")).await.is_err(), "and that is told");
        std::fs::remove_dir(&in_the_way).expect("out of the way");
        let deadline = Instant::now() + Duration::from_secs(30);
        while ledger.mark(mark("b")).await.is_err() {
            assert!(Instant::now() < deadline, "it is not opened again");
            trunkline_telemetry::wait::after(Duration::from_millis(20)).await;
        }
        assert_eq!(ledger.known(&mark("b")).await, Known::Same(Ended::Done));
    }
}
