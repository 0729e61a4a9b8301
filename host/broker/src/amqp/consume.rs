//! Consumers, each on a channel of its own, and their acknowledgements, sent in batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Interval;

use super::acks::{ANSWERS_MAX, Answer, Settle, settle_all};
use super::convert::{message, name};
use super::gate::Marker;
use super::queues::is_refusal;
use super::session::Session;
use super::topology;
use crate::{Delivery, Error, LOOK, Next};
use trunkline_config::Topology;
use trunkline_event::{HeaderKey, Message, QueueName, Trust};
use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait;

const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How often a subscription mentions headers that are not believed.
const DISTRUST_NOTICE: Duration = Duration::from_secs(60);

/// A consumer of one queue.
pub struct Subscription {
    queue: QueueName,
    /// The consumer's now; [`Subscription::resize`] makes another.
    tag: ShortString,
    first_tag: ShortString,
    generation: u32,
    channel: Channel,
    consumer: Consumer,
    /// Handed out by the broker and not yet by [`Subscription::next`].
    left: VecDeque<lapin::message::Delivery>,
    /// Why there will be no more.
    over: Option<Over>,
    /// When the client is looked at although no delivery is wanted.
    look: Interval,
    key: Option<HeaderKey>,
    /// When headers that are not believed were last mentioned.
    mentioned: Option<Instant>,
    marker: Marker,
    settle: mpsc::Sender<Settle>,
    settler: JoinSet<()>,
    is_cancelled: bool,
    /// What comes back has to come back in its order.
    is_ordered: bool,
}

/// Why a consumer gets no more.
#[derive(Debug)]
enum Over {
    /// The broker cancelled it.
    Cancelled,
    /// Its channel or connection failed.
    Failed(String),
}

const CANCELLED: &str = "the queue was deleted, or the broker cancelled the consumer";

fn failed(queue: &QueueName, error: &lapin::Error) -> Error {
    if is_refusal(error) {
        return Error::Queue { queue: queue.clone(), reason: error.to_string() };
    }
    Error::Lost(error.to_string())
}

/// How a queue is consumed.
pub(super) struct Settings<'a> {
    /// Deliveries that may be unanswered.
    pub(super) prefetch: u16,
    /// The consumer's.
    pub(super) tag: &'a str,
    /// Nobody else may consume the queue meanwhile.
    pub(super) exclusive: bool,
    /// The daemon's own headers are handed out with their signature, for the reader to judge.
    pub(super) as_it_is: bool,
}

impl Settings<'_> {
    /// With a tag that the broker chooses.
    pub(super) const fn new(prefetch: u16) -> Self {
        Self { prefetch, tag: "", exclusive: false, as_it_is: false }
    }
}

impl Subscription {
    pub(super) async fn new(
        session: &Arc<Session>,
        topology: &Topology,
        queue: &QueueName,
        settings: Settings<'_>,
    ) -> Result<Self, Error> {
        let Settings { prefetch, tag, exclusive, as_it_is } = settings;
        let failed = |error: lapin::Error| failed(queue, &error);
        topology::declare_one(session, topology, queue).await.map_err(failed)?;
        let channel = session.consume.create_channel().await.map_err(failed)?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(failed)?;
        let tag = name(tag);
        let options = BasicConsumeOptions { exclusive, ..BasicConsumeOptions::default() };
        let arguments = FieldTable::default();
        let consumer = channel.basic_consume(name(queue.as_str()), tag, options, arguments).await.map_err(failed)?;
        let (settle, answers) = mpsc::channel(ANSWERS_MAX);
        let mut settler = JoinSet::new();
        settler.spawn(settle_all(channel.clone(), answers));
        Ok(Self {
            queue: queue.clone(),
            tag: consumer.tag(),
            first_tag: consumer.tag(),
            generation: 1,
            channel,
            consumer,
            left: VecDeque::new(),
            over: None,
            look: wait::every(LOOK),
            key: (!as_it_is).then(|| session.key.clone()),
            mentioned: None,
            marker: session.marker.clone(),
            settle,
            settler,
            is_cancelled: false,
            is_ordered: topology.queues.get(queue).is_some_and(|queue| queue.single_consumer),
        })
    }

    /// The next delivery.
    pub async fn next(&mut self) -> Next {
        if self.is_cancelled {
            return Next::Ended("the subscription was cancelled".to_owned());
        }
        let delivery = loop {
            // What a closed channel has left cannot be acknowledged and comes again.
            if !self.channel.status().connected() {
                return self.end().await;
            }
            if let Some(left) = self.left.pop_front() {
                break left;
            }
            if self.over.is_some() {
                return self.end().await;
            }
            self.fetch().await;
        };
        let (exchange, key) = (delivery.exchange.as_str(), delivery.routing_key.as_str());
        let mut message = message(exchange, key, &delivery.properties, delivery.data);
        let lost = self.marker.take(&mut message);
        self.admit(&mut message);
        let unreadable = lost.map(|lost| lost.keep_in(&mut message));
        let count = message.properties.headers.int("x-delivery-count").and_then(|count| u32::try_from(count).ok());
        Next::Delivery(Delivery {
            message: Arc::new(message),
            queue: self.queue.clone(),
            redelivered: delivery.redelivered,
            delivery_count: count.unwrap_or(u32::from(delivery.redelivered)),
            unreadable,
            answer: crate::Answer::Amqp(Answer { tag: delivery.delivery_tag, settle: self.settle.clone() }),
        })
    }

