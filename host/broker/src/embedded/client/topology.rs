//! Changes of the topology while the broker is open.

use std::sync::Arc;

use super::broker::EmbeddedBroker;
use crate::Error;
use crate::embedded::state::unconfigured_queue;
use crate::embedded::writer::QueueSetChange;
use trunkline_config::Topology;

impl EmbeddedBroker {
    /// Makes the new queues; see [`Broker::prepare`](crate::Broker::prepare). The only refusal is another `max-priority` for
    /// a queue that holds messages, because their positions contain the old one.
    ///
    /// # Errors
    /// [`Error::Lost`] when the store failed.
    pub async fn prepare(&self, topology: &Arc<Topology>) -> Result<Vec<String>, Error> {
        let (mut refused, mut new) = (Vec::new(), Vec::new());
        {
            let state = self.shared.lock();
            if let Some(reason) = &state.failed {
                return Err(Error::Lost(reason.clone()));
            }
            for (name, wanted) in &topology.queues {
                let Some(queue) = state.number(name).and_then(|number| state.queues.get(&number)) else {
                    new.push(name.clone());
                    continue;
                };
                if queue.settings.max_priority != wanted.max_priority && !queue.is_empty() {
                    refused
                        .push(format!("queue {name}: `max-priority` cannot change while the queue contains messages"));
                }
            }
        }
        if !new.is_empty() && refused.is_empty() {
            let made = self.shared.change_queues(QueueSetChange::Add(new)).await;
            made.map_err(|error| Error::Lost(format!("the queues cannot be made: {error}")))?;
        }
        Ok(refused)
    }

    /// Adopts a prepared topology; see [`Broker::adopt`](crate::Broker::adopt).
    pub fn adopt(&self, topology: &Topology) {
        let mut state = self.shared.lock();
        for queue in state.queues.values_mut().filter(|queue| queue.stream.is_none()) {
            match topology.queues.get(&queue.name) {
                Some(settings) => queue.change_settings(settings.clone()),
                None => {
                    let codec = queue.settings.codec;
                    queue.change_settings(trunkline_config::Queue { codec, ..unconfigured_queue() });
                }
            }
        }
        state.topology = topology.clone();
        self.shared.reroute(&state);
        drop(state);
        // A new TTL or length may concern waiting messages.
        self.shared.wake();
    }
}
