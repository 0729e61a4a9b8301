//! The broker in the daemon: topic, direct, fanout and headers exchanges, durable queues in redb, nothing to install.
//!
//! Promises: a confirmed publish is on disk (one fsync serves all that came meanwhile); a publish of several messages
//! is taken whole or not at all; what was confirmed survives a kill at any moment; a message that a queue gives up
//! (TTL, length, delivery limit) moves to its dead-letter target in the same transaction. After a failed write nothing is
//! confirmed until the store was closed and opened again, which begins another session; after anything but a full disk it
//! is read and checked first. One thread reads and writes the store; no other waits for a disk, and the lock on what is in
//! memory is never held across one. Does not know routes; knows one process, and holds a lock against a second one.

mod clock;
mod compaction;
mod damage;
mod dead_letter;
mod delayed;
mod inbox;
mod left;
mod meter;
mod plan;
mod prefetch;
mod queue;
mod reshape;
mod room;
mod routing;
mod session;
mod shared;
mod statistics;
mod store;
mod subscription;
mod tap;
mod writer;

pub use subscription::{Answer, Subscription};

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::{
    Batch, Confirmed, DELAY_MAX, Deliveries, Delivery, Error, Known, Mark, Passing, Permanent, Publication, QueueDepth,
    Receipt, Refusal, Status, Unpublished,
};
use clock::{Anchor, Clock};
pub use damage::{Repaired, repair};
use delayed::{Delayed, Later};
pub use left::messages_in;
use queue::Queue;
use room::Room;
use session::Contents;
use shared::{Command, Shared, Work};
use store::{Fault, Store};
use subscription::Sharing;
use trunkline_config::state_dir::{self, Lock};
use trunkline_config::{self as config, Topology};
use trunkline_event::{QueueName, millis};
use writer::Begin;

/// Where the store of a daemon is.
#[must_use]
pub(super) fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("broker")
}

/// The store, in that directory.
const FILE: &str = "messages.redb";

/// An open embedded broker.
pub struct Embedded {
    shared: Arc<Shared>,
    writer: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
    _lock: Lock,
}

impl Embedded {
    /// Opens or makes the store in `dir`. Queues that are no longer in the topology keep their messages.
    ///
    /// # Errors
    /// [`Error::Unusable`] when another process holds the directory or the store is not readable.
    pub async fn open(dir: &Path, topology: &Topology) -> Result<Self, Error> {
        let (dir, topology) = (dir.to_owned(), topology.clone());
        tokio::task::spawn_blocking(move || Self::open_blocking(&dir, &topology))
            .await
            .map_err(|error| Error::Unusable(format!("opening the store panicked: {error}")))?
    }

    fn open_blocking(dir: &Path, topology: &Topology) -> Result<Self, Error> {
        let unusable = |error: &dyn std::fmt::Display| Error::Unusable(format!("{}: {error}", dir.display()));
        state_dir::make(dir).map_err(|error| unusable(&error))?;
        let lock = Lock::take(dir).map_err(|error| Error::Unusable(error.to_string()))?;
        let (file, mut room) = (dir.join(FILE), Room::new(dir));
        let wanted: Vec<QueueName> = topology.queues.keys().cloned().collect();
        let opened = match open_store(&file, &wanted) {
            Err(Fault::NoRoom(why)) => {
                // With what was kept in reserve there may be enough to begin.
                room.ran_out(&why, 0);
                open_store(&file, &wanted)
            }
            opened => opened,
        };
        let Opened { store, clean, anchor, contents } = opened.map_err(|fault| unusable(&fault))?;
        for (name, facts) in &contents.found {
            let is_tap = contents.taps.iter().any(|tap| tap.queue.as_str() == name || tap.overflow.as_str() == name);
            if !is_tap && name != delayed::DEAD && !topology.queues.contains_key(name.as_str()) {
                tracing::warn!(queue = name, messages = facts.messages, "queue is no longer configured; it is kept");
            }
        }
        let clock = Clock::resume(anchor);
        let core = contents.core(1, topology.clone(), clean, clock.now_ms());
        let (shared, commands) = Shared::new(store, clock, core);
        let shared = Arc::new(shared);
        let begin = Begin { shared: shared.clone(), commands, file, room, anchor };
        let writer = writer::start(begin).map_err(|error| unusable(&error))?;
        Ok(Self { shared, writer: std::sync::Mutex::new(Some(writer)), _lock: lock })
    }

