//! The dedupe windows beside a RabbitMQ: a small database of our own in the state directory. One thread writes; marks
//! that come while it writes share the next transaction.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use redb::{Database, ReadableDatabase};
use tokio::sync::{OnceCell, oneshot};

use crate::broker::marks::{self, Counts};
use crate::broker::{Error, Known, Mark};
use crate::event::now_ms;

const BATCH_MAX: usize = 1024;
/// redb's page cache.
const CACHE_BYTES: usize = 8 << 20;

/// Opened when the first route asks: without `dedupe` there is no file.
pub(super) struct Ledger {
    file: PathBuf,
    open: OnceCell<Option<Open>>,
}

struct Open {
    database: Arc<Database>,
    /// Until the end, as the thread that takes them.
    writer: Option<(mpsc::SyncSender<Marking>, JoinHandle<()>)>,
}

type Marking = (Mark, oneshot::Sender<()>);

impl Ledger {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { file: state_dir.join("dedupe.redb"), open: OnceCell::new() }
    }

    /// Whether an event is settled; one that cannot be looked up counts as not.
    pub(super) async fn known(&self, mark: &Mark) -> Known {
        let Some(open) = self.open().await else { return Known::No };
        let found = open.database.begin_read().map_err(redb::Error::from);
        found.and_then(|read| marks::known(&read, mark, now_ms())).unwrap_or_else(|error| {
            tracing::error!(%error, "the dedupe window cannot be read; the event counts as new");
            Known::No
        })
    }

    /// On disk when it returns.
    pub(super) async fn mark(&self, mark: Mark) -> Result<(), Error> {
        let lost = || Error::Lost("the dedupe window cannot be written".to_owned());
        let open = self.open().await.ok_or_else(lost)?;
        let (written, answer) = oneshot::channel();
        let (sender, _writer) = open.writer.as_ref().ok_or_else(lost)?;
        let sender = sender.clone();
        // Full only while the disk is slower than the broker: waiting is right, but not on an async thread.
        if let Err(mpsc::TrySendError::Full(again)) = sender.try_send((mark, written)) {
            let sent = tokio::task::spawn_blocking(move || sender.send(again)).await;
            sent.map_err(|_panicked| lost())?.map_err(|_gone| lost())?;
        }
        answer.await.map_err(|_dropped| lost())
    }

    async fn open(&self) -> Option<&Open> {
        let file = self.file.clone();
        let open = || async move {
            let opened = tokio::task::spawn_blocking(move || Open::start(&file)).await;
            match opened.map_err(|panicked| panicked.to_string()).and_then(|opened| opened) {
                Ok(open) => Some(open),
                Err(error) => {
                    tracing::error!(error, "the dedupe windows cannot be opened: repeats are not dropped");
                    None
                }
            }
        };
        self.open.get_or_init(open).await.as_ref()
    }
}

impl Open {
    fn start(file: &Path) -> Result<Self, String> {
        let failed = |error: redb::Error| format!("{}: {error}", file.display());
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        }
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(file).map_err(|e| failed(e.into()))?;
        let begun = database.begin_write().map_err(|error| failed(error.into()))?;
        let counts = marks::open(&begun).map_err(failed)?;
        begun.commit().map_err(|error| failed(error.into()))?;
        let database = Arc::new(database);
        let (marks, waiting) = mpsc::sync_channel(BATCH_MAX);
        let written = database.clone();
        let writer = std::thread::Builder::new()
            .name("trunkline-dedupe".to_owned())
            .spawn(move || write_all(&written, counts, &waiting))
            .map_err(|error| error.to_string())?;
        Ok(Self { database, writer: Some((marks, writer)) })
    }
}

impl Drop for Open {
    /// The file is closed when the ledger is gone: who opens it next finds it so.
    fn drop(&mut self) {
        if let Some((marks, writer)) = self.writer.take() {
            drop(marks);
            let _panicked = writer.join();
        }
    }
}

/// Ends when the ledger is dropped.
fn write_all(database: &Database, mut counts: Counts, waiting: &mpsc::Receiver<Marking>) {
    while let Ok((mark, answer)) = waiting.recv() {
        let (mut batch, mut answers) = (vec![mark], vec![answer]);
        while batch.len() < BATCH_MAX
            && let Ok((mark, answer)) = waiting.try_recv()
        {
            batch.push(mark);
            answers.push(answer);
        }
        let written = (|| -> Result<(), redb::Error> {
            let begun = database.begin_write()?;
            marks::write(&begun, &batch, &mut counts, now_ms())?;
            begun.commit()?;
            Ok(())
        })();
        match written {
            Ok(()) => {
                for answer in answers {
                    let _nobody_waits = answer.send(());
                }
            }
            Err(error) => {
                tracing::error!(%error, "the dedupe windows cannot be written: repeats are not dropped any more");
                return;
            }
        }
    }
}
