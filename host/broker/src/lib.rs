//! One broker contract, two implementations: RabbitMQ (`amqp`) and the broker in the daemon (`embedded`).
//!
//! Promises, kept by both and held by the conformance tests:
//! - A [`Receipt`] exists only when every message of a publish is confirmed: each is then in a durable queue, or no queue
//!   was bound for it and the caller accepts that.
//! - [`Delivery`] is moved into `settle`, so a second answer does not compile. An acknowledgement needs a [`Receipt`] or an
//!   explicit reason why nothing was published, so that an acknowledgement before the confirm does not compile either.
//! - A delivery that is dropped without an answer stays unacknowledged and comes back, flagged as redelivered, when its
//!   [`Subscription`] is closed or lost.
//!
//! Does not know routes, plugins or what is in a message.

#![deny(unsafe_code)]

pub mod amqp;
mod delivery;
pub mod embedded;
mod marks;
mod publication;
mod server;
mod statistics;
mod tap;

use delivery::{Answer, LOOK, SUSPECT_DELIVERIES};
pub use delivery::{Deliveries, Delivery, Next, NothingPublished, Settlement, Subscription};
pub use marks::{Ended, Known, Mark};
pub use publication::{Batch, Confirmed, DELAY_MAX, Passing, Permanent, Publication, Receipt, Refusal, Unpublished};
pub use server::{Server, ServerVersion};
pub use statistics::{QueueStatistics, Rates, Source, Statistics};
pub use tap::Tap;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use trunkline_config::{self as config, Topology};
use trunkline_event::{HeaderKey, QueueName};

/// What a broker could not do, by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Connection, channel or store went away: what was in flight is unknown and is left to redelivery.
    #[error("the broker session was lost: {0}")]
    Lost(String),
    /// The queue is not there, or has other arguments than ours.
    #[error("queue {queue}: {reason}")]
    Queue {
        /// Which.
        queue: QueueName,
        /// The broker's words.
        reason: String,
    },
    /// The broker cannot be used at all: bad URL, store locked by another daemon, store damaged.
    #[error("{0}")]
    Unusable(String),
}

/// What the supervisor knows of the broker; changes are seen through [`Broker::status`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Usable now.
    pub connected: bool,
    /// Counts connections made; 0 before the first. Deliveries of another session are void.
    pub session: u64,
    /// The broker told us to stop publishing (memory or disk alarm).
    pub blocked: bool,
    /// What the broker refused when the topology was declared, as sentences.
    pub refused: Vec<String>,
    /// Why it is not connected.
    pub error: Option<String>,
    /// Which broker answered last, where it is another program.
    pub server: Option<Server>,
}

/// What waits in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// Messages that can be delivered.
    pub ready: u64,
    /// Messages that are delivered and not answered.
    pub unacknowledged: u64,
    /// Since the first ready message was published.
    pub oldest_age: Option<Duration>,
}

/// Either broker. Cheap to clone.
#[derive(Clone)]
pub enum Broker {
    /// RabbitMQ.
    Amqp(Arc<amqp::Amqp>),
    /// In this process.
    Embedded(Arc<embedded::Embedded>),
}

impl Broker {
    /// Opens the configured broker. RabbitMQ may be down: the supervisor keeps trying, and [`Broker::status`] tells.
    ///
    /// # Errors
    /// [`Error::Unusable`] when waiting would not help.
    pub async fn open(broker: &config::Broker, topology: Arc<Topology>, state_dir: &Path) -> Result<Self, Error> {
        match broker {
            config::Broker::Amqp { url, tls, management, header_key } => {
                let endpoint = amqp::Endpoint::new(url, tls.clone())?;
                let key = amqp::header_key(header_key.as_ref(), state_dir)?;
                Ok(Self::Amqp(amqp::Amqp::open(endpoint, management.clone(), topology, state_dir, key)))
            }
            config::Broker::Embedded => Ok(Self::Embedded(Arc::new(
                embedded::Embedded::open(&embedded::directory(state_dir), &topology).await?,
            ))),
        }
    }

