//! The contents of a store that was just opened, and the state in memory that follows from them.

use std::collections::HashMap;

use crate::EventStreamQueues;
use crate::embedded::state::{QueueState, SessionState, restored, unconfigured_queue};
use crate::embedded::store::{Fault, LastRun, MessageStore, StoredDelays, StoredQueue};
use trunkline_config::Topology;
use trunkline_event::QueueName;

/// The contents of a store.
pub(crate) struct StoreContents {
    /// Every queue by name.
    pub(crate) queues: HashMap<String, StoredQueue>,
    pub(crate) streams: Vec<EventStreamQueues>,
    delays: StoredDelays,
}

impl StoreContents {
    /// Makes the wanted queues that are missing, and reads the contents.
    pub(crate) fn of(store: &MessageStore, wanted: &[QueueName]) -> Result<Self, Fault> {
        let (queues, streams, delays) = (store.queues(wanted)?, store.streams()?, store.stored_delays()?);
        let queued: u64 = queues.values().map(|queue| queue.bytes).sum();
        store.add_record_bytes(queued.saturating_add(delays.bytes), 0);
        Ok(Self { queues, streams, delays })
    }

    /// The state in memory with which a session begins.
    pub(crate) fn into_state(self, session: u64, topology: Topology, last_run: LastRun, now_ms: u64) -> SessionState {
        let StoredDelays { retrying, next_due, next_number, .. } = self.delays;
        let mut state = SessionState {
            session,
            retrying,
            next_due,
            next_delayed: next_number,
            topology,
            ..SessionState::default()
        };
        for (name, stored) in self.queues {
            let Ok(name) = QueueName::new(&name) else { continue };
            let (settings, stream) = match state.topology.queues.get(&name) {
                Some(settings) => (settings.clone(), None),
                None => match restored(&name, &self.streams, now_ms) {
                    Some((settings, stream)) => (settings, Some(stream)),
                    None => (unconfigured_queue(), None),
                },
            };
            let mut queue = QueueState::new(name, settings, stored, last_run);
            queue.stream = stream;
            state.add(queue);
        }
        state
    }
}
