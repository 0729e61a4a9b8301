//! Delayed publishing of a session: declares the delay queues, and starts the relay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::delay_queues::DelayQueues;
use super::due_relay::DueRelay;
use crate::amqp::connection::Session;
use crate::amqp::delay::{DUE, exists, own_due, queue};
use crate::amqp::publish::AmqpPublisher;
use crate::{Error, Unpublished};
use trunkline_config::{QueuePurpose, Topology};

/// The longest time in which the relay finishes the messages that it is publishing.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// The delay queues and the relay of one session.
pub(crate) struct DelayedPublishing {
    session: Arc<Session>,
    publisher: Arc<AmqpPublisher>,
    queues: Arc<DelayQueues>,
    is_relaying: AtomicBool,
    relays: Mutex<JoinSet<()>>,
    /// Ends the relays, at the latest with the session.
    stop: CancellationToken,
}

impl DelayedPublishing {
    pub(crate) fn new(session: Arc<Session>, publisher: Arc<AmqpPublisher>, topology: Arc<ArcSwap<Topology>>) -> Self {
        let queues = Arc::new(DelayQueues::new(session.clone(), topology));
        let stop = session.over.child_token();
        Self { session, publisher, queues, is_relaying: AtomicBool::new(false), relays: Mutex::default(), stop }
    }

    /// Begins with the session of a daemon. A daemon with routes relays from the start, because the retries of a daemon that
    /// ended may be due. A daemon without routes relays when the delay queues exist.
    pub(crate) async fn begin(&self) {
        let topology = self.queues.topology();
        let has_routes = topology.queues.values().any(|queue| queue.purpose == QueuePurpose::Consumed);
        if has_routes || exists(&self.session, &queue(DUE)).await {
            self.start_relay();
        }
    }

    /// Makes sure that the delay queues exist and that the relay runs.
    ///
    /// # Errors
    /// As [`DelayQueues::ensure`].
    pub(crate) async fn ensure(&self) -> Result<(), Error> {
        self.queues.ensure().await?;
        self.start_relay();
        Ok(())
    }

    /// Notes why delayed messages were not published.
    pub(crate) async fn note(&self, unpublished: &Unpublished) {
        self.queues.note(unpublished).await;
    }

    /// Ends the relays before the session ends. The messages that are being published are acknowledged first, unless the
    /// connection is lost.
    pub(crate) async fn finish(&self) {
        self.stop.cancel();
        let mut relays = std::mem::take(&mut *self.relays.lock());
        if self.session.is_connected() {
            let finished = async { while relays.join_next().await.is_some() {} };
            let _late = tokio::time::timeout(FINISH_WITHIN, finished).await;
        }
        relays.shutdown().await;
    }

    /// Starts one relay for each queue of due messages, once a session.
    fn start_relay(&self) {
        if self.is_relaying.swap(true, Ordering::AcqRel) {
            return;
        }
        for due in [queue(DUE), own_due(self.session.key.id())] {
            let (session, publisher) = (self.session.clone(), self.publisher.clone());
            let relay = DueRelay::new(session, publisher, self.queues.clone(), due, self.stop.clone());
            self.relays.lock().spawn(relay.run());
        }
    }
}