    /// The supervisor's view, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        match self {
            Self::Amqp(broker) => broker.status(),
            Self::Embedded(broker) => broker.status(),
        }
    }

    /// Makes what a topology has and the present one has not, and changes nothing that runs. Gives what the broker refuses,
    /// as sentences; with none [`Broker::adopt`] may follow. A broker that is away refuses nothing.
    ///
    /// # Errors
    /// [`Error::Lost`] when the session or the store went away meanwhile.
    pub async fn prepare(&self, topology: &Arc<Topology>) -> Result<Vec<String>, Error> {
        match self {
            Self::Amqp(broker) => broker.prepare(topology).await,
            Self::Embedded(broker) => broker.prepare(topology).await,
        }
    }

    /// Takes a prepared topology for the present one. Bindings between what both name and the new one has not are taken
    /// away, after the new ones are there: an event between is delivered to both rather than to nobody. Queues are never
    /// deleted.
    pub async fn adopt(&self, topology: Arc<Topology>) {
        match self {
            Self::Amqp(broker) => broker.adopt(topology).await,
            Self::Embedded(broker) => broker.adopt(&topology),
        }
    }

    /// Publishes what of a batch is not confirmed yet, and returns when every message of it is.
    ///
    /// # Errors
    /// [`Unpublished`] has the batch, with what is confirmed of it, and why the rest is not. A batch without messages is
    /// refused too, since there is nothing that a receipt could prove.
    pub async fn publish(&self, batch: impl Into<Batch>) -> Result<Receipt, Unpublished> {
        let batch = batch.into();
        if batch.open() == 0 {
            return batch.receipt().map_err(|batch| Unpublished { batch, refused: Vec::new(), lost: None });
        }
        match self {
            Self::Amqp(broker) => broker.publish(batch).await,
            Self::Embedded(broker) => broker.publish(batch).await,
        }
    }

    /// Publishes one message and remembers it by the mark that its confirm makes: in one transaction on a broker that has
    /// them, else after the confirm, so that a crash between the two forgets the mark and never the message.
    ///
    /// # Errors
    /// As [`Broker::publish`]; then nothing is marked.
    pub async fn publish_marked(
        &self,
        publication: Publication,
        mark: impl FnOnce(Confirmed) -> Mark + Send,
    ) -> Result<Confirmed, Unpublished> {
        match self {
            Self::Amqp(broker) => {
                let receipt = broker.publish(publication.into()).await?;
                let confirmed = receipt.confirmed().first().copied().unwrap_or(Confirmed::Unrouted);
                if let Err(error) = broker.mark(mark(confirmed)).await {
                    tracing::warn!(%error, "an accepted event is not remembered: a repetition would be published again");
                }
                Ok(confirmed)
            }
            Self::Embedded(broker) => broker.publish_marked(publication, mark).await,
        }
    }

    /// Whether [`Broker::commit`] works: publish, mark and acknowledgement are one transaction.
    #[must_use]
    pub const fn is_atomic(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }

    /// Publishes all, notes the mark and acknowledges the deliveries in one transaction: after a crash either all of it
    /// has happened or nothing. For brokers that can ([`Broker::is_atomic`]). The batch may be empty.
    ///
    /// # Errors
    /// As [`Broker::publish`], with the deliveries, which are not answered. Nothing of the batch is published then.
    pub async fn commit(
        &self,
        deliveries: impl Into<Deliveries>,
        batch: Batch,
        mark: Option<Mark>,
    ) -> Result<Vec<Confirmed>, Box<(Deliveries, Unpublished)>> {
        let deliveries = deliveries.into();
        match self {
            Self::Amqp(_) => {
                let reason = "RabbitMQ has no transaction over publish and acknowledgement";
                Err(Box::new((deliveries, Unpublished::lost(batch, reason))))
            }
            Self::Embedded(broker) => broker.commit(deliveries, batch, mark).await,
        }
    }

    /// Whether an event was settled within its window. What cannot be looked up counts as not settled: rather twice
    /// than never.
    pub async fn known(&self, mark: &Mark) -> Known {
        match self {
            Self::Amqp(broker) => broker.known(mark).await,
            Self::Embedded(broker) => broker.known(mark).await,
        }
    }

    /// Remembers that an event is settled; on disk when it returns.
    ///
    /// # Errors
    /// [`Error::Lost`] when the state store failed; then a redelivery does the work again.
    pub async fn mark(&self, mark: Mark) -> Result<(), Error> {
        match self {
            Self::Amqp(broker) => broker.mark(mark).await,
            Self::Embedded(broker) => broker.mark(mark).await,
        }
    }

    /// Begins to consume a queue, with at most `prefetch` unanswered deliveries.
    ///
    /// # Errors
    /// [`Error::Queue`] when the queue is missing, [`Error::Lost`] when there is no session now.
    pub async fn subscribe(&self, queue: &QueueName, prefetch: u16, tag: &str) -> Result<Subscription, Error> {
        match self {
            Self::Amqp(broker) => Ok(Subscription::Amqp(Box::new(broker.subscribe(queue, prefetch, tag).await?))),
            Self::Embedded(broker) => Ok(Subscription::Embedded(broker.subscribe(queue, prefetch).await?)),
        }
    }

    /// Consumes again with a subscription that the broker cancelled ([`Next::Cancelled`]), declaring its queue if it is to
    /// be declared. What was handed out stays handed out, whether this works or not, while the subscription is open.
    ///
    /// # Errors
    /// As [`Broker::subscribe`].
    pub async fn renew(&self, subscription: &mut Subscription, prefetch: u16) -> Result<(), Error> {
        match (self, subscription) {
            (Self::Amqp(broker), Subscription::Amqp(subscription)) => broker.renew(subscription, prefetch).await,
            // Its queues are not deleted while they are consumed.
            (Self::Amqp(_) | Self::Embedded(_), Subscription::Amqp(_) | Subscription::Embedded(_)) => Ok(()),
        }
    }

    /// What waits in each queue; empty for RabbitMQ, which has an exporter of its own.
    #[must_use]
    pub fn queue_depths(&self) -> Vec<(QueueName, QueueDepth)> {
        match self {
            Self::Amqp(_) => Vec::new(),
            Self::Embedded(broker) => broker.queue_depths(),
        }
    }

    /// Depth, consumers and rates of the queues of a topology, by the broker itself.
    ///
    /// # Errors
    /// [`Error::Lost`] when the broker is away.
    pub async fn statistics(&self, topology: &Topology) -> Result<Statistics, Error> {
        match self {
            Self::Amqp(broker) => broker.statistics(topology).await,
            Self::Embedded(broker) => Ok(broker.statistics(topology)),
        }
    }

    /// Size of the embedded broker's store.
    #[must_use]
    pub fn store_bytes(&self) -> Option<u64> {
        match self {
            Self::Amqp(_) => None,
            Self::Embedded(broker) => broker.store_bytes(),
        }
    }

    /// What our own headers are signed with; none where nobody else can write messages.
    #[must_use]
    pub fn header_key(&self) -> Option<HeaderKey> {
        match self {
            Self::Amqp(broker) => Some(broker.header_key()),
            Self::Embedded(_) => None,
        }
    }

    /// Ends all sessions within the time; what is unanswered goes back to its queue. Nothing works afterwards.
    pub async fn close(&self, within: Duration) {
        match self {
            Self::Amqp(broker) => broker.close(within).await,
            Self::Embedded(broker) => broker.close(within).await,
        }
    }
}