    /// The state as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Publishes all or nothing; see [`Broker::publish`](super::Broker::publish).
    ///
    /// # Errors
    /// [`Unpublished`], and then nothing is stored.
    pub async fn publish(&self, batch: Batch) -> Result<Receipt, Unpublished> {
        let (work, confirmed) = match self.compose(&batch) {
            Ok(composed) => composed,
            Err(refused) => return Err(Unpublished { batch, refused, lost: None }),
        };
        let is_stored = !work.delayed.is_empty() || work.routed.iter().any(|(_, queues)| !queues.is_empty());
        if is_stored && let Err(not_stored) = self.shared.publish(work).await {
            return Err(not_stored.of(batch));
        }
        complete(batch, &confirmed)
    }

    /// Publishes one and marks it in one transaction; see [`Broker::publish_marked`](super::Broker::publish_marked).
    ///
    /// # Errors
    /// As [`Embedded::publish`].
    pub async fn publish_marked(
        &self,
        publication: Publication,
        mark: impl FnOnce(Confirmed) -> Mark,
    ) -> Result<Confirmed, Unpublished> {
        let batch = Batch::from(publication);
        let (work, confirmed) = match self.compose(&batch) {
            Ok(composed) => composed,
            Err(refused) => return Err(Unpublished { batch, refused, lost: None }),
        };
        let confirmed = confirmed.first().copied().unwrap_or(Confirmed::Unrouted);
        match self.shared.publish(Work { mark: Some(mark(confirmed)), ..work }).await {
            Ok(()) => Ok(confirmed),
            Err(not_stored) => Err(not_stored.of(batch)),
        }
    }

    /// Publishes, marks and acknowledges in one transaction; see [`Broker::commit`](super::Broker::commit).
    ///
    /// # Errors
    /// As [`Embedded::publish`], with the deliveries.
    pub async fn commit(
        &self,
        deliveries: Deliveries,
        batch: Batch,
        mark: Option<Mark>,
    ) -> Result<Vec<Confirmed>, Box<(Deliveries, Unpublished)>> {
        let out = |delivery: &Delivery| match &delivery.answer {
            super::Answer::Embedded(answer) => Some(answer.out()),
            super::Answer::Amqp(_) => None,
        };
        let Some(settles) = deliveries.all().map(out).collect::<Option<Vec<_>>>() else {
            return Err(Box::new((deliveries, Unpublished::lost(batch, "the delivery is another broker's"))));
        };
        let (work, confirmed) = match self.compose(&batch) {
            Ok(composed) => composed,
            Err(refused) => return Err(Box::new((deliveries, Unpublished { batch, refused, lost: None }))),
        };
        if let Err(not_stored) = self.shared.publish(Work { settles, mark, ..work }).await {
            return Err(Box::new((deliveries, not_stored.of(batch))));
        }
        for Delivery { answer, .. } in deliveries.into_all() {
            match answer {
                super::Answer::Embedded(answer) => answer.committed(),
                super::Answer::Amqp(_) => {}
            }
        }
        Ok(confirmed)
    }

    /// Whether an event was settled within its window.
    pub async fn known(&self, mark: &Mark) -> Known {
        let (shared, mark) = (self.shared.clone(), mark.clone());
        let looked = tokio::task::spawn_blocking(move || match shared.store().as_ref() {
            Some(store) => store.known(&mark, shared.clock.now_ms()),
            None => Err("the store is not open".to_owned()),
        });
        looked.await.unwrap_or_else(|panicked| Err(panicked.to_string())).unwrap_or_else(|error| {
            tracing::error!(error, "the dedupe window cannot be read; the event counts as new");
            Known::No
        })
    }

    /// Remembers that an event is settled.
    ///
    /// # Errors
    /// [`Error::Lost`] when the store failed.
    pub async fn mark(&self, mark: Mark) -> Result<(), Error> {
        let written = self.shared.publish(Work { mark: Some(mark), ..Work::default() }).await;
        written.map_err(|not_stored| Error::Lost(not_stored.to_string()))
    }

    /// What is stored for a batch, and what will be confirmed of each message; or what can never be stored.
    fn compose(&self, batch: &Batch) -> Result<(Work, Vec<Confirmed>), Refusals> {
        let mut refused = Vec::new();
        let mut confirmed = Vec::with_capacity(batch.open());
        let mut work = Work::default();
        for (index, publication) in batch.rest() {
            let queues = match self.route(publication) {
                Ok(queues) => queues,
                Err(refusal) => {
                    refused.push((index, refusal));
                    continue;
                }
            };
            confirmed.push(if queues.is_empty() { Confirmed::Unrouted } else { Confirmed::Routed });
            let Publication { message, accept_unroutable, delay, is_retry } = publication;
            match delay.filter(|delay| !delay.is_zero()) {
                Some(delay) => {
                    let later = Later::new(*accept_unroutable, *is_retry);
                    let due = self.shared.clock.now_ms().saturating_add(millis(delay));
                    work.delayed.push((due, Delayed { later, message: message.clone() }));
                }
                None => work.routed.push((message.clone(), queues)),
            }
        }
        if refused.is_empty() { Ok((work, confirmed)) } else { Err(refused) }
    }

