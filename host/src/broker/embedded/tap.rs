//! Readers' own queues: kept in the store with their bindings, so that they outlive the daemon, and removed when nobody
//! reads them for too long.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::queue::Queue;
use super::routing::Routing;
use super::shared::{Command, Core, Shared};
use super::store::Found;
use super::{Embedded, Subscription};
use crate::broker::{Error, Tap};
use crate::config;
use crate::event::{QueueName, millis, now_ms};

/// Readers' queues at once, those included whose reader is away.
const TAPS_MAX: usize = 1024;
/// A place of a removed queue is used again after so long: a publish that was routed before is written by then.
const REUSED_AFTER_MS: u64 = 60_000;

/// What is known of a reader's queue while the broker is open.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) tap: Tap,
    /// The one for what did not fit.
    is_overflow: bool,
    consumers: u32,
    /// When the last consumer went, or the broker was opened; milliseconds since the Unix epoch.
    idle_since_ms: u64,
}

impl Reader {
    pub(super) fn new(tap: Tap, is_overflow: bool) -> Self {
        Self { tap, is_overflow, consumers: 0, idle_since_ms: now_ms() }
    }

    pub(super) fn came(&mut self) {
        self.consumers += 1;
    }

    pub(super) fn went(&mut self) {
        self.consumers = self.consumers.saturating_sub(1);
        self.idle_since_ms = now_ms();
    }

    fn is_expired(&self, now: u64) -> bool {
        let idle_ms = now.saturating_sub(self.idle_since_ms);
        !self.is_overflow && self.consumers == 0 && idle_ms >= millis(self.tap.expires)
    }
}

/// What a queue of the store is, if it is one of these readers'.
pub(super) fn restored(name: &QueueName, taps: &[Tap]) -> Option<(config::Queue, Reader)> {
    let tap = taps.iter().find(|tap| tap.queue == *name || tap.overflow == *name)?;
    let is_overflow = tap.overflow == *name;
    let (_, settings, _) = tap.queues()[usize::from(!is_overflow)].clone();
    Some((settings, Reader::new(tap.clone(), is_overflow)))
}

impl Core {
    /// Exchanges and bindings as they are now.
    pub(super) fn routing(&self) -> Routing {
        let present = self.queues.iter().enumerate().filter(|(_, queue)| queue.removed_ms.is_none());
        let names = present.map(|(number, queue)| (queue.name.to_string(), number)).collect();
        let readers = self.queues.iter().filter_map(|queue| queue.reader.as_ref());
        let bindings = readers.filter(|reader| !reader.is_overflow).flat_map(|reader| reader.tap.bindings());
        Routing::new(&self.topology, names, &bindings.collect::<Vec<_>>())
    }

    /// Puts a queue where a removed one was, or behind all others.
    fn add(&mut self, queue: Queue) {
        let now = now_ms();
        let is_free = |removed: u64| now.saturating_sub(removed) >= REUSED_AFTER_MS;
        match self.queues.iter_mut().find(|queue| queue.removed_ms.is_some_and(is_free)) {
            Some(free) => *free = queue,
            None => self.queues.push(queue),
        }
    }
}

impl Embedded {
    /// Makes a reader's queues and bindings; see [`Broker::open_tap`](crate::broker::Broker::open_tap).
    ///
    /// # Errors
    /// As there.
    pub async fn open_tap(&self, tap: &Tap) -> Result<(), Error> {
        let (shared, tap) = (self.shared.clone(), tap.clone());
        let made = tokio::task::spawn_blocking(move || open(&shared, &tap)).await;
        made.map_err(|error| Error::Lost(format!("making a reader's queue panicked: {error}")))?
    }

    /// The consumers of a reader's queue; see [`Broker::tap_consumers`](crate::broker::Broker::tap_consumers).
    #[must_use]
    pub fn tap_consumers(&self, tap: &Tap) -> Option<u32> {
        let number = self.shared.queue_number(&tap.queue)?;
        self.shared.lock().queues.get(number)?.reader.as_ref().map(|reader| reader.consumers)
    }

