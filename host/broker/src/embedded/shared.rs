//! What publishers, subscriptions and the writer share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::clock::Clock;
use super::delayed::{Delayed, Retrying};
use super::queue::{Entry, Queue};
use super::routing::Routing;
use super::store::Store;
use crate::{Batch, Mark, Passing, Refusal, Status, Tap, Unpublished};
use trunkline_config::Topology;
use trunkline_event::{Message, QueueName};

/// Publishes that wait for the writer; the next one waits for a place.
const PUBLISHES_WAITING_MAX: usize = 4096;

/// Messages of one publish, each with its queues.
pub(super) type Routed = Vec<(Arc<Message>, BTreeSet<usize>)>;

/// A delivery that is out: in which queue, where, and with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Out {
    pub(super) session: u64,
    pub(super) queue: usize,
    pub(super) position: u64,
    pub(super) holder: u64,
}

/// What is stored together, or not at all.
#[derive(Default)]
pub(super) struct Work {
    pub(super) routed: Routed,
    /// Each with the time at which it is due, by the clock of the store.
    pub(super) delayed: Vec<(u64, Delayed)>,
    /// The deliveries that are settled by it.
    pub(super) settles: Vec<Out>,
    pub(super) mark: Option<Mark>,
}

impl Work {
    /// Bytes of the bodies, each as often as it is stored.
    pub(super) fn bytes(&self) -> usize {
        let routed = self.routed.iter().map(|(message, queues)| message.body.len().saturating_mul(queues.len()));
        let delayed = self.delayed.iter().map(|(_, delayed)| delayed.message.body.len());
        routed.chain(delayed).fold(0, usize::saturating_add)
    }

    pub(super) fn messages(&self) -> usize {
        self.routed.len() + self.delayed.len()
    }
}

/// Why nothing of a [`Work`] is stored.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum NotStored {
    /// The store failed, or the delivery that was to be settled is somebody else's by now.
    #[error("{0}")]
    Lost(String),
    /// Queues have no room for some of the messages; their places in the work.
    #[error("a queue is full")]
    Full(Vec<usize>),
    /// The disk has no room.
    #[error("{0}")]
    NoRoom(String),
}

impl NotStored {
    /// As the answer to a publish of that batch.
    pub(super) fn of(self, batch: Batch) -> Unpublished {
        let refused = match self {
            Self::Lost(reason) => return Unpublished::lost(batch, reason),
            Self::Full(places) => {
                let routed =
                    batch.rest().filter(|(_, publication)| publication.delay.is_none_or(|delay| delay.is_zero()));
                let indexes: Vec<usize> = routed.map(|(index, _)| index).collect();
                let refused = places.into_iter().filter_map(|place| indexes.get(place).copied());
                refused.map(|index| (index, Refusal::from(Passing::Full))).collect()
            }
            Self::NoRoom(reason) => {
                batch.rest().map(|(index, _)| (index, Refusal::from(Passing::NoRoom(reason.clone())))).collect()
            }
        };
        Unpublished { batch, refused, lost: None }
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
    /// There are pending changes, or something is to be read.
    Wake,
    /// Answer when everything pending is on disk.
    Flush(oneshot::Sender<()>),
    /// Change which queues there are.
    Alter(Alteration, oneshot::Sender<Result<(), String>>),
    /// The end, in order.
    Close(oneshot::Sender<()>),
    /// The end, as it is.
    Abandon,
}

/// Another set of queues.
pub(super) enum Alteration {
    /// Make those that are missing.
    Queues(Vec<QueueName>),
    /// Make a reader's queues and bindings.
    Tap(Box<Tap>),
    /// Remove readers' queues, with what is in them. Their numbers, which nothing is routed to any more.
    Remove(Vec<usize>),
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

/// The state behind the lock, of one session: from opening the store to its end or its failure.
#[derive(Default)]
pub(super) struct Core {
    /// Counts from 1.
    pub(super) session: u64,
    pub(super) topology: Topology,
    /// By number, which is the id in the store and never used again.
    pub(super) queues: BTreeMap<usize, Queue>,
    pub(super) names: HashMap<QueueName, usize>,
    pub(super) pending: Vec<Change>,
    /// Queues whose messages are to be read ahead.
    pub(super) unread: BTreeSet<usize>,
    /// Those of them that are being brought from the disk, and those that are there.
    pub(super) cold: BTreeSet<usize>,
    pub(super) warm: BTreeSet<usize>,
    /// Why nothing works.
    pub(super) failed: Option<String>,
    /// When the next delayed message is due.
    pub(super) next_due: Option<u64>,
    /// Keeps the order of delayed messages that are due together.
    pub(super) next_delayed: u64,
    /// Delayed messages that wait to be tried again, by their queue.
    pub(super) retrying: Retrying,
}

impl Core {
    /// The number of a queue.
    pub(super) fn number(&self, name: &QueueName) -> Option<usize> {
        self.names.get(name).copied()
    }

