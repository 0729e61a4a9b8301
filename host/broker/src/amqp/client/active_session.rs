//! A session in use: its connections, its publisher, and its delayed publishing.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::amqp::connection::Session;
use crate::amqp::publish::AmqpPublisher;
use crate::amqp::relay::DelayedPublishing;
use crate::{Batch, Receipt, Unpublished};
use trunkline_config::Topology;

/// Everything that works on one session.
pub(crate) struct ActiveSession {
    pub(crate) session: Arc<Session>,
    publisher: Arc<AmqpPublisher>,
    pub(crate) delayed_publishing: DelayedPublishing,
}

impl ActiveSession {
    /// `topology` is the present topology of the client.
    pub(crate) fn new(session: Arc<Session>, topology: Arc<ArcSwap<Topology>>) -> Self {
        let publisher = Arc::new(AmqpPublisher::new(session.clone()));
        let delayed_publishing = DelayedPublishing::new(session.clone(), publisher.clone(), topology);
        Self { session, publisher, delayed_publishing }
    }

    /// Begins to publish delayed messages that are due.
    pub(crate) fn begin_relay(self: &Arc<Self>) {
        let active = self.clone();
        self.session.spawn(async move { active.delayed_publishing.begin().await });
    }

    /// Publishes the open messages of a batch. The delay queues are declared first, if a message is delayed.
    ///
    /// # Errors
    /// The messages that are not confirmed, and why.
    pub(crate) async fn publish(&self, batch: Batch) -> Result<Receipt, Unpublished> {
        let prepared = self.publisher.prepare(batch)?;
        if !prepared.has_delays() {
            return self.publisher.send(prepared).await;
        }
        if let Err(error) = self.delayed_publishing.ensure().await {
            return Err(prepared.lost(error.to_string()));
        }
        let sent = self.publisher.send(prepared).await;
        if let Err(unpublished) = &sent {
            self.delayed_publishing.note(unpublished).await;
        }
        sent
    }
}
