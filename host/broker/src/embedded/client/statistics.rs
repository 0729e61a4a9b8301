//! Figures of the queues and the store.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::broker::EmbeddedBroker;
use crate::embedded::state::QueueState;
use crate::{QueueDepth, QueueStatistics, Rates, Statistics, StatisticsSource};
use trunkline_config::Topology;
use trunkline_event::QueueName;

impl EmbeddedBroker {
    /// Figures of the queues of a topology; see [`Broker::statistics`](crate::Broker::statistics).
    #[must_use]
    pub fn statistics(&self, topology: &Topology) -> Statistics {
        let now = self.shared.clock.now_ms();
        let state = self.shared.lock();
        let is_named = |queue: &&QueueState| topology.queues.contains_key(&queue.name);
        let of = |queue: &QueueState| QueueStatistics {
            queue: queue.name.clone(),
            ready: queue.ready(),
            unacknowledged: Some(queue.unacknowledged()),
            retrying: Some(state.retrying.get(queue.name.as_str()).copied().unwrap_or_default()),
            consumers: u64::from(queue.consumers),
            oldest_age: queue.oldest().map(|published| Duration::from_millis(now.saturating_sub(published))),
            rates: Some(Rates {
                published: Some(queue.meters.published.rate(now)),
                delivered: Some(queue.meters.delivered.rate(now)),
                acknowledged: Some(queue.meters.acknowledged.rate(now)),
            }),
        };
        let queues = state.queues.values().filter(is_named).map(of).collect();
        Statistics { source: StatisticsSource::Embedded, queues, delayed: None, problems: Vec::new() }
    }

    /// Depth of every queue that does not belong to a stream.
    #[must_use]
    pub fn queue_depths(&self) -> Vec<(QueueName, QueueDepth)> {
        let now = self.shared.clock.now_ms();
        let state = self.shared.lock();
        let depth = |queue: &QueueState| QueueDepth {
            ready: queue.ready(),
            unacknowledged: queue.unacknowledged(),
            retrying: state.retrying.get(queue.name.as_str()).copied().unwrap_or_default(),
            consumers: u64::from(queue.consumers),
            oldest_age: queue.oldest().map(|published| Duration::from_millis(now.saturating_sub(published))),
        };
        // The names of queues of streams must not become labels, because there is no bound on their number over time.
        let lasting = state.queues.values().filter(|queue| queue.stream.is_none());
        lasting.map(|queue| (queue.name.clone(), depth(queue))).collect()
    }

    /// Length of the store's file in bytes.
    #[must_use]
    pub fn store_bytes(&self) -> Option<u64> {
        Some(self.shared.store_bytes.load(Ordering::Relaxed))
    }
}