    fn route(&self, publication: &Publication) -> Result<BTreeSet<usize>, Refusal> {
        let message = &publication.message;
        message.check().map_err(Permanent::Limit)?;
        if let Some(delay) = publication.delay.filter(|delay| *delay > DELAY_MAX) {
            return Err(Permanent::Delay(delay).into());
        }
        let queues = self.shared.routing.load().route(message)?;
        if queues.is_empty() && !publication.accept_unroutable {
            let (exchange, key) = (message.exchange.to_string(), message.routing_key.to_string());
            return Err(Passing::Unroutable { exchange, key }.into());
        }
        Ok(queues)
    }

    /// Begins to consume; see [`Broker::subscribe`](super::Broker::subscribe).
    ///
    /// # Errors
    /// [`Error::Queue`] when there is no such queue, [`Error::Lost`] when the store failed.
    pub async fn subscribe(&self, queue: &QueueName, prefetch: u16) -> Result<Subscription, Error> {
        Subscription::new(self.shared.clone(), queue, prefetch, Sharing::Shared)
    }

    /// What waits in each queue.
    #[must_use]
    pub fn queue_depths(&self) -> Vec<(QueueName, QueueDepth)> {
        let now = self.shared.clock.now_ms();
        let core = self.shared.lock();
        let depth = |queue: &Queue| QueueDepth {
            ready: queue.ready(),
            unacknowledged: queue.unacknowledged(),
            oldest_age: queue.oldest().map(|published| Duration::from_millis(now.saturating_sub(published))),
        };
        // Readers' queues come and go: their names must not become labels.
        let lasting = core.queues.values().filter(|queue| queue.reader.is_none());
        lasting.map(|queue| (queue.name.clone(), depth(queue))).collect()
    }

    /// Length of the store's file in bytes.
    #[must_use]
    pub fn store_bytes(&self) -> Option<u64> {
        Some(self.shared.store_bytes.load(Ordering::Relaxed))
    }

    /// Writes what is pending, marks the store as closed in order, and ends the writer. The directory is free for
    /// others once the broker is dropped.
    pub async fn close(&self, within: Duration) {
        let (reply, closed) = oneshot::channel();
        self.shared.send(Command::Close(reply));
        if tokio::time::timeout(within, closed).await.is_err() {
            tracing::warn!("the store did not close in time; the next start counts it as a crash");
            return;
        }
        let writer = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _panicked = writer.join();
        }
    }
}

impl Drop for Embedded {
    /// Ends the writer without the mark of an orderly end, as a crash would.
    fn drop(&mut self) {
        self.shared.send(Command::Abandon);
        if let Some(writer) = self.writer.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            let _panicked = writer.join();
        }
    }
}

/// A store that was just opened.
struct Opened {
    store: Store,
    /// The run before ended in order.
    clean: bool,
    anchor: Option<Anchor>,
    contents: Contents,
}

fn open_store(file: &Path, wanted: &[QueueName]) -> Result<Opened, Fault> {
    let store = damage::open_or_make(file)?;
    let (clean, anchor) = store.begin()?;
    let contents = Contents::of(&store, wanted)?;
    Ok(Opened { store, clean, anchor, contents })
}

/// What can never be stored of a batch, by the index of the message.
type Refusals = Vec<(usize, Refusal)>;

/// The receipt of a batch that is stored whole.
fn complete(mut batch: Batch, confirmed: &[Confirmed]) -> Result<Receipt, Unpublished> {
    let open: Vec<usize> = batch.rest().map(|(index, _)| index).collect();
    open.into_iter().zip(confirmed).for_each(|(index, confirmed)| batch.confirm(index, *confirmed));
    batch.receipt().map_err(|batch| Unpublished::lost(batch, "a message has no answer"))
}

/// A queue of an earlier configuration: it keeps what it has.
fn kept_queue() -> config::Queue {
    config::Queue {
        purpose: config::QueuePurpose::Kept,
        kind: config::QueueKind::Quorum,
        ttl: None,
        max_length: None,
        overflow: config::Overflow::DropHead,
        delivery_limit: None,
        limit_is_written: false,
        dead_letter: None,
        prefetch: 1,
        codec: config::Codec::Raw,
        max_priority: None,
        single_consumer: false,
    }
}
