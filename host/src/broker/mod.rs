//! One broker contract, two implementations: RabbitMQ (`amqp`) and the broker in the daemon (`embedded`).
//!
//! Promises, kept by both and held by the conformance tests:
//! - A [`Receipt`] exists only when every message of a publish is confirmed: it is then in a durable queue, or nobody
//!   had subscribed and the caller accepts that.
//! - [`Delivery`] is moved into `settle`, so a second answer does not compile, and an acknowledgement needs a
//!   [`Receipt`], so that an ack before the confirm does not compile either.
//! - A delivery that is dropped without an answer stays unacknowledged and comes back, flagged as redelivered, when its
//!   [`Subscription`] is closed or lost.
//!
//! Does not know routes, plugins or what is in a message.

pub mod amqp;
pub(crate) mod bug;
mod delivery;
pub mod embedded;
mod marks;
mod statistics;
mod tap;

use delivery::{Answer, SUSPECT_DELIVERIES};
pub use delivery::{Delivery, Next, Settlement, Subscription};
pub use marks::{Known, Mark};
pub use statistics::{QueueStatistics, Rates, Source, Statistics};
pub use tap::Tap;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{self, Topology};
use crate::event::{LimitError, Message, QueueName};

/// A message to publish, always persistent and mandatory.
#[derive(Debug, Clone)]
pub struct Publication {
    /// What.
    pub message: Message,
    /// Whether it counts as done when no queue is bound for it.
    pub accept_unroutable: bool,
    /// Not before so long from now; the broker waits, not we. At most [`DELAY_MAX`].
    pub delay: Option<Duration>,
    /// It waits to be tried again in the queue that it is addressed to, and is counted as that.
    pub is_retry: bool,
}

/// The longest delay of a publication: 30 days.
pub const DELAY_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

impl Publication {
    /// Published at once.
    #[must_use]
    pub const fn now(message: Message, accept_unroutable: bool) -> Self {
        Self { message, accept_unroutable, delay: None, is_retry: false }
    }
}

/// What became of one confirmed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is in at least one queue.
    Routed,
    /// No queue wanted it, and the caller accepts that.
    Unrouted,
}

/// Proof that a whole publish is confirmed. Only `broker` can make one.
#[derive(Debug)]
#[must_use = "a receipt is what allows an acknowledgement"]
pub struct Receipt {
    fates: Vec<Fate>,
}

impl Receipt {
    fn new(fates: Vec<Fate>) -> Self {
        Self { fates }
    }

    /// The receipt of an empty publish: nothing follows from the delivery, or all of it was settled before.
    pub const fn of_nothing() -> Self {
        Self { fates: Vec::new() }
    }

    /// One fate a message, in the order they were published.
    #[must_use]
    pub fn fates(&self) -> &[Fate] {
        &self.fates
    }
}

/// Why one message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No queue is bound, and the caller does not accept that.
    #[error("no queue is bound to exchange {exchange:?} for key {key:?}")]
    Unroutable {
        /// Exchange.
        exchange: String,
        /// Key.
        key: String,
    },
    /// The broker said no, as a full queue with `reject-publish` does.
    #[error("the broker refused it (nack)")]
    Nacked,
    /// There is no such exchange.
    #[error("there is no exchange {0:?}")]
    NoExchange(String),
    /// It breaks a bound of the wire and was not sent.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// It is to wait for longer than [`DELAY_MAX`].
    #[error("a delay of {0:?} is longer than 30 days")]
    Delay(Duration),
}

/// What a broker could not do, by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Connection, channel or store went away: what was in flight is unknown and is left to redelivery.
    #[error("the broker session was lost: {0}")]
    Lost(String),
    /// Some messages of a publish were refused, each by its index; the others may be in queues.
    #[error("{} of the messages was refused: {}", .0.len(), .0.first().map(|(_, refusal)| refusal.to_string()).unwrap_or_default())]
    Refused(Vec<(usize, Refusal)>),
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
            config::Broker::Amqp { url, tls, management } => {
                let endpoint = amqp::Endpoint::new(url, tls.clone())?;
                Ok(Self::Amqp(amqp::Amqp::open(endpoint, management.clone(), topology, state_dir)))
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

    /// Publishes all, and returns when every one is confirmed. An empty list gives a receipt at once.
    ///
    /// # Errors
    /// [`Error::Refused`] names the messages that are certainly not taken; [`Error::Lost`] leaves all of them unknown.
    pub async fn publish(&self, publications: Vec<Publication>) -> Result<Receipt, Error> {
        if publications.is_empty() {
            return Ok(Receipt::of_nothing());
        }
        match self {
            Self::Amqp(broker) => broker.publish(publications).await,
            Self::Embedded(broker) => broker.publish(publications).await,
        }
    }

    /// Publishes one and remembers it by the mark that its fate makes: in one transaction on a broker that has them, else
    /// after the confirm, so that a crash between the two forgets the mark and never the message.
    ///
    /// # Errors
    /// As [`Broker::publish`]; then nothing is marked.
    pub async fn publish_marked(
        &self,
        publication: Publication,
        mark: impl FnOnce(Fate) -> Mark + Send,
    ) -> Result<Fate, Error> {
        match self {
            Self::Amqp(broker) => {
                let receipt = broker.publish(vec![publication]).await?;
                let fate = receipt.fates().first().copied().unwrap_or(Fate::Unrouted);
                if let Err(error) = broker.mark(mark(fate)).await {
                    tracing::warn!(%error, "an accepted event is not remembered: a repetition would be published again");
                }
                Ok(fate)
            }
            Self::Embedded(broker) => broker.publish_marked(publication, mark).await,
        }
    }

    /// Whether [`Broker::commit`] works: publish, mark and acknowledgement are one transaction.
    #[must_use]
    pub const fn is_atomic(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }

    /// Publishes all, notes the mark and acknowledges the delivery in one transaction: after a crash either all of it
    /// has happened or nothing. For brokers that can ([`Broker::is_atomic`]).
    ///
    /// # Errors
    /// As [`Broker::publish`], with the delivery, which is not answered.
    pub async fn commit(
        &self,
        delivery: Delivery,
        publications: Vec<Publication>,
        mark: Option<Mark>,
    ) -> Result<Vec<Fate>, Box<(Delivery, Error)>> {
        match self {
            Self::Amqp(_) => {
                let reason = "RabbitMQ has no transaction over publish and acknowledgement".to_owned();
                Err(Box::new((delivery, Error::Unusable(reason))))
            }
            Self::Embedded(broker) => broker.commit(delivery, publications, mark).await,
        }
    }

    /// Whether an event was settled within its window. What cannot be looked up counts as not settled: rather twice
    /// than never.
    pub async fn known(&self, mark: &Mark) -> Known {
        match self {
            Self::Amqp(broker) => broker.known(mark).await,
            Self::Embedded(broker) => broker.known(mark),
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

    /// Ends all sessions within the time; what is unanswered goes back to its queue. Nothing works afterwards.
    pub async fn close(&self, within: Duration) {
        match self {
            Self::Amqp(broker) => broker.close(within).await,
            Self::Embedded(broker) => broker.close(within).await,
        }
    }
}
