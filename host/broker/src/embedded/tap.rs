//! Readers' own queues: kept in the store with their bindings, so that they outlive the daemon, and removed when nobody
//! reads them for too long.

use std::collections::HashMap;

use super::queue::Queue;
use super::routing::Routing;
use super::shared::{Alteration, Core};
use super::store::Found;
use super::subscription::Sharing;
use super::{Embedded, Subscription};
use crate::{Error, Tap};
use trunkline_config as config;
use trunkline_event::{QueueName, millis};

/// Readers' queues at once, those included whose reader is away.
const TAPS_MAX: usize = 1024;

/// What is known of a reader's queue while the broker is open.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) tap: Tap,
    /// The one for what did not fit.
    is_overflow: bool,
    consumers: u32,
    /// When the last consumer went, or the store was opened, by its clock.
    idle_since_ms: u64,
}

impl Reader {
    pub(super) fn new(tap: Tap, is_overflow: bool, now_ms: u64) -> Self {
        Self { tap, is_overflow, consumers: 0, idle_since_ms: now_ms }
    }

    pub(super) fn came(&mut self) {
        self.consumers = self.consumers.saturating_add(1);
    }

    pub(super) fn went(&mut self, now_ms: u64) {
        self.consumers = self.consumers.saturating_sub(1);
        self.idle_since_ms = now_ms;
    }

    fn is_expired(&self, now: u64) -> bool {
        let idle_ms = now.saturating_sub(self.idle_since_ms);
        !self.is_overflow && self.consumers == 0 && idle_ms >= millis(self.tap.expires)
    }
}

/// What a queue of the store is, if it is one of these readers'.
pub(super) fn restored(name: &QueueName, taps: &[Tap], now_ms: u64) -> Option<(config::Queue, Reader)> {
    let tap = taps.iter().find(|tap| tap.queue == *name || tap.overflow == *name)?;
    let is_overflow = tap.overflow == *name;
    let (_, settings, _) = tap.queues()[usize::from(!is_overflow)].clone();
    Some((settings, Reader::new(tap.clone(), is_overflow, now_ms)))
}

impl Core {
    /// Exchanges and bindings as they are now.
    pub(super) fn routing(&self) -> Routing {
        let names = self.names.iter().map(|(name, number)| (name.to_string(), *number)).collect();
        let readers = self.queues.values().filter_map(|queue| queue.reader.as_ref());
        let bindings = readers.filter(|reader| !reader.is_overflow).flat_map(|reader| reader.tap.bindings());
        Routing::new(&self.topology, names, &bindings.collect::<Vec<_>>())
    }

    /// A reader's queues are in the store, with these ids.
    pub(super) fn add_tap(&mut self, tap: &Tap, ids: &HashMap<String, Found>, now_ms: u64) {
        for (place, (name, settings, _)) in tap.queues().into_iter().enumerate() {
            let Some(found) = ids.get(name.as_str()).filter(|_| self.number(name).is_none()) else { continue };
            let mut queue = Queue::new(name.clone(), settings, *found, true);
            queue.reader = Some(Reader::new(tap.clone(), place == 0, now_ms));
            self.add(queue);
        }
    }

    /// Takes queues away, which are in the store still; gives their names.
    pub(super) fn remove(&mut self, numbers: &[usize]) -> Vec<QueueName> {
        let removed = numbers.iter().filter_map(|number| self.queues.remove(number));
        let names: Vec<QueueName> = removed
            .map(|queue| {
                queue.arrivals.notify_waiters();
                queue.name
            })
            .collect();
        self.names.retain(|_, number| !numbers.contains(number));
        names
    }
}

impl Embedded {
    /// Makes a reader's queues and bindings; see [`Broker::open_tap`](crate::Broker::open_tap).
    ///
    /// # Errors
    /// As there.
    pub async fn open_tap(&self, tap: &Tap) -> Result<(), Error> {
        {
            let core = self.shared.lock();
            if let Some(reason) = &core.failed {
                return Err(Error::Lost(reason.clone()));
            }
            if core.number(&tap.queue).is_some() && core.number(&tap.overflow).is_some() {
                return Ok(());
            }
            let readers = core.queues.values().filter(|queue| queue.reader.is_some()).count();
            if readers >= 2 * TAPS_MAX {
                let reason = format!("there are {TAPS_MAX} streams whose client may still come back");
                return Err(Error::Queue { queue: tap.queue.clone(), reason });
            }
        }
        let made = self.shared.alter(Alteration::Tap(Box::new(tap.clone()))).await;
        made.map_err(|error| Error::Lost(format!("making a reader's queue: {error}")))
    }

