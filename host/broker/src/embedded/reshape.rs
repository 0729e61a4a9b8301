//! Another topology while the broker is open.

use std::sync::Arc;

use super::shared::Alteration;
use super::{Embedded, kept_queue};
use crate::Error;
use trunkline_config::Topology;

impl Embedded {
    /// Makes the queues that are new; see [`Broker::prepare`](crate::Broker::prepare). Refused is only another
    /// `max-priority` for a queue that holds messages: their places were given by the old one.
    ///
    /// # Errors
    /// [`Error::Lost`] when the store failed.
    pub async fn prepare(&self, topology: &Arc<Topology>) -> Result<Vec<String>, Error> {
        let (mut refused, mut new) = (Vec::new(), Vec::new());
        {
            let core = self.shared.lock();
            if let Some(reason) = &core.failed {
                return Err(Error::Lost(reason.clone()));
            }
            for (name, wanted) in &topology.queues {
                let Some(queue) = core.number(name).and_then(|number| core.queues.get(&number)) else {
                    new.push(name.clone());
                    continue;
                };
                if queue.settings.max_priority != wanted.max_priority && !queue.is_empty() {
                    refused.push(format!("queue {name}: its max-priority cannot change while it holds messages"));
                }
            }
        }
        if !new.is_empty() && refused.is_empty() {
            let made = self.shared.alter(Alteration::Queues(new)).await;
            made.map_err(|error| Error::Lost(format!("making queues: {error}")))?;
        }
        Ok(refused)
    }

    /// Takes a prepared topology for the present one; see [`Broker::adopt`](crate::Broker::adopt).
    pub fn adopt(&self, topology: &Topology) {
        let mut core = self.shared.lock();
        for queue in core.queues.values_mut().filter(|queue| queue.reader.is_none()) {
            match topology.queues.get(&queue.name) {
                Some(settings) => queue.resettle(settings.clone()),
                None => queue.resettle(trunkline_config::Queue { codec: queue.settings.codec, ..kept_queue() }),
            }
        }
        core.topology = topology.clone();
        self.shared.reroute(&core);
        drop(core);
        // Another TTL or length may be due at once.
        self.shared.wake();
    }
}
