//! The state of one session of the store in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::change::QueueChange;
use super::queue_state::QueueState;
use super::routing::Routing;
use super::stream::{StreamRole, StreamState};
use crate::EventStreamQueues;
use crate::embedded::store::{LastRun, RetryCounts, StoredQueue};
use trunkline_config::Topology;
use trunkline_event::QueueName;

/// The state of one session, from opening the store to its end or its failure.
#[derive(Default)]
pub(crate) struct SessionState {
    /// Counts from 1 in each process.
    pub(crate) session: u64,
    pub(crate) topology: Topology,
    /// Queues by number. The number is the id in the store, and is never used for another queue.
    pub(crate) queues: BTreeMap<usize, QueueState>,
    pub(crate) names: HashMap<QueueName, usize>,
    /// Changes that wait for the next transaction.
    pub(crate) pending: Vec<QueueChange>,
    /// Queues whose next messages have to be read from the disk.
    pub(crate) to_read: BTreeSet<usize>,
    /// Queues whose next messages the read-ahead thread brings into the caches.
    pub(crate) loading: BTreeSet<usize>,
    /// Queues whose next messages are in the caches, and which the writer reads next.
    pub(crate) cached: BTreeSet<usize>,
    /// Why the store is not usable.
    pub(crate) failed: Option<String>,
    /// Time of the store at which the next delayed message is due.
    pub(crate) next_due: Option<u64>,
    /// Number of the next delayed message. Numbers keep the order of messages that are due at the same time.
    pub(crate) next_delayed: u64,
    /// Number of delayed retries by the name of their queue.
    pub(crate) retrying: RetryCounts,
}

impl SessionState {
    /// The number of a queue.
    pub(crate) fn number(&self, name: &QueueName) -> Option<usize> {
        self.names.get(name).copied()
    }

    pub(crate) fn add(&mut self, queue: QueueState) {
        let number = number(queue.id);
        self.names.insert(queue.name.clone(), number);
        self.queues.insert(number, queue);
    }

    /// Notes that the next messages of a queue have to be read. Returns whether this was not known yet.
    pub(crate) fn read_ahead(&mut self, number: usize) -> bool {
        let is_known = self.loading.contains(&number) || self.cached.contains(&number);
        !is_known && self.to_read.insert(number)
    }

    /// A queue of a session; `None` after the end of the session.
    pub(crate) fn queue_of(&mut self, session: u64, number: usize) -> Option<&mut QueueState> {
        let is_over = self.session != session || self.failed.is_some();
        if is_over { None } else { self.queues.get_mut(&number) }
    }

    /// The reason for the end of a session; `None` while the session lasts.
    pub(crate) fn end_of(&self, session: u64) -> Option<String> {
        match &self.failed {
            Some(reason) => Some(reason.clone()),
            None => (self.session != session).then(|| "the store was opened again".to_owned()),
        }
    }

    /// Exchanges and bindings of the topology and of the streams.
    pub(crate) fn routing(&self) -> Routing {
        let names = self.names.iter().map(|(name, number)| (name.to_string(), *number)).collect();
        let streams = self.queues.values().filter_map(|queue| queue.stream.as_ref());
        let bindings =
            streams.filter(|state| state.role == StreamRole::Events).flat_map(|state| state.stream.bindings());
        Routing::new(&self.topology, names, &bindings.collect::<Vec<_>>())
    }

    /// Adds the queues of a stream, which are in the store with these ids.
    pub(crate) fn add_stream(&mut self, stream: &EventStreamQueues, ids: &HashMap<String, StoredQueue>, now_ms: u64) {
        for (name, settings, _) in stream.queues() {
            let Some(stored) = ids.get(name.as_str()).filter(|_| self.number(name).is_none()) else { continue };
            let role = if *name == stream.overflow { StreamRole::Overflow } else { StreamRole::Events };
            let mut queue = QueueState::new(name.clone(), settings, *stored, LastRun::Clean);
            queue.stream = Some(StreamState::new(stream.clone(), role, now_ms));
            self.add(queue);
        }
    }

    /// Removes queues from memory, and returns their names. The queues are still in the store.
    pub(crate) fn remove(&mut self, numbers: &[usize]) -> Vec<QueueName> {
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

/// The number of the queue with an id.
fn number(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}
