//! What the store knows of its queues.

use std::time::Duration;

use super::Embedded;
use super::queue::Queue;
use crate::{QueueStatistics, Rates, Source, Statistics};
use trunkline_config::Topology;

impl Embedded {
    /// See [`Broker::statistics`](crate::Broker::statistics).
    #[must_use]
    pub fn statistics(&self, topology: &Topology) -> Statistics {
        let now = self.shared.clock.now_ms();
        let core = self.shared.lock();
        let known = |queue: &&Queue| topology.queues.contains_key(&queue.name);
        let of = |queue: &Queue| QueueStatistics {
            queue: queue.name.clone(),
            ready: queue.ready(),
            unacknowledged: Some(queue.unacknowledged()),
            retrying: Some(core.retrying.get(queue.name.as_str()).copied().unwrap_or_default()),
            consumers: u64::from(queue.consumers),
            oldest_age: queue.oldest().map(|published| Duration::from_millis(now.saturating_sub(published))),
            rates: Some(Rates {
                published: queue.meters.published.rate(now),
                delivered: queue.meters.delivered.rate(now),
                acknowledged: queue.meters.acknowledged.rate(now),
            }),
        };
        let queues = core.queues.values().filter(known).map(of).collect();
        Statistics { source: Source::Embedded, queues, problems: Vec::new() }
    }
}
