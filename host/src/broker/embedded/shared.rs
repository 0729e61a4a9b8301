//! What publishers, subscriptions and the writer share.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::delayed::{Delayed, Retrying};
use super::queue::{Entry, Queue};
use super::routing::Routing;
use super::store::Store;
use crate::broker::{Batch, Mark, Passing, Refusal, Status, Unpublished};
use crate::config::Topology;
use crate::event::{Message, QueueName, now_ms};

/// Publishes that wait for the writer; the next one waits for a place.
const PUBLISHES_WAITING_MAX: usize = 4096;

/// Messages of one publish, each with its queues.
pub(super) type Routed = Vec<(Arc<Message>, BTreeSet<usize>)>;

/// What is stored together, or not at all.
#[derive(Default)]
pub(super) struct Work {
    pub(super) routed: Routed,
    /// Each with the time at which it is due, in milliseconds since the Unix epoch.
    pub(super) delayed: Vec<(u64, Delayed)>,
    /// The delivery that is settled by it: queue and position.
    pub(super) settles: Option<(usize, u64)>,
    pub(super) mark: Option<Mark>,
}

/// Why nothing of a [`Work`] is stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotStored {
    /// The store failed, or the delivery that was to be settled is somebody else's by now.
    #[error("{0}")]
    Lost(String),
    /// Queues have no room for some of the messages; their places in the work.
    #[error("a queue is full")]
    Full(Vec<usize>),
}

impl NotStored {
    /// As the answer to a publish of that batch.
    pub(super) fn of(self, batch: Batch) -> Unpublished {
        match self {
            Self::Lost(reason) => Unpublished::lost(batch, reason),
            Self::Full(places) => {
                let routed =
                    batch.rest().filter(|(_, publication)| publication.delay.is_none_or(|delay| delay.is_zero()));
                let indexes: Vec<usize> = routed.map(|(index, _)| index).collect();
                let refused = places.into_iter().filter_map(|place| indexes.get(place).copied());
                let refused = refused.map(|index| (index, Refusal::from(Passing::Full))).collect();
                Unpublished { batch, refused, lost: None }
            }
        }
    }
}

/// What the writer is told.
pub(super) enum Command {
    /// Store all and answer.
    Publish {
        work: Work,
        reply: oneshot::Sender<Result<(), NotStored>>,
        /// Given back when the publish is answered.
        _place: OwnedSemaphorePermit,
    },
    /// There are pending changes.
    Wake,
    /// Answer when everything pending is on disk.
    Flush(oneshot::Sender<()>),
    /// The end, in order.
    Close(oneshot::Sender<()>),
    /// The end, as it is.
    Abandon,
}

/// A change that waits for the next transaction; there are never more than deliveries.
pub(super) enum Change {
    /// Acknowledged.
    Remove { queue: usize, position: u64 },
    /// Came back: its count is written, so that it survives a restart.
    Recount { queue: usize, entry: Entry },
    /// To be moved to the dead-letter target.
    GiveUp { queue: usize, entry: Entry, reason: &'static str },
}

/// The state behind the lock.
pub(super) struct Core {
    pub(super) topology: Topology,
    pub(super) queues: Vec<Queue>,
    pub(super) pending: Vec<Change>,
    /// Why nothing works any more.
    pub(super) failed: Option<String>,
    /// When the next delayed message is due.
    pub(super) next_due: Option<u64>,
    /// Keeps the order of delayed messages that are due together.
    pub(super) next_delayed: u64,
    /// Delayed messages that wait to be tried again, by their queue.
    pub(super) retrying: Retrying,
}

pub(super) struct Shared {
    pub(super) store: Store,
    /// Replaced whole when the topology changes.
    pub(super) routing: ArcSwap<Routing>,
    core: Mutex<Core>,
    pub(super) status: watch::Sender<Status>,
    commands: Sender<Command>,
    is_woken: AtomicBool,
    places: Arc<Semaphore>,
    next_holder: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        store: Store,
        topology: Topology,
        queues: Vec<Queue>,
        (next_due, retrying): (Option<u64>, Retrying),
    ) -> (Self, Receiver<Command>) {
        // The permits bound publishes, and one flag bounds wake-ups; the channel itself needs no bound.
        let (commands, receiver) = mpsc::channel();
        let core = Core {
            topology,
            queues,
            pending: Vec::new(),
            failed: None,
            next_due,
            // Beyond every number of an earlier run.
            next_delayed: now_ms() * 1_000_000,
            retrying,
        };
        let shared = Self {
            store,
            routing: ArcSwap::from_pointee(core.routing()),
            core: Mutex::new(core),
            status: watch::Sender::new(Status { connected: true, session: 1, ..Status::default() }),
            commands,
            is_woken: AtomicBool::new(false),
            places: Arc::new(Semaphore::new(PUBLISHES_WAITING_MAX)),
            next_holder: AtomicU64::new(1),
        };
        (shared, receiver)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn queue_number(&self, name: &QueueName) -> Option<usize> {
        self.lock().queues.iter().position(|queue| queue.name == *name && queue.removed_ms.is_none())
    }

    pub(super) fn new_holder(&self) -> u64 {
        self.next_holder.fetch_add(1, Ordering::Relaxed)
    }

    /// Nothing happens when the writer is gone: who waits for an answer sees its sender dropped.
    pub(super) fn send(&self, command: Command) {
        let _gone = self.commands.send(command);
    }

    /// Tells the writer that there are changes, once until it has looked.
    pub(super) fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.send(Command::Wake);
        }
    }

    pub(super) fn woken(&self) {
        self.is_woken.store(false, Ordering::Release);
    }

    pub(super) async fn publish(&self, work: Work) -> Result<(), NotStored> {
        let gone = || NotStored::Lost(self.lock().failed.clone().unwrap_or_else(|| "the store is closed".to_owned()));
        let place = self.places.clone().acquire_owned().await.map_err(|_closed| gone())?;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Publish { work, reply, _place: place });
        answer.await.unwrap_or_else(|_dropped| Err(gone()))
    }

    /// The store failed: nothing is confirmed any more, and everybody is told.
    pub(super) fn fail(&self, reason: String) {
        tracing::error!(reason, "the embedded store failed; it is not written again. Mend the disk and restart");
        self.lock().failed = Some(reason.clone());
        self.status.send_modify(|status| {
            status.connected = false;
            status.error = Some(reason);
        });
        self.lock().queues.iter().for_each(|queue| queue.arrivals.notify_waiters());
    }
}

/// The places of the messages of a publish that go to one of these queues.
pub(super) fn places_of(messages: &Routed, full: &BTreeSet<usize>) -> Vec<usize> {
    let hits = messages.iter().enumerate().filter(|(_, (_, queues))| !queues.is_disjoint(full));
    hits.map(|(place, _)| place).collect()
}
