//! Opening, consuming and closing.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::subscription::{EmbeddedSubscription, Exclusivity};
use crate::dead_letter::DELAYED_DEAD_LETTERS;
use crate::embedded::damage;
use crate::embedded::store::{ClockAnchor, FILE, Fault, LastRun, MessageStore, StoreClock};
use crate::embedded::writer::{self, BrokerShared, DiskSpace, StoreContents, WriterCommand, WriterSetup};
use crate::{BrokerStatus, Error};
use trunkline_config::Topology;
use trunkline_config::state_dir::{self, DirectoryLock};
use trunkline_event::QueueName;

/// An open embedded broker.
pub struct EmbeddedBroker {
    pub(crate) shared: Arc<BrokerShared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    _lock: DirectoryLock,
}

impl EmbeddedBroker {
    /// Opens or makes the store in `dir`. Queues that are no longer in the topology keep their messages.
    ///
    /// # Errors
    /// [`Error::Unusable`] when another process holds the directory or the store is not readable.
    pub async fn open(dir: &Path, topology: &Topology) -> Result<Self, Error> {
        let (dir, topology) = (dir.to_owned(), topology.clone());
        tokio::task::spawn_blocking(move || Self::open_blocking(&dir, &topology))
            .await
            .map_err(|error| Error::Unusable(format!("the opening of the store panicked: {error}")))?
    }

    fn open_blocking(dir: &Path, topology: &Topology) -> Result<Self, Error> {
        let unusable = |error: &dyn std::fmt::Display| {
            Error::Unusable(format!("the embedded broker cannot use {}: {error}", dir.display()))
        };
        state_dir::make(dir).map_err(|error| unusable(&error))?;
        let lock = DirectoryLock::take(dir).map_err(|error| Error::Unusable(error.to_string()))?;
        let (file, mut space) = (dir.join(FILE), DiskSpace::new(dir));
        let wanted: Vec<QueueName> = topology.queues.keys().cloned().collect();
        let opened = match open_store(&file, &wanted) {
            Err(Fault::NoRoom(why)) => {
                // Without the reserve file there may be enough space to open the store.
                space.ran_out(&why, 0);
                open_store(&file, &wanted)
            }
            opened => opened,
        };
        let OpenedStore { store, last_run, anchor, contents } = opened.map_err(|fault| unusable(&fault))?;
        for (name, stored) in &contents.queues {
            let mut streams = contents.streams.iter();
            let is_stream = streams.any(|stream| stream.queue.as_str() == name || stream.overflow.as_str() == name);
            if !is_stream && name != DELAYED_DEAD_LETTERS && !topology.queues.contains_key(name.as_str()) {
                tracing::warn!(
                    queue = name,
                    messages = stored.messages,
                    "a queue is no longer in routes.toml; the broker keeps the queue and its messages"
                );
            }
        }
        let clock = StoreClock::resume(anchor);
        let state = contents.into_state(1, topology.clone(), last_run, clock.now_ms());
        let (shared, commands) = BrokerShared::new(store, clock, state);
        let shared = Arc::new(shared);
        let setup = WriterSetup { shared: shared.clone(), commands, file, space, anchor };
        let writer = writer::start(setup).map_err(|error| unusable(&error))?;
        Ok(Self { shared, writer: Mutex::new(Some(writer)), _lock: lock })
    }

    /// The status as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<BrokerStatus> {
        self.shared.status.subscribe()
    }

    /// Begins to consume; see [`Broker::subscribe`](crate::Broker::subscribe).
    ///
    /// # Errors
    /// [`Error::Queue`] when there is no such queue, [`Error::Lost`] when the store failed.
    pub async fn subscribe(&self, queue: &QueueName, prefetch: u16) -> Result<EmbeddedSubscription, Error> {
        EmbeddedSubscription::new(self.shared.clone(), queue, prefetch, Exclusivity::Shared)
    }

    /// Writes everything that is pending, closes the store cleanly, and ends the writer. The lock on the directory is
    /// released when the broker is dropped.
    pub async fn close(&self, within: Duration) {
        let (reply, closed) = oneshot::channel();
        self.shared.send(WriterCommand::Close(reply));
        if tokio::time::timeout(within, closed).await.is_err() {
            tracing::warn!("the embedded store did not close in time; the next start counts this stop as a crash");
            return;
        }
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            let _panicked = writer.join();
        }
    }
}

impl Drop for EmbeddedBroker {
    /// Ends the writer without closing the store, as a crash would.
    fn drop(&mut self) {
        self.shared.send(WriterCommand::Abandon);
        if let Some(writer) = self.writer.get_mut().take() {
            let _panicked = writer.join();
        }
    }
}

/// A store that was just opened.
struct OpenedStore {
    store: MessageStore,
    last_run: LastRun,
    anchor: Option<ClockAnchor>,
    contents: StoreContents,
}

fn open_store(file: &Path, wanted: &[QueueName]) -> Result<OpenedStore, Fault> {
    let store = damage::open_or_make(file)?;
    let (last_run, anchor) = store.begin()?;
    let contents = StoreContents::of(&store, wanted)?;
    Ok(OpenedStore { store, last_run, anchor, contents })
}
