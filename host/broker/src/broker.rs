//! Both brokers behind one set of methods.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::{
    Batch, BrokerStatus, Confirmed, DedupeLookup, DedupeRecord, Deliveries, Error, EventStreamQueues, FormerRetryQueue,
    FormerRetryQueues, Publication, Publishing, QueueDepth, Receipt, Statistics, Subscription, Unpublished, amqp,
    embedded,
};
use trunkline_config::{self as config, Topology};
use trunkline_event::{HeaderKey, QueueName};

/// One of the two brokers. A clone shares the connection.
#[derive(Clone)]
pub enum Broker {
    /// RabbitMQ.
    Amqp(Arc<amqp::AmqpClient>),
    /// The embedded broker.
    Embedded(Arc<embedded::EmbeddedBroker>),
}

impl Broker {
    /// Opens the configured broker. RabbitMQ may be away: the supervisor tries to connect again and again, and
    /// [`Broker::status`] shows the state.
    ///
    /// # Errors
    /// [`Error::Unusable`] when another try would not help.
    pub async fn open(broker: &config::BrokerChoice, topology: Arc<Topology>, state_dir: &Path) -> Result<Self, Error> {
        match broker {
            config::BrokerChoice::Amqp(amqp) => {
                let endpoint = amqp::Endpoint::new(&amqp.url, amqp.tls.clone());
                let key = amqp::header_key(amqp.header_key.as_ref(), state_dir)?;
                Ok(Self::Amqp(amqp::AmqpClient::open(endpoint, amqp.management.clone(), topology, state_dir, key)))
            }
            config::BrokerChoice::Embedded => Ok(Self::Embedded(Arc::new(
                embedded::EmbeddedBroker::open(&embedded::directory(state_dir), &topology).await?,
            ))),
        }
    }

