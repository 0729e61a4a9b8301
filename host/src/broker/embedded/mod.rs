//! The broker in the daemon: topic, direct, fanout and headers exchanges, durable queues in redb, nothing to install.
//!
//! Promises: a confirmed publish is on disk (one fsync serves all that came meanwhile); a publish of several messages
//! is taken whole or not at all; what was confirmed survives a kill at any moment; a message that a queue gives up
//! (TTL, length, delivery limit) moves to its dead-letter target in the same transaction. After a failed write the
//! store is never written again by this process: everything that waits is told that it is lost, and nothing is
//! confirmed. Does not know routes; knows one process, and holds a lock against a second one.

mod damage;
mod dead_letter;
mod delayed;
mod lock;
mod meter;
mod queue;
mod reshape;
mod routing;
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
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::{
    Batch, Confirmed, DELAY_MAX, Delivery, Error, Known, Mark, Passing, Permanent, Publication, QueueDepth, Receipt,
    Refusal, Status, Unpublished,
};
use crate::config::{self, Topology};
use crate::event::{Message, QueueName, millis, now_ms};
pub use damage::{Repaired, repair};
use delayed::{Delayed, Later};
use lock::Lock;
use queue::Queue;
use shared::{Command, Shared, Work};

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
    file: PathBuf,
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
        std::fs::create_dir_all(dir).map_err(|error| unusable(&error))?;
        let lock = Lock::take(dir)?;
        let file = dir.join(FILE);
        let store = damage::open(&file)?;
        let clean = store.begin().map_err(|error| unusable(&error))?;
        let mut names: Vec<QueueName> = topology.queues.keys().cloned().collect();
        let taps = store.taps().map_err(|error| unusable(&error))?;
        let found = store.queues(&names).map_err(|error| unusable(&error))?;
        for (name, facts) in &found {
            if !topology.queues.contains_key(name.as_str()) {
                let Ok(name) = QueueName::new(name) else { continue };
                if tap::restored(&name, &taps).is_none() {
                    tracing::warn!(queue = %name, messages = facts.messages, "queue is no longer configured; it is kept");
                }
                names.push(name);
            }
        }
        let queues = names.iter().map(|name| {
            let (settings, reader) = match (topology.queues.get(name), tap::restored(name, &taps)) {
                (Some(settings), _) => (settings.clone(), None),
                (None, Some((settings, reader))) => (settings, Some(reader)),
                (None, None) => (kept_queue(), None),
            };
            let facts = found.get(name.as_str()).copied().unwrap_or_default();
            let mut queue = Queue::new(name.clone(), settings, facts, clean);
            queue.reader = reader;
            queue
        });
        let next_due = store.first_due().map_err(|error| unusable(&error))?;
        let retrying = store.retrying().map_err(|error| unusable(&error))?;
        let (shared, commands) = Shared::new(store, topology.clone(), queues.collect(), (next_due, retrying));
        let shared = Arc::new(shared);
        let writer = writer::start(shared.clone(), commands).map_err(|error| unusable(&error))?;
        Ok(Self { shared, file, writer: std::sync::Mutex::new(Some(writer)), _lock: lock })
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
    /// As [`Embedded::publish`], with the delivery.
    pub async fn commit(
        &self,
        delivery: Delivery,
        batch: Batch,
        mark: Option<Mark>,
    ) -> Result<Vec<Confirmed>, Box<(Delivery, Unpublished)>> {
        let super::Answer::Embedded(answer) = &delivery.answer else {
            return Err(Box::new((delivery, Unpublished::lost(batch, "the delivery is another broker's"))));
        };
        let settles = Some(answer.place());
        let (work, confirmed) = match self.compose(&batch) {
            Ok(composed) => composed,
            Err(refused) => return Err(Box::new((delivery, Unpublished { batch, refused, lost: None }))),
        };
        match (self.shared.publish(Work { settles, mark, ..work }).await, delivery) {
            (Ok(()), Delivery { answer: super::Answer::Embedded(answer), .. }) => {
                answer.committed();
                Ok(confirmed)
            }
            (Ok(()), Delivery { answer: super::Answer::Amqp(_), .. }) => Ok(confirmed),
            (Err(not_stored), delivery) => Err(Box::new((delivery, not_stored.of(batch)))),
        }
    }

    /// Whether an event was settled within its window.
    #[must_use]
    pub fn known(&self, mark: &Mark) -> Known {
        self.shared.store.known(mark, now_ms()).unwrap_or_else(|error| {
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
                    work.delayed.push((now_ms() + millis(delay), Delayed { later, message: Message::clone(message) }));
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
        let number = self.shared.queue_number(queue);
        let missing = || Error::Queue { queue: queue.clone(), reason: "there is no such queue".to_owned() };
        Subscription::new(self.shared.clone(), number.ok_or_else(missing)?, prefetch)
    }

    /// What waits in each queue.
    #[must_use]
    pub fn queue_depths(&self) -> Vec<(QueueName, QueueDepth)> {
        let now = now_ms();
        let core = self.shared.lock();
        let depth = |queue: &Queue| QueueDepth {
            ready: queue.ready,
            unacknowledged: queue.unacknowledged(),
            oldest_age: queue.oldest().map(|published| Duration::from_millis(now.saturating_sub(published))),
        };
        // Readers' queues come and go: their names must not become labels.
        let lasting = core.queues.iter().filter(|queue| queue.reader.is_none() && queue.removed_ms.is_none());
        lasting.map(|queue| (queue.name.clone(), depth(queue))).collect()
    }

    /// Size of the store's file in bytes.
    #[must_use]
    pub fn store_bytes(&self) -> Option<u64> {
        Some(std::fs::metadata(&self.file).ok()?.len())
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
        kind: config::QueueKind::Quorum,
        ttl: None,
        max_length: None,
        overflow: config::Overflow::DropHead,
        delivery_limit: None,
        dead_letter: None,
        prefetch: 1,
        codec: config::Codec::Raw,
        max_priority: None,
        single_consumer: false,
    }
}
