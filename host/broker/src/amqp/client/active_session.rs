//! A session in use: its connections, its publisher, and its delayed publishing.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::amqp::connection::Session;
use crate::amqp::publish::{AmqpPublisher, PreparedBatch, Publishing};
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

    /// Begins to publish the open messages of a batch. The messages of a batch without delays are with their channels when this
    /// method returns. The delay queues are declared first, if a message is delayed.
    pub(crate) fn begin_publish(self: Arc<Self>, batch: Batch) -> Publishing {
        match self.publisher.prepare(batch) {
            Ok(prepared) if prepared.has_delays() => {
                Publishing::general(async move { self.publish_delayed(prepared).await })
            }
            Ok(prepared) => Publishing::begin(self.publisher.clone(), prepared),
            Err(unpublished) => Publishing::general(std::future::ready(Err(unpublished))),
        }
    }

    async fn publish_delayed(&self, prepared: PreparedBatch) -> Result<Receipt, Unpublished> {
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
