//! Acknowledging a delivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Notify, oneshot};

use crate::Error;
use crate::embedded::state::{DeliveryId, QueueChange};
use crate::embedded::writer::{BrokerShared, WriterCommand};

/// A consumer, shared by its subscription and its deliveries.
#[derive(Debug)]
pub(crate) struct EmbeddedConsumer {
    /// Never used for another consumer of the process.
    pub(crate) number: u64,
    /// Deliveries that are not acknowledged.
    pub(crate) unanswered: AtomicU32,
    /// Notified when a delivery is acknowledged.
    pub(crate) answered: Notify,
}

impl EmbeddedConsumer {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, unanswered: AtomicU32::new(0), answered: Notify::new() }
    }
}

/// Acknowledges one delivery.
pub struct EmbeddedAckHandle {
    shared: Arc<BrokerShared>,
    id: DeliveryId,
    consumer: Arc<EmbeddedConsumer>,
}

impl std::fmt::Debug for EmbeddedAckHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AckHandle({:?})", self.id)
    }
}

impl EmbeddedAckHandle {
    pub(crate) fn new(shared: Arc<BrokerShared>, id: DeliveryId, consumer: Arc<EmbeddedConsumer>) -> Self {
        Self { shared, id, consumer }
    }

    /// Identity of the delivery.
    pub(crate) const fn id(&self) -> DeliveryId {
        self.id
    }

    /// Notes that the transaction with the acknowledgement is on disk.
    pub(crate) fn committed(self) {
        self.consumer.unanswered.fetch_sub(1, Ordering::AcqRel);
        self.consumer.answered.notify_one();
    }

    /// Removes the message from its queue with the next transaction. Has no effect when the message was given back
    /// meanwhile.
    pub fn ack(self) {
        let removed = {
            let (now_ms, mut state) = (self.shared.clock.now_ms(), self.shared.lock());
            let DeliveryId { session, queue, position, consumer } = self.id;
            let released =
                state.queue_of(session, queue).is_some_and(|queue| queue.release(position, consumer, now_ms));
            if released {
                state.pending.push(QueueChange::Remove { queue, position });
            }
            released
        };
        if removed {
            self.shared.wake();
            self.committed();
        }
    }

    /// Acknowledges as [`EmbeddedAckHandle::ack`], and returns when the acknowledgement is on disk.
    ///
    /// # Errors
    /// [`Error::Lost`] when the store failed, or the session is over.
    pub async fn ack_now(self) -> Result<(), Error> {
        let (shared, session) = (self.shared.clone(), self.id.session);
        self.ack();
        flushed(&shared, session).await
    }
}

/// Waits until every acknowledgement of a session is on disk.
pub(crate) async fn flushed(shared: &BrokerShared, session: u64) -> Result<(), Error> {
    let (reply, flushed) = oneshot::channel();
    shared.send(WriterCommand::Flush(reply));
    flushed.await.map_err(|_dropped| Error::Lost(shared.failure()))?;
    // The acknowledgements of a session that is over may not have been written.
    let end = shared.lock().end_of(session);
    end.map_or(Ok(()), |reason| Err(Error::Lost(reason)))
}