    pub(super) fn add(&mut self, queue: Queue) {
        let number = number(queue.id);
        self.names.insert(queue.name.clone(), number);
        self.queues.insert(number, queue);
    }

    /// Messages of a queue are to be read ahead. False when that is known.
    pub(super) fn read_ahead(&mut self, number: usize) -> bool {
        let is_known = self.cold.contains(&number) || self.warm.contains(&number);
        !is_known && self.unread.insert(number)
    }

    /// A queue of a session, unless that is over.
    pub(super) fn queue_of(&mut self, session: u64, number: usize) -> Option<&mut Queue> {
        let is_over = self.session != session || self.failed.is_some();
        if is_over { None } else { self.queues.get_mut(&number) }
    }

    /// Why a session is over, if it is.
    pub(super) fn end_of(&self, session: u64) -> Option<String> {
        match &self.failed {
            Some(reason) => Some(reason.clone()),
            None => (self.session != session).then(|| "the store was opened again".to_owned()),
        }
    }
}

/// The number of the queue with an id.
pub(super) fn number(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

pub(super) struct Shared {
    /// None while it is closed. Only the writer thread and threads that may block take this lock.
    pub(super) store: RwLock<Option<Store>>,
    /// The time of the store; the first session makes it.
    pub(super) clock: Clock,
    /// Replaced whole when the topology changes.
    pub(super) routing: ArcSwap<Routing>,
    core: Mutex<Core>,
    pub(super) status: watch::Sender<Status>,
    commands: Sender<Command>,
    is_woken: AtomicBool,
    places: Arc<Semaphore>,
    next_holder: AtomicU64,
    /// Length of the file.
    pub(super) store_bytes: AtomicU64,
}

impl Shared {
    pub(super) fn new(store: Store, clock: Clock, core: Core) -> (Self, Receiver<Command>) {
        // The permits bound publishes, and one flag bounds wake-ups; the channel itself needs no bound.
        let (commands, receiver) = mpsc::channel();
        let status = Status { connected: true, session: core.session, ..Status::default() };
        let shared = Self {
            store_bytes: AtomicU64::new(store.size().map_or(0, |(length, _)| length)),
            store: RwLock::new(Some(store)),
            clock,
            routing: ArcSwap::from_pointee(core.routing()),
            core: Mutex::new(core),
            status: watch::Sender::new(status),
            commands,
            is_woken: AtomicBool::new(false),
            places: Arc::new(Semaphore::new(PUBLISHES_WAITING_MAX)),
            next_holder: AtomicU64::new(1),
        };
        (shared, receiver)
    }

    /// Held for as long as it takes to do something to memory; nobody waits or reads a disk with it.
    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the writer, and for threads that may block.
    pub(super) fn store(&self) -> RwLockReadGuard<'_, Option<Store>> {
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bindings as they are in the core from now on.
    pub(super) fn reroute(&self, core: &Core) {
        self.routing.store(Arc::new(core.routing()));
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

    /// Why nothing is answered any more.
    pub(super) fn gone(&self) -> String {
        self.lock().failed.clone().unwrap_or_else(|| "the store is closed".to_owned())
    }

    pub(super) async fn publish(&self, work: Work) -> Result<(), NotStored> {
        let place = self.places.clone().acquire_owned().await.map_err(|_closed| NotStored::Lost(self.gone()))?;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Publish { work, reply, _place: place });
        answer.await.unwrap_or_else(|_dropped| Err(NotStored::Lost(self.gone())))
    }

    /// Changes which queues there are; on disk when it returns.
    pub(super) async fn alter(&self, alteration: Alteration) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Alter(alteration, reply));
        answer.await.unwrap_or_else(|_dropped| Err(self.gone()))
    }
}

/// The places of the messages of a publish that go to one of these queues.
pub(super) fn places_of(messages: &Routed, full: &BTreeSet<usize>) -> Vec<usize> {
    let hits = messages.iter().enumerate().filter(|(_, (_, queues))| !queues.is_disjoint(full));
    hits.map(|(place, _)| place).collect()
}
