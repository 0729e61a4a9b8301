//! Another topology while the broker is open.

use std::sync::Arc;

use super::queue::Queue;
use super::store::Found;
use super::{Embedded, kept_queue};
use crate::broker::Error;
use crate::config::Topology;
use crate::event::QueueName;

impl Embedded {
    /// Makes the queues that are new; see [`Broker::prepare`](crate::broker::Broker::prepare). Refused is only another
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
                let Some(queue) = core.queues.iter().find(|queue| queue.name == *name) else {
                    new.push(name.clone());
                    continue;
                };
                let is_empty = queue.ready == 0 && queue.unacknowledged() == 0;
                if queue.settings.max_priority != wanted.max_priority && !is_empty {
                    refused.push(format!("queue {name}: its max-priority cannot change while it holds messages"));
                }
            }
        }
        if !new.is_empty() && refused.is_empty() {
            self.make(new).await?;
        }
        Ok(refused)
    }

    async fn make(&self, names: Vec<QueueName>) -> Result<(), Error> {
        let shared = self.shared.clone();
        let made = tokio::task::spawn_blocking(move || {
            let found = shared.store.add_queues(&names).map_err(|error| error.to_string())?;
            let mut core = shared.lock();
            for name in names {
                if core.queues.iter().all(|queue| queue.name != name || queue.removed_ms.is_some()) {
                    let id = found.get(name.as_str()).map(|found| found.id).unwrap_or_default();
                    core.queues.push(Queue::new(name, kept_queue(), Found { id, ..Found::default() }, true));
                }
            }
            Ok::<_, String>(())
        });
        let made = made.await.map_err(|error| Error::Lost(format!("making queues panicked: {error}")))?;
        made.map_err(|error| Error::Lost(format!("making queues: {error}")))
    }

    /// Takes a prepared topology for the present one; see [`Broker::adopt`](crate::broker::Broker::adopt).
    pub fn adopt(&self, topology: &Topology) {
        let mut core = self.shared.lock();
        for queue in core.queues.iter_mut().filter(|queue| queue.reader.is_none() && queue.removed_ms.is_none()) {
            match topology.queues.get(&queue.name) {
                Some(settings) => queue.resettle(settings.clone()),
                None => queue.resettle(crate::config::Queue { codec: queue.settings.codec, ..kept_queue() }),
            }
        }
        core.topology = topology.clone();
        let routing = core.routing();
        self.shared.routing.store(Arc::new(routing));
        drop(core);
        // Another TTL or length may be due at once.
        self.shared.wake();
    }
}
