//! The client of one RabbitMQ, connected or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::active_session::ActiveSession;
use super::dedupe_store::DedupeStore;
use super::management::ManagementApi;
use crate::amqp::consume::{AmqpSubscription, SubscriptionOptions};
use crate::amqp::publish::Publishing;
use crate::amqp::queue::{ToleratedQueues, UnansweredQueues};
use crate::amqp::topology::is_about_queue;
use crate::{Batch, BrokerStatus, DedupeLookup, DedupeRecord, Error, Unpublished};
use trunkline_config::{Binding, Topology};
use trunkline_event::{HeaderKey, QueueName};
use trunkline_telemetry::Condition;

/// The longest wait of a request for a session.
const SESSION_WITHIN: Duration = Duration::from_secs(5);

/// The client of one RabbitMQ.
pub struct AmqpClient {
    /// Signs the daemon's own headers and verifies them.
    pub(super) key: HeaderKey,
    /// The topology that this session and the next ones declare.
    pub(super) topology: Arc<ArcSwap<Topology>>,
    /// Bindings of earlier topologies that are still to be removed.
    pub(super) unbinds: Mutex<Vec<Binding>>,
    pub(super) tolerated: Arc<ToleratedQueues>,
    pub(super) unanswered: Arc<UnansweredQueues>,
    pub(super) status: watch::Sender<BrokerStatus>,
    pub(super) session: watch::Sender<Option<Arc<ActiveSession>>>,
    /// Whether every session publishes delayed messages that are due.
    pub(super) relays: AtomicBool,
    pub(super) dedupe: DedupeStore,
    pub(super) management: Option<ManagementApi>,
    /// Held during a request for statistics, so that there is one request at a time.
    pub(super) asking: tokio::sync::Mutex<()>,
    pub(super) stop: CancellationToken,
    pub(super) supervisor: Mutex<JoinSet<()>>,
}

impl AmqpClient {
    /// The state of the connection, with its changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<BrokerStatus> {
        self.status.subscribe()
    }

    /// The key that signs the daemon's own headers.
    #[must_use]
    pub fn header_key(&self) -> HeaderKey {
        self.key.clone()
    }

    /// Begins to publish; see [`Broker::begin_publish`](crate::Broker::begin_publish).
    pub fn begin_publish(self: &Arc<Self>, batch: Batch) -> Publishing {
        let session = self.session.borrow().clone();
        if let Some(active) = session {
            return active.begin_publish(batch);
        }
        let client = self.clone();
        Publishing::general(async move {
            match client.session_soon().await {
                Ok(active) => active.begin_publish(batch).await,
                Err(error) => Err(Unpublished::lost(batch, error.to_string())),
            }
        })
    }

    /// Publishes delayed messages that are due from now on; see [`Broker::begin_relay`](crate::Broker::begin_relay).
    pub fn begin_relay(&self) {
        self.relays.store(true, Ordering::Release);
        // The next session begins by itself.
        let session = self.session.borrow().clone();
        if let Some(active) = session {
            active.begin_relay();
        }
    }

    /// Looks up whether an event was settled within its window.
    pub async fn look_up(&self, record: &DedupeRecord) -> DedupeLookup {
        self.dedupe.look_up(record).await
    }

    /// Writes a dedupe record. The record is on disk when the future is ready.
    ///
    /// # Errors
    /// [`Error::Lost`] when the file cannot be written.
    pub async fn record(&self, record: DedupeRecord) -> Result<(), Error> {
        self.dedupe.record(record).await
    }

    /// Begins to consume; see [`Broker::subscribe`](crate::Broker::subscribe).
    ///
    /// # Errors
    /// As [`Broker::subscribe`](crate::Broker::subscribe).
    pub async fn subscribe(&self, queue: &QueueName, prefetch: u16, tag: &str) -> Result<AmqpSubscription, Error> {
        let session = self.session_soon().await?.session.clone();
        let options = SubscriptionOptions { tag, ..SubscriptionOptions::new(prefetch) };
        let subscription = AmqpSubscription::new(&session, &self.topology.load_full(), queue, options).await?;
        // The subscription declared the queue, so an earlier refusal of the queue no longer holds.
        self.status.send_if_modified(|status| {
            let before = status.refused.len();
            status.refused.retain(|refusal| !is_about_queue(refusal, queue));
            let is_shorter = status.refused.len() != before;
            if is_shorter {
                show_refused(&status.refused);
            }
            is_shorter
        });
        Ok(subscription)
    }

    /// Changes the status. The condition about refused parts of the topology follows the status.
    pub(super) fn change_status(&self, change: impl FnOnce(&mut BrokerStatus)) {
        self.status.send_modify(|status| {
            change(status);
            show_refused(&status.refused);
        });
    }

    /// Consumes again after the broker cancelled the consumer; see [`Broker::renew`](crate::Broker::renew).
    ///
    /// # Errors
    /// As [`Broker::renew`](crate::Broker::renew).
    pub async fn renew(&self, subscription: &mut AmqpSubscription, prefetch: u16) -> Result<(), Error> {
        let session = self.session_soon().await?.session.clone();
        subscription.renew(&session, &self.topology.load_full(), prefetch).await
    }

    /// The present session, or the next one within [`SESSION_WITHIN`].
    ///
    /// # Errors
    /// [`Error::Lost`] with the reason why there is no session.
    pub(super) async fn session_soon(&self) -> Result<Arc<ActiveSession>, Error> {
        let mut watched = self.session.subscribe();
        let found = tokio::time::timeout(SESSION_WITHIN, watched.wait_for(Option::is_some)).await;
        let session = found.ok().and_then(Result::ok).and_then(|session| session.clone());
        session.ok_or_else(|| {
            let reason = self.status.borrow().error.clone();
            Error::Lost(reason.unwrap_or_else(|| "not connected".to_owned()))
        })
    }

    /// Ends the session and the supervisor. RabbitMQ takes unacknowledged deliveries back.
    pub async fn close(&self, within: Duration) {
        self.stop.cancel();
        let mut work = std::mem::take(&mut *self.supervisor.lock());
        let ended = async { while work.join_next().await.is_some() {} };
        if tokio::time::timeout(within, ended).await.is_err() {
            tracing::warn!(
                "the daemon could not close its connections in time; the broker ends the connections and delivers unfinished messages again"
            );
        }
    }
}

/// Raises the condition while the broker refuses a part of the topology.
fn show_refused(refused: &[String]) {
    match refused {
        [] => Condition::TopologyRefused.clear(""),
        [only] => Condition::TopologyRefused.raise("", only.as_str()),
        [first, further @ ..] => {
            let detail = format!("{first}; `refused` in `broker` of `/health` lists {} more", further.len());
            Condition::TopologyRefused.raise("", detail);
        }
    }
}
