//! The retry queues of earlier builds that an operator can delete, as far as the daemon has found them.

use parking_lot::Mutex;

use trunkline_broker::{Broker, Error, FormerRetryQueue};
use trunkline_event::QueueName;

/// The retry queues of earlier builds that existed at the last look.
#[derive(Default)]
pub(super) struct RemovableQueues(Mutex<Vec<QueueName>>);

impl RemovableQueues {
    /// Keeps the queues that the first look found.
    pub(super) fn found(&self, found: &[FormerRetryQueue]) {
        *self.0.lock() = found.iter().map(|queue| queue.queue.clone()).collect();
    }

    /// The queues that still exist. Without such queues, the broker is not asked.
    ///
    /// # Errors
    /// When the broker is away.
    pub(super) async fn look(&self, broker: &Broker) -> Result<Vec<FormerRetryQueue>, Error> {
        let known = self.0.lock().clone();
        let found = broker.existing_retry_queues(&known).await?;
        let is_gone = |name: &QueueName| known.contains(name) && found.iter().all(|queue| queue.queue != *name);
        self.0.lock().retain(|name| !is_gone(name));
        Ok(found)
    }
}