    /// The consumers of a reader's queue; see [`Broker::tap_consumers`](crate::Broker::tap_consumers).
    ///
    /// # Errors
    /// [`Error::Lost`] while the store is not open.
    pub fn tap_consumers(&self, tap: &Tap) -> Result<Option<u32>, Error> {
        let core = self.shared.lock();
        if let Some(reason) = &core.failed {
            return Err(Error::Lost(reason.clone()));
        }
        let queue = core.number(&tap.queue).and_then(|number| core.queues.get(&number));
        Ok(queue.and_then(|queue| queue.reader.as_ref()).map(|reader| reader.consumers))
    }

    /// Consumes what did not fit, alone; see [`Broker::hold_tap`](crate::Broker::hold_tap).
    ///
    /// # Errors
    /// As there.
    pub fn hold_tap(&self, tap: &Tap) -> Result<Subscription, Error> {
        Subscription::new(self.shared.clone(), &tap.overflow, 1, Sharing::Alone)
    }

    /// Removes the queues that had no reader for too long, with what is in them.
    pub async fn expire_taps(&self) {
        let removed: Vec<usize> = {
            let (now_ms, mut core) = (self.shared.clock.now_ms(), self.shared.lock());
            if core.failed.is_some() {
                return;
            }
            let readers = core.queues.values().filter_map(|queue| queue.reader.as_ref());
            let expired: Vec<QueueName> =
                readers.filter(|reader| reader.is_expired(now_ms)).map(|reader| reader.tap.queue.clone()).collect();
            // Nothing is routed to it from here on. What was routed before finds it until it is gone, or goes nowhere.
            let is_expired =
                |queue: &mut Queue| queue.reader.take_if(|reader| expired.contains(&reader.tap.queue)).is_some();
            let removed = core.queues.iter_mut().filter_map(|(number, queue)| is_expired(queue).then_some(*number));
            let removed: Vec<usize> = removed.collect();
            if removed.is_empty() {
                return;
            }
            self.shared.reroute(&core);
            removed
        };
        let queues = removed.len();
        match self.shared.alter(Alteration::Remove(removed)).await {
            Ok(()) => tracing::info!(queues, "readers' queues removed: nobody came back"),
            Err(error) => tracing::error!(error, "readers' queues could not be removed from the store"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::shared::Work;
    use super::*;
    use trunkline_config::Topology;
    use trunkline_event::{ExchangeName, Message, Properties, RoutingKey};

    fn tap(name: &str) -> Tap {
        let queue = |end: &str| QueueName::new(format!("{name}{end}")).expect("valid");
        Tap {
            queue: queue(""),
            overflow: queue(".overflow"),
            exchange: ExchangeName::default_exchange(),
            keys: Vec::new(),
            expires: Duration::ZERO,
            max_length: 10,
        }
    }

    fn number(broker: &Embedded, tap: &Tap) -> usize {
        broker.shared.lock().number(&tap.queue).expect("it is there")
    }

    /// F29: what was routed to a queue that is gone by now finds no other queue in its place, however late it is written.
    #[tokio::test]
    async fn the_number_of_a_queue_is_never_another_queues() {
        let dir = tempfile::tempdir().expect("a directory");
        let topology = Topology::default();
        let mut numbers = BTreeSet::new();
        for run in 0..3 {
            let broker = Embedded::open(dir.path(), &topology).await.expect("a broker");
            for round in 0..3 {
                let (gone, made) = (tap(&format!("gone-{run}-{round}")), tap(&format!("made-{run}-{round}")));
                broker.open_tap(&gone).await.expect("made");
                let late = number(&broker, &gone);
                broker.expire_taps().await;
                broker.open_tap(&made).await.expect("made");
                assert!(numbers.insert(late) && numbers.insert(number(&broker, &made)), "{numbers:?}");
                let message = Message {
                    exchange: ExchangeName::default_exchange(),
                    routing_key: RoutingKey::new("gone").expect("valid"),
                    properties: Properties::default(),
                    body: bytes::Bytes::from_static(b"late"),
                };
                let routed = vec![(message.into(), BTreeSet::from([late]))];
                assert!(broker.shared.publish(Work { routed, ..Work::default() }).await.is_ok(), "it goes nowhere");
                let depths = broker.shared.lock().queues.values().map(Queue::ready).sum::<u64>();
                assert_eq!(depths, 0, "another reader got it");
            }
            broker.close(Duration::from_secs(60)).await;
        }
    }
}