    /// Consumes what did not fit, alone; see [`Broker::hold_tap`](crate::broker::Broker::hold_tap).
    ///
    /// # Errors
    /// As there.
    pub fn hold_tap(&self, tap: &Tap) -> Result<Subscription, Error> {
        let refused = |reason: &str| Error::Queue { queue: tap.overflow.clone(), reason: reason.to_owned() };
        let number = self.shared.queue_number(&tap.overflow).ok_or_else(|| refused("there is no such queue"))?;
        {
            let mut core = self.shared.lock();
            match core.queues.get_mut(number).and_then(|queue| queue.reader.as_mut()) {
                Some(reader) if reader.consumers > 0 => return Err(refused("another connection reads this stream")),
                // Counted here, under the lock that was looked under.
                Some(reader) => reader.came(),
                None => return Err(refused("there is no such queue")),
            }
        }
        let subscription = Subscription::new(self.shared.clone(), number, 1);
        // Counted once more by the subscription.
        if let Some(reader) = self.shared.lock().queues.get_mut(number).and_then(|queue| queue.reader.as_mut()) {
            reader.went();
        }
        subscription
    }

    /// Removes the queues that had no reader for too long, with what is in them.
    pub async fn expire_taps(&self) {
        let removed: Vec<QueueName> = {
            let mut core = self.shared.lock();
            let now = now_ms();
            let readers = core.queues.iter().filter_map(|queue| queue.reader.as_ref());
            let expired: Vec<QueueName> =
                readers.filter(|reader| reader.is_expired(now)).map(|reader| reader.tap.queue.clone()).collect();
            let mut removed = Vec::new();
            for queue in &mut core.queues {
                if queue.reader.take_if(|reader| expired.contains(&reader.tap.queue)).is_some() {
                    queue.removed_ms = Some(now);
                    removed.push(queue.name.clone());
                }
            }
            if removed.is_empty() {
                return;
            }
            let routing = core.routing();
            self.shared.routing.store(Arc::new(routing));
            removed
        };
        // What was routed there before is on disk after this, and goes with the rest.
        let (reply, flushed) = oneshot::channel();
        self.shared.send(Command::Flush(reply));
        let _closed = flushed.await;
        let shared = self.shared.clone();
        let forgotten = tokio::task::spawn_blocking(move || {
            let done = shared.store.remove_queues(&removed);
            let mut core = shared.lock();
            for queue in core.queues.iter_mut().filter(|queue| queue.removed_ms.is_some()) {
                queue.clear();
            }
            done.map(|()| removed.len())
        });
        match forgotten.await {
            Ok(Ok(queues)) => tracing::info!(queues, "readers' queues removed: nobody came back"),
            Ok(Err(error)) => tracing::error!(%error, "readers' queues could not be removed from the store"),
            Err(error) => tracing::error!(%error, "removing readers' queues panicked"),
        }
    }
}

fn open(shared: &Shared, tap: &Tap) -> Result<(), Error> {
    let lost = |error: String| Error::Lost(format!("making a reader's queue: {error}"));
    if shared.queue_number(&tap.queue).is_some() && shared.queue_number(&tap.overflow).is_some() {
        return Ok(());
    }
    let readers = shared.lock().queues.iter().filter(|queue| queue.reader.is_some()).count();
    if readers >= 2 * TAPS_MAX {
        let reason = format!("there are {TAPS_MAX} streams whose client may still come back");
        return Err(Error::Queue { queue: tap.queue.clone(), reason });
    }
    let found = shared.store.add_tap(tap).map_err(|error| lost(error.to_string()))?;
    let mut core = shared.lock();
    if let Some(reason) = core.failed.clone() {
        return Err(Error::Lost(reason));
    }
    for (place, (name, settings, _)) in tap.queues().into_iter().enumerate() {
        if core.queues.iter().any(|queue| queue.name == *name && queue.removed_ms.is_none()) {
            continue;
        }
        let id = found.get(name.as_str()).map(|found| found.id).unwrap_or_default();
        let mut queue = Queue::new(name.clone(), settings, Found { id, ..Found::default() }, true);
        queue.reader = Some(Reader::new(tap.clone(), place == 0));
        core.add(queue);
    }
    let routing = core.routing();
    shared.routing.store(Arc::new(routing));
    Ok(())
}