    /// The state of the connection, with its changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<BrokerStatus> {
        match self {
            Self::Amqp(broker) => broker.status(),
            Self::Embedded(broker) => broker.status(),
        }
    }

    /// Declares the parts of a topology that the present one does not have, and changes nothing that is in use. Returns the
    /// refusals of the broker as sentences; without any, [`Broker::adopt`] may follow. A broker that is away refuses nothing.
    ///
    /// # Errors
    /// [`Error::Lost`] when the session or the store was lost meanwhile.
    pub async fn prepare(&self, topology: &Arc<Topology>) -> Result<Vec<String>, Error> {
        match self {
            Self::Amqp(broker) => broker.prepare(topology).await,
            Self::Embedded(broker) => broker.prepare(topology).await,
        }
    }

    /// Makes a prepared topology the present one. Old bindings between exchanges and queues of both topologies are removed after
    /// the new bindings exist, so that an event in between reaches both queues rather than none. Queues are never deleted.
    pub async fn adopt(&self, topology: Arc<Topology>) {
        match self {
            Self::Amqp(broker) => broker.adopt(topology).await,
            Self::Embedded(broker) => broker.adopt(&topology),
        }
    }

    /// Publishes delayed messages that are due, from now on. On RabbitMQ these are the messages of all daemons of the virtual host.
    /// A program that consumes no queue does not need to call this method. The embedded broker publishes its delayed messages in
    /// any case.
    pub fn begin_relay(&self) {
        match self {
            Self::Amqp(broker) => broker.begin_relay(),
            Self::Embedded(_) => {}
        }
    }

    /// Publishes the messages of a batch that are not confirmed yet, and returns when every message is confirmed.
    ///
    /// # Errors
    /// [`Unpublished`] has the batch with its confirms, and why the other messages are not confirmed. An empty batch is an
    /// error, because a receipt would prove nothing.
    pub async fn publish(&self, batch: impl Into<Batch>) -> Result<Receipt, Unpublished> {
        self.begin_publish(batch.into()).await
    }

    /// Begins to publish as [`Broker::publish`] does. RabbitMQ gets the messages of batches without delays in the order in which
    /// this method was called. Dropping the future takes no message back.
    #[must_use]
    pub fn begin_publish(&self, batch: Batch) -> Publishing {
        if batch.open() == 0 {
            let complete = batch.receipt().map_err(|batch| Unpublished { batch, refused: Vec::new(), lost: None });
            return Publishing::general(std::future::ready(complete));
        }
        match self {
            Self::Amqp(broker) => broker.begin_publish(batch),
            Self::Embedded(broker) => {
                let broker = broker.clone();
                Publishing::general(async move { broker.publish(batch).await })
            }
        }
    }

    /// Publishes one message and writes the dedupe record that `record` makes of its confirm. A broker with transactions does
    /// both in one transaction. Otherwise the record is written after the confirm, so that a crash between the two loses the
    /// record and never the message.
    ///
    /// # Errors
    /// As [`Broker::publish`]. Then no record is written.
    pub async fn publish_recorded(
        &self,
        publication: Publication,
        record: impl FnOnce(Confirmed) -> DedupeRecord + Send,
    ) -> Result<Confirmed, Unpublished> {
        match self {
            Self::Amqp(broker) => {
                let receipt = broker.begin_publish(publication.into()).await?;
                let confirmed = receipt.confirmed().first().copied().unwrap_or(Confirmed::Unrouted);
                if let Err(error) = broker.record(record(confirmed)).await {
                    tracing::warn!(%error, "no dedupe record was written for an accepted event; the daemon would publish a repeat of the event again");
                }
                Ok(confirmed)
            }
            Self::Embedded(broker) => broker.publish_recorded(publication, record).await,
        }
    }

    /// Whether [`Broker::commit`] works, which makes publish, dedupe record and acknowledgement one transaction.
    #[must_use]
    pub const fn is_atomic(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }

    /// Publishes a batch, writes a dedupe record and acknowledges deliveries in one transaction. After a crash all of it has
    /// happened, or nothing. Only a broker with transactions can do it ([`Broker::is_atomic`]). The batch may be empty.
    ///
    /// # Errors
    /// As [`Broker::publish`], with the deliveries, which are not acknowledged. Nothing of the batch is published then.
    pub async fn commit(
        &self,
        deliveries: impl Into<Deliveries>,
        batch: Batch,
        record: Option<DedupeRecord>,
    ) -> Result<Vec<Confirmed>, Box<(Deliveries, Unpublished)>> {
        let deliveries = deliveries.into();
        match self {
            Self::Amqp(_) => {
                let reason = "RabbitMQ has no transaction that covers a publish and an acknowledgement";
                Err(Box::new((deliveries, Unpublished::lost(batch, reason))))
            }
            Self::Embedded(broker) => broker.commit(deliveries, batch, record).await,
        }
    }

    /// Looks up whether an event was settled within its window. An event that cannot be looked up counts as new, because a
    /// repeat is better than a loss.
    pub async fn look_up(&self, record: &DedupeRecord) -> DedupeLookup {
        match self {
            Self::Amqp(broker) => broker.look_up(record).await,
            Self::Embedded(broker) => broker.look_up(record).await,
        }
    }

    /// Writes a dedupe record. The record is on disk when the future is ready.
    ///
    /// # Errors
    /// [`Error::Lost`] when the store failed. Then a redelivery does the work again.
    pub async fn record(&self, record: DedupeRecord) -> Result<(), Error> {
        match self {
            Self::Amqp(broker) => broker.record(record).await,
            Self::Embedded(broker) => broker.record(record).await,
        }
    }

    /// Begins to consume a queue, with at most `prefetch` unacknowledged deliveries.
    ///
    /// # Errors
    /// [`Error::Queue`] when the queue is missing, [`Error::Lost`] when there is no session now.
    pub async fn subscribe(&self, queue: &QueueName, prefetch: u16, tag: &str) -> Result<Subscription, Error> {
        match self {
            Self::Amqp(broker) => Ok(Subscription::Amqp(Box::new(broker.subscribe(queue, prefetch, tag).await?))),
            Self::Embedded(broker) => Ok(Subscription::Embedded(broker.subscribe(queue, prefetch).await?)),
        }
    }

    /// Consumes again with a subscription that the broker cancelled ([`Next::Cancelled`](crate::Next::Cancelled)), and declares
    /// its queue if the topology has it. Earlier deliveries can still be answered, whether this succeeds or not.
    ///
    /// # Errors
    /// As [`Broker::subscribe`].
    pub async fn renew(&self, subscription: &mut Subscription, prefetch: u16) -> Result<(), Error> {
        match (self, subscription) {
            (Self::Amqp(broker), Subscription::Amqp(subscription)) => broker.renew(subscription, prefetch).await,
            // The embedded broker deletes no queue that is consumed.
            (Self::Amqp(_) | Self::Embedded(_), Subscription::Amqp(_) | Subscription::Embedded(_)) => Ok(()),
        }
    }

    /// The depth of each queue of the embedded broker. Empty for RabbitMQ, which [`Broker::statistics`] asks.
    #[must_use]
    pub fn queue_depths(&self) -> Vec<(QueueName, QueueDepth)> {
        match self {
            Self::Amqp(_) => Vec::new(),
            Self::Embedded(broker) => broker.queue_depths(),
        }
    }

    /// Depth, consumers and rates of the queues of a topology, as the broker reports them.
    ///
    /// # Errors
    /// [`Error::Lost`] when the broker is away.
    pub async fn statistics(&self, topology: &Topology) -> Result<Statistics, Error> {
        match self {
            Self::Amqp(broker) => broker.statistics(topology).await,
            Self::Embedded(broker) => Ok(broker.statistics(topology)),
        }
    }

    /// The queues of a topology that the broker refused to declare or to bind.
    #[must_use]
    pub fn refused_queues(&self, topology: &Topology) -> Vec<QueueName> {
        match self {
            Self::Amqp(broker) => broker.refused_queues(topology),
            Self::Embedded(_) => Vec::new(),
        }
    }

    /// The retry queues of earlier builds that exist on RabbitMQ. The embedded broker never had such queues.
    ///
    /// # Errors
    /// [`Error::Lost`] when the broker is away.
    pub async fn former_retry_queues(&self, of: &[FormerRetryQueues]) -> Result<Vec<FormerRetryQueue>, Error> {
        match self {
            Self::Amqp(broker) => broker.former_retry_queues(of).await,
            Self::Embedded(_) => Ok(Vec::new()),
        }
    }

    /// Those of the named retry queues of earlier builds that still exist on RabbitMQ.
    ///
    /// # Errors
    /// [`Error::Lost`] when the broker is away.
    pub async fn existing_retry_queues(&self, names: &[QueueName]) -> Result<Vec<FormerRetryQueue>, Error> {
        match self {
            Self::Amqp(broker) => broker.existing_retry_queues(names).await,
            Self::Embedded(_) => Ok(Vec::new()),
        }
    }

    /// The size of the embedded broker's store in bytes.
    #[must_use]
    pub fn store_bytes(&self) -> Option<u64> {
        match self {
            Self::Amqp(_) => None,
            Self::Embedded(broker) => broker.store_bytes(),
        }
    }

    /// The key that signs the daemon's own headers; none for the embedded broker, because no other program can write its
    /// messages.
    #[must_use]
    pub fn header_key(&self) -> Option<HeaderKey> {
        match self {
            Self::Amqp(broker) => Some(broker.header_key()),
            Self::Embedded(_) => None,
        }
    }

    /// A secret key for a purpose. Daemons that share RabbitMQ and a header key have the same key. The embedded broker belongs to one
    /// daemon, so each run has a new key.
    #[must_use]
    pub fn secret_key(&self, purpose: &str) -> [u8; 32] {
        match self {
            Self::Amqp(broker) => broker.header_key().derive(purpose),
            Self::Embedded(_) => rand::random(),
        }
    }

    /// Ends all sessions within the time. Unacknowledged messages go back to their queues. The broker cannot be used
    /// afterwards.
    pub async fn close(&self, within: Duration) {
        match self {
            Self::Amqp(broker) => broker.close(within).await,
            Self::Embedded(broker) => broker.close(within).await,
        }
    }

    /// Declares the queues and bindings of a stream. From then on every matching event is kept for the stream.
    ///
    /// # Errors
    /// [`Error::Queue`] when the broker does not allow it, [`Error::Lost`] when there is no session now.
    pub async fn open_event_stream(&self, stream: &EventStreamQueues) -> Result<(), Error> {
        match self {
            Self::Amqp(broker) => broker.open_event_stream(stream).await,
            Self::Embedded(broker) => broker.open_event_stream(stream).await,
        }
    }

    /// The number of consumers of a stream's queue; none when the queue no longer exists.
    ///
    /// # Errors
    /// [`Error::Lost`] when there is no session now.
    pub async fn event_stream_consumers(&self, stream: &EventStreamQueues) -> Result<Option<u32>, Error> {
        match self {
            Self::Amqp(broker) => broker.event_stream_consumers(stream).await,
            Self::Embedded(broker) => broker.event_stream_consumers(stream),
        }
    }

    /// Begins to consume the overflow queue of a stream as the only consumer. The consumer of the overflow queue may read the
    /// stream's queue. Without this rule two readers, the older one without a client, would share the events.
    ///
    /// # Errors
    /// [`Error::Queue`] while another reader consumes it, [`Error::Lost`] when there is no session now.
    pub async fn claim_event_stream(&self, stream: &EventStreamQueues, tag: &str) -> Result<Subscription, Error> {
        match self {
            Self::Amqp(broker) => Ok(Subscription::Amqp(Box::new(broker.claim_event_stream(stream, tag).await?))),
            Self::Embedded(broker) => Ok(Subscription::Embedded(broker.claim_event_stream(stream)?)),
        }
    }

    /// Removes the queues of streams that were without a reader for too long, unless the broker does so by itself. The daemon
    /// calls this method from time to time.
    pub async fn expire_event_streams(&self) {
        match self {
            Self::Amqp(_) => {}
            Self::Embedded(broker) => broker.expire_event_streams().await,
        }
    }
}
