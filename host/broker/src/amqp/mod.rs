//! RabbitMQ, through lapin with its recovery switched off: it hides outages, and then an old tag acknowledges a message
//! that nobody has handled.
//!
//! A *session* is a pair of connections (an alarm stops everything on a connection that publishes, acknowledgements
//! included) with the topology declared. Our own supervisor makes one after the other, with jittered backoff, for as
//! long as the process lives. What belongs to a lost session is dropped, never sent on the next one.

mod acks;
mod arguments;
mod collector;
mod confirms;
mod connect;
mod consume;
mod convert;
mod delay;
mod dial;
mod flapping;
pub mod gate;
mod key;
mod ledger;
mod link;
mod logs;
mod management;
mod publish;
mod queues;
mod reshape;
mod session;
mod statistics;
mod supervisor;
mod suspects;
mod tap;
mod topology;

pub use acks::Answer;
pub(super) use connect::Endpoint;
pub use consume::Subscription;
pub(super) use key::header_key;
pub use logs::is_fit_to_log;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Batch, Error, Known, Mark, Receipt, Status, Unpublished};
use consume::Settings;
use ledger::Ledger;
use management::Management;
use queues::Adopted;
use session::Session;
use trunkline_config::{self as config, Binding, Topology};
use trunkline_event::{HeaderKey, QueueName};

/// How long a publish waits for a session before it says that there is none.
const SESSION_WITHIN: Duration = Duration::from_secs(5);

/// A RabbitMQ, reached or not.
pub struct Amqp {
    /// Signs our headers, and tells them from those that anybody wrote.
    key: HeaderKey,
    /// What is declared, in this session and in the next ones.
    topology: ArcSwap<Topology>,
    /// Bindings of earlier topologies that are still to be taken away.
    unbinds: Mutex<Vec<Binding>>,
    adopted: Arc<Adopted>,
    status: watch::Sender<Status>,
    session: watch::Sender<Option<Arc<Session>>>,
    ledger: Ledger,
    management: Option<Management>,
    /// Held by who asks for statistics: they are asked one after the other.
    asking: tokio::sync::Mutex<()>,
    stop: CancellationToken,
    supervisor: Mutex<JoinSet<()>>,
}

impl Amqp {
    /// Begins to connect, and returns at once: the broker may be down.
    pub(super) fn open(
        endpoint: Endpoint,
        management: Option<config::Management>,
        topology: Arc<Topology>,
        state_dir: &Path,
        key: HeaderKey,
    ) -> Arc<Self> {
        let amqp = Arc::new(Self {
            key,
            topology: ArcSwap::new(topology),
            unbinds: Mutex::default(),
            adopted: Arc::default(),
            status: watch::Sender::new(Status::default()),
            session: watch::Sender::new(None),
            ledger: Ledger::new(state_dir),
            management: management.map(|management| Management::new(management, endpoint.vhost())),
            asking: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
            supervisor: Mutex::default(),
        });
        let work = supervisor::supervise(Arc::downgrade(&amqp), endpoint, amqp.stop.clone());
        amqp.supervisor.lock().unwrap_or_else(PoisonError::into_inner).spawn(work);
        amqp
    }

    /// The supervisor's view, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// What our own headers are signed with.
    #[must_use]
    pub fn header_key(&self) -> HeaderKey {
        self.key.clone()
    }

    /// Publishes and waits for every confirm; see [`Broker::publish`](super::Broker::publish).
    ///
    /// # Errors
    /// As there.
    pub async fn publish(&self, batch: Batch) -> Result<Receipt, Unpublished> {
        match self.session_soon().await {
            Ok(session) => publish::publish(&session, &self.topology.load_full(), batch).await,
            Err(error) => Err(Unpublished::lost(batch, error.to_string())),
        }
    }

    /// Whether an event was settled within its window.
    pub async fn known(&self, mark: &Mark) -> Known {
        self.ledger.known(mark).await
    }

    /// Remembers that an event is settled; on disk when it returns.
    ///
    /// # Errors
    /// [`Error::Lost`] when the file cannot be written.
    pub async fn mark(&self, mark: Mark) -> Result<(), Error> {
        self.ledger.mark(mark).await
    }

    /// Begins to consume; see [`Broker::subscribe`](super::Broker::subscribe).
    ///
    /// # Errors
    /// As there.
    pub async fn subscribe(&self, queue: &QueueName, prefetch: u16, tag: &str) -> Result<Subscription, Error> {
        let session = self.session_soon().await?;
        let settings = Settings { tag, ..Settings::new(prefetch) };
        let subscription = Subscription::new(&session, &self.topology.load_full(), queue, settings).await?;
        // It declared the queue again: what stood in the way once is gone.
        self.status.send_if_modified(|status| {
            let before = status.refused.len();
            status.refused.retain(|refusal| !topology::is_about_queue(refusal, queue));
            status.refused.len() != before
        });
        Ok(subscription)
    }

    /// Consumes again after the broker cancelled the consumer; see [`Broker::renew`](super::Broker::renew).
    ///
    /// # Errors
    /// As there.
    pub async fn renew(&self, subscription: &mut Subscription, prefetch: u16) -> Result<(), Error> {
        let session = self.session_soon().await?;
        subscription.renew(&session, &self.topology.load_full(), prefetch).await
    }

    async fn session_soon(&self) -> Result<Arc<Session>, Error> {
        let mut watched = self.session.subscribe();
        let found = tokio::time::timeout(SESSION_WITHIN, watched.wait_for(Option::is_some)).await;
        let session = found.ok().and_then(Result::ok).and_then(|session| session.clone());
        session.ok_or_else(|| {
            let reason = self.status.borrow().error.clone();
            Error::Lost(reason.unwrap_or_else(|| "not connected".to_owned()))
        })
    }

    /// Ends the session and the supervisor.
    pub async fn close(&self, within: Duration) {
        self.stop.cancel();
        let mut work = std::mem::take(&mut *self.supervisor.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while work.join_next().await.is_some() {} };
        if tokio::time::timeout(within, ended).await.is_err() {
            tracing::warn!("the connections did not close in time; the broker notices by itself");
        }
    }
}

/// The parts without a connection, for a model of a broker: `tests/tidy.rs` lets the simulator of routes name them and nobody else.
#[doc(hidden)]
pub mod parts {
    pub use super::acks::Done;
    pub use super::confirms::{Answer, CONFIRM_WITHIN, Identity, Window};
    use crate::{Batch, Confirmed};

    /// A broker that is only modelled confirms a message of a batch. No receipt follows from it without [`Batch`]'s own.
    pub fn confirm(batch: &mut Batch, index: usize, confirmed: Confirmed) {
        batch.confirm(index, confirmed);
    }
}