    /// Takes away the daemon's headers that no daemon with this key wrote.
    fn admit(&mut self, message: &mut Message) {
        let Some(key) = &self.key else { return };
        let (why, hint) = match key.admit(message) {
            Trust::Nothing | Trust::Signed => return,
            Trust::OtherKey(_) => {
                ("other-key", "daemons that share queues need the same `header-key` in [broker], or it is forged")
            }
            Trust::Forged => ("forged", "only daemons write headers that begin with `trunkline-`"),
        };
        telemetry::headers_dropped(why);
        if self.mentioned.is_none_or(|at| at.elapsed() >= DISTRUST_NOTICE) {
            self.mentioned = Some(Instant::now());
            let id = message.properties.message_id.as_deref().unwrap_or_default();
            tracing::warn!(queue = %self.queue, event = id, why, "headers of the daemon's are not believed: {hint}");
        }
    }

    /// Waits until there will be no more deliveries, and says why. What comes meanwhile is kept for [`Subscription::next`], and
    /// wakes nobody. Safe to drop while waiting.
    pub async fn ended(&mut self) -> Next {
        while self.over.is_none() {
            self.look.tick().await;
            while self.over.is_none() && self.fetch().now_or_never().is_some() {}
        }
        self.end().await
    }

    /// Why there are no more deliveries, as soon as the client knows.
    async fn end(&mut self) -> Next {
        loop {
            match &self.over {
                Some(Over::Cancelled) if self.is_open() => return Next::Cancelled(CANCELLED.to_owned()),
                Some(Over::Cancelled) => return Next::Ended("the channel was closed".to_owned()),
                Some(Over::Failed(reason)) => return Next::Ended(reason.clone()),
                None => self.fetch().await,
            }
        }
    }

    /// Takes the next delivery or the end from the client.
    async fn fetch(&mut self) {
        match self.consumer.next().await {
            Some(Ok(delivery)) => self.left.push_back(delivery),
            Some(Err(error)) => self.over = Some(Over::Failed(error.to_string())),
            None => self.over = Some(Over::Cancelled),
        }
    }

    /// Whether the channel is open, so that acknowledgements arrive.
    pub fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Consumes again after the broker cancelled the consumer; what was handed out stays ours. The queue is declared on a
    /// channel of its own, since a refusal would close this one.
    ///
    /// # Errors
    /// As [`Subscription::new`].
    pub(super) async fn renew(
        &mut self,
        session: &Arc<Session>,
        topology: &Topology,
        prefetch: u16,
    ) -> Result<(), Error> {
        let queue = self.queue.clone();
        let failed = |error: lapin::Error| failed(&queue, &error);
        topology::declare_one(session, topology, &self.queue).await.map_err(failed)?;
        self.channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(failed)?;
        self.consume_again().await.map_err(failed)?;
        self.over = None;
        Ok(())
    }

    /// Under a tag of its own: a quorum queue remembers a cancelled consumer by channel and tag for as long as one of its
    /// deliveries is open, and RabbitMQ 3.10 crashes the channel when another comes under the same (541). When the channel ends,
    /// the queue takes the deliveries back consumer by consumer, in the order of their tags as texts: a later one has to have
    /// a greater tag, or messages change places.
    async fn consume_again(&mut self) -> Result<(), lapin::Error> {
        self.generation += 1;
        let tag = name(&format!("{}.{:010}", self.first_tag, self.generation));
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consuming = self.channel.basic_consume(name(self.queue.as_str()), tag, options, arguments);
        self.consumer = consuming.await?;
        self.tag = self.consumer.tag();
        Ok(())
    }

    /// Consumes with another prefetch from now on. A new channel would do too, but a quorum queue counts everything that
    /// comes back from a closed one as delivered once more, and what was handed out here stays handed out.
    ///
    /// # Errors
    /// [`Error::Lost`] when the channel is gone.
    pub async fn resize(&mut self, prefetch: u16) -> Result<(), Error> {
        let lost = |error: lapin::Error| Error::Lost(error.to_string());
        self.channel.basic_cancel(self.tag.clone(), BasicCancelOptions::default()).await.map_err(lost)?;
        while let Some(delivery) = self.consumer.next().await {
            self.left.push_back(delivery.map_err(lost)?);
        }
        // For consumers that come after it on the channel.
        self.channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(lost)?;
        self.consume_again().await.map_err(lost)
    }

    /// Tells the broker to send no more. What was sent and not handed out goes back when the channel closes. Where order counts
    /// the broker is told nothing, and sends what the prefetch allows: a quorum queue takes back at once what it sent while it was
    /// told, so that it stands before what was sent earlier.
    pub async fn cancel(&mut self) {
        self.is_cancelled = true;
        if self.is_ordered {
            return;
        }
        let cancel = self.channel.basic_cancel(self.tag.clone(), BasicCancelOptions::default());
        let _session_over = tokio::time::timeout(CLOSE_WITHIN, cancel).await;
    }

    /// Sends what is buffered and closes the channel: its close-ok says that the acknowledgements were worked off.
    ///
    /// # Errors
    /// [`Error::Lost`] when that answer does not come.
    pub async fn close(mut self) -> Result<(), Error> {
        let lost = |reason: &str| Error::Lost(reason.to_owned());
        let (reply, flushed) = oneshot::channel();
        self.settle.send(Settle::Flush(reply)).await.map_err(|_closed| lost("the session is over"))?;
        let closing = async {
            flushed.await.map_err(|_dropped| lost("the session is over"))?;
            self.channel.close(200, ShortString::default()).await.map_err(|error| lost(&error.to_string()))
        };
        let closed = tokio::time::timeout(CLOSE_WITHIN, closing).await;
        self.settler.shutdown().await;
        closed.unwrap_or_else(|_elapsed| Err(lost("closing the channel took too long")))
    }
}
