//! A consumer of one queue, on a channel of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::task::JoinSet;
use tokio::time::Interval;

use super::acknowledgements::{Acknowledgements, AmqpAckHandle};
use super::begin::{SubscriptionOptions, begin};
use super::stream_check::{has_stream_offset, is_stream};
use crate::amqp::channel::{close, from_wire, queue_error, short_string};
use crate::amqp::connection::Session;
use crate::amqp::gate::LossHeader;
use crate::amqp::queue::IS_STREAM;
use crate::amqp::topology::{self, Declarer};
use crate::delivery::{AckHandle, END_CHECK_INTERVAL};
use crate::{Delivery, Error, Next};
use trunkline_config::{QueueOwnership, Topology, TopologyMode};
use trunkline_event::{HeaderKey, Message, QueueName, Trust};
use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait;

/// The longest wait for the broker's answer to a cancel or a close.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// The pauses before the questions whether a queue exists whose consumer was cancelled.
const GONE_WITHIN: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(250), Duration::from_millis(1_000)];
/// The shortest time between two warnings about headers without a valid signature.
const DISTRUST_NOTICE_INTERVAL: Duration = Duration::from_secs(60);

/// A consumer of one queue.
pub struct AmqpSubscription {
    queue: QueueName,
    /// The tag of the present consumer. [`AmqpSubscription::resize`] makes another consumer.
    tag: ShortString,
    first_tag: ShortString,
    /// Counts the consumers of the subscription from 1.
    consumer_number: u32,
    channel: Channel,
    consumer: Consumer,
    /// Deliveries that the broker sent and [`AmqpSubscription::next`] has not returned yet.
    buffered: VecDeque<lapin::message::Delivery>,
    /// Why the consumer gets no more deliveries.
    end: Option<ConsumerEnd>,
    /// Times the checks for the end of the consumer while no delivery is wanted.
    end_check: Interval,
    key: Option<HeaderKey>,
    /// The time of the last warning about headers without a valid signature.
    warned: Option<Instant>,
    loss_header: LossHeader,
    acknowledgements: Arc<Acknowledgements>,
    acknowledging: JoinSet<()>,
    session: Arc<Session>,
    /// The search for the reason why the broker cancelled the consumer.
    looking: JoinSet<ConsumerEnd>,
    is_cancelled: bool,
    /// Whether messages that go back to the queue have to keep their order.
    is_ordered: bool,
    /// Whether the broker allows no second consumer.
    is_exclusive: bool,
    /// Whether the broker may remove the queue after its last consumer, because the queue's properties were not compared.
    may_be_auto_delete: bool,
    /// Whether the queue may be a stream, because its properties were not compared.
    may_be_stream: bool,
    /// The comparison that tells whether the queue is a stream.
    comparing: JoinSet<bool>,
}

/// Why a consumer gets no more deliveries.
#[derive(Debug)]
enum ConsumerEnd {
    /// The broker cancelled the consumer. Its deliveries can still be acknowledged.
    Cancelled,
    /// The broker cancelled the consumer after a consumer timeout, and took its deliveries back.
    TakenBack,
    /// The channel or the connection failed.
    Failed(String),
}

const CANCELLED: &str = "the queue was deleted, or the broker cancelled the consumer";
const TAKEN_BACK: &str =
    "an acknowledgement timed out, so the broker cancelled the consumer and took the deliveries back";

/// Why a broker cancelled a consumer, where a consumer timeout is such a reason. A queue that exists took its deliveries back,
/// so the channel is closed, and all of its deliveries come back together. A queue that was deleted has nothing to take back.
/// RabbitMQ 4.3 cancels the consumers of a deleted queue some milliseconds before the queue is gone.
async fn why_cancelled(session: &Session, queue: &QueueName, channel: Channel) -> ConsumerEnd {
    let Ok(declarer) = Declarer::new(session, &session.consume).await else { return ConsumerEnd::Cancelled };
    for pause in GONE_WITHIN {
        wait::after(pause).await;
        if declarer.exists(queue).await.is_err() {
            declarer.close().await;
            return ConsumerEnd::Cancelled;
        }
    }
    declarer.close().await;
    close(channel).await;
    ConsumerEnd::TakenBack
}

impl AmqpSubscription {
    /// Declares the queue of the topology and begins to consume it.
    ///
    /// # Errors
    /// [`Error::Queue`] when the broker refuses the queue, [`Error::Lost`] when the connection is lost.
    pub(crate) async fn new(
        session: &Arc<Session>,
        topology: &Topology,
        queue: &QueueName,
        options: SubscriptionOptions<'_>,
    ) -> Result<Self, Error> {
        let (channel, consumer) = begin(session, topology, queue, &options).await?;
        let settings = topology.queues.get(queue);
        let is_of_others = settings.is_some_and(|settings| settings.ownership == QueueOwnership::Others);
        let is_uncompared = topology.mode == TopologyMode::Check || is_of_others;
        let acknowledgements = Arc::new(Acknowledgements::new(channel.clone(), options.prefetch));
        let mut acknowledging = JoinSet::new();
        acknowledging.spawn(acknowledgements.clone().send());
        Ok(Self {
            queue: queue.clone(),
            tag: consumer.tag(),
            first_tag: consumer.tag(),
            consumer_number: 1,
            channel,
            consumer,
            buffered: VecDeque::new(),
            end: None,
            end_check: wait::every(END_CHECK_INTERVAL),
            key: (!options.keeps_signatures).then(|| session.key.clone()),
            warned: None,
            loss_header: session.loss_header.clone(),
            acknowledgements,
            acknowledging,
            session: session.clone(),
            looking: JoinSet::new(),
            is_cancelled: false,
            is_ordered: settings.is_some_and(|settings| settings.single_consumer),
            is_exclusive: options.exclusive,
            may_be_auto_delete: is_uncompared,
            may_be_stream: is_uncompared,
            comparing: JoinSet::new(),
        })
    }

    /// The next delivery.
    pub async fn next(&mut self) -> Next {
        if self.is_cancelled {
            return Next::Ended("the subscription was cancelled".to_owned());
        }
        let delivery = loop {
            // Deliveries of a closed channel cannot be acknowledged, and the broker delivers them again.
            if !self.channel.status().connected() || matches!(self.end, Some(ConsumerEnd::TakenBack)) {
                return self.why_ended().await;
            }
            if self.may_be_stream && self.buffered.front().is_some_and(has_stream_offset) {
                self.compare().await;
            } else if let Some(delivery) = self.buffered.pop_front() {
                break delivery;
            } else if self.end.is_some() {
                return self.why_ended().await;
            } else {
                self.fetch().await;
            }
        };
        let (exchange, key) = (delivery.exchange.as_str(), delivery.routing_key.as_str());
        let mut message = from_wire(exchange, key, &delivery.properties, delivery.data);
        let lost = self.loss_header.take(&mut message);
        self.admit(&mut message);
        let unreadable = lost.map(|lost| lost.keep_in(&mut message));
        let count = message.properties.headers.int("x-delivery-count").and_then(|count| u32::try_from(count).ok());
        Next::Delivery(Delivery {
            message: Arc::new(message),
            queue: self.queue.clone(),
            redelivered: delivery.redelivered,
            delivery_count: count.unwrap_or(u32::from(delivery.redelivered)),
            waited: Duration::ZERO,
            unreadable,
            ack_handle: AckHandle::Amqp(AmqpAckHandle {
                tag: delivery.delivery_tag,
                acknowledgements: Arc::downgrade(&self.acknowledgements),
            }),
        })
    }

    /// Finds out whether the queue is a stream, and ends the consumer of a stream. The future may be dropped.
    async fn compare(&mut self) {
        if self.comparing.is_empty() {
            let (session, queue) = (self.session.clone(), self.queue.clone());
            self.comparing.spawn(async move { is_stream(&session, &queue).await });
        }
        let Some(compared) = self.comparing.join_next().await else { return };
        self.may_be_stream = false;
        if compared.unwrap_or_default() {
            self.session.tolerated.note_stream(&self.queue, true);
            self.buffered.clear();
            self.end = Some(ConsumerEnd::Failed(IS_STREAM.to_owned()));
        }
    }

    /// Removes the daemon's own headers unless a daemon with this key wrote them.
    fn admit(&mut self, message: &mut Message) {
        let Some(key) = &self.key else { return };
        let (why, hint) = match key.admit(message) {
            Trust::Nothing | Trust::Signed => return,
            Trust::OtherKey(_) => (
                "other-key",
                "set the same `header-key` in [broker] of all daemons that share queues, or find the program that forged the headers",
            ),
            Trust::Forged => ("forged", "find the program that wrote headers that begin with `trunkline-`"),
        };
        telemetry::headers_dropped(why);
        if self.warned.is_none_or(|at| at.elapsed() >= DISTRUST_NOTICE_INTERVAL) {
            self.warned = Some(Instant::now());
            let id = message.properties.message_id.as_deref().unwrap_or_default();
            tracing::warn!(queue = %self.queue, event = id, why, "the daemon dropped trunkline-* headers without a valid signature: {hint}");
        }
    }

    /// Waits until the consumer gets no more deliveries. Returns the reason. Deliveries that arrive meanwhile are buffered for
    /// [`AmqpSubscription::next`] and wake no task. The future may be dropped.
    pub async fn ended(&mut self) -> Next {
        while self.end.is_none() {
            self.end_check.tick().await;
            while self.end.is_none() && self.fetch().now_or_never().is_some() {}
        }
        self.why_ended().await
    }

    /// The reason why there are no more deliveries, as soon as the client has it.
    async fn why_ended(&mut self) -> Next {
        loop {
            match &self.end {
                Some(ConsumerEnd::Cancelled) if self.is_open() => return Next::Cancelled(CANCELLED.to_owned()),
                Some(ConsumerEnd::Cancelled) => return Next::Ended("the channel was closed".to_owned()),
                Some(ConsumerEnd::TakenBack) => return Next::Ended(TAKEN_BACK.to_owned()),
                Some(ConsumerEnd::Failed(reason)) => return Next::Ended(reason.clone()),
                None => self.fetch().await,
            }
        }
    }

    /// Takes the next delivery or the end of the consumer from the client.
    async fn fetch(&mut self) {
        if let Some(found) = self.looking.join_next().await {
            self.end = Some(found.unwrap_or(ConsumerEnd::Cancelled));
            return;
        }
        match self.consumer.next().await {
            Some(Ok(delivery)) => self.buffered.push_back(delivery),
            Some(Err(error)) => self.end = Some(ConsumerEnd::Failed(error.to_string())),
            None if self.session.features().timeout_cancels_consumer => {
                let (session, queue, channel) = (self.session.clone(), self.queue.clone(), self.channel.clone());
                self.looking.spawn(async move { why_cancelled(&session, &queue, channel).await });
            }
            None => self.end = Some(ConsumerEnd::Cancelled),
        }
    }

    /// Whether the channel is open, so that acknowledgements arrive.
    pub fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Consumes again after the broker cancelled the consumer. Earlier deliveries can still be acknowledged. The queue is
    /// declared on another channel, because a refusal would close this one.
    ///
    /// # Errors
    /// As [`AmqpSubscription::new`].
    pub(crate) async fn renew(
        &mut self,
        session: &Arc<Session>,
        topology: &Topology,
        prefetch: u16,
    ) -> Result<(), Error> {
        let queue = self.queue.clone();
        let failed = |error: lapin::Error| queue_error(&queue, &error);
        topology::declare_queue(session, topology, &self.queue).await?;
        self.acknowledgements.resize(prefetch);
        self.channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(failed)?;
        self.consume_again().await.map_err(failed)?;
        self.end = None;
        Ok(())
    }

    /// Makes another consumer, with a tag of its own. A quorum queue remembers a cancelled consumer by channel and tag while one
    /// of its deliveries is open, and RabbitMQ 3.10 crashes the channel when another consumer has the same tag (541). When the
    /// channel ends, the queue takes the deliveries back consumer by consumer, ordered by their tags as texts. A later consumer
    /// therefore needs a greater tag, so that messages keep their order.
    async fn consume_again(&mut self) -> Result<(), lapin::Error> {
        self.consumer_number += 1;
        let tag = short_string(&format!("{}.{:010}", self.first_tag, self.consumer_number));
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consuming = self.channel.basic_consume(short_string(self.queue.as_str()), tag, options, arguments);
        self.consumer = consuming.await?;
        self.tag = self.consumer.tag();
        Ok(())
    }

    /// Consumes with another prefetch from now on, on the same channel. The prefetch counts the deliveries of the new consumer, so
    /// the same prefetch as before admits further deliveries too. A quorum queue counts every message that comes back
    /// from a closed channel as delivered once more, so a new channel would raise the delivery counts.
    ///
    /// On a queue that may be auto-delete, the new consumer begins before the earlier one ends. The broker would otherwise remove
    /// the queue together with its messages. For a moment, such a queue hands out messages to both consumers. On other queues the
    /// earlier consumer ends first, so that the prefetch holds. An ordered queue and an exclusive consumer allow no second
    /// consumer.
    ///
    /// # Errors
    /// [`Error::Lost`] when the channel is gone.
    pub async fn resize(&mut self, prefetch: u16) -> Result<(), Error> {
        let lost = |error: lapin::Error| Error::Lost(error.to_string());
        let cancels_first = !self.may_be_auto_delete || self.is_ordered || self.is_exclusive;
        self.acknowledgements.resize(prefetch);
        if cancels_first {
            self.channel.basic_cancel(self.tag.clone(), BasicCancelOptions::default()).await.map_err(lost)?;
            while let Some(delivery) = self.consumer.next().await {
                self.buffered.push_back(delivery.map_err(lost)?);
            }
        }
        // The prefetch counts for consumers that begin after it on the channel.
        self.channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(lost)?;
        let (mut earlier, earlier_tag) = (self.consumer.clone(), self.tag.clone());
        self.consume_again().await.map_err(lost)?;
        if !cancels_first {
            self.channel.basic_cancel(earlier_tag, BasicCancelOptions::default()).await.map_err(lost)?;
            while let Some(delivery) = earlier.next().await {
                self.buffered.push_back(delivery.map_err(lost)?);
            }
        }
        Ok(())
    }

    /// Stops new deliveries. Buffered deliveries go back to the queue when the channel closes. On a queue that keeps its order
    /// the consumer is not cancelled, and the broker sends what the prefetch allows. A quorum queue would at once take back the
    /// messages that it sent during the cancel, and put them before messages that it sent earlier.
    pub async fn cancel(&mut self) {
        self.is_cancelled = true;
        if self.is_ordered {
            return;
        }
        let cancel = self.channel.basic_cancel(self.tag.clone(), BasicCancelOptions::default());
        let _session_over = tokio::time::timeout(CLOSE_WITHIN, cancel).await;
    }

    /// Sends every acknowledgement and closes the channel. The broker's `close-ok` shows that it processed the
    /// acknowledgements.
    ///
    /// # Errors
    /// [`Error::Lost`] when `close-ok` does not come.
    pub async fn close(mut self) -> Result<(), Error> {
        let lost = |reason: &str| Error::Lost(reason.to_owned());
        self.acknowledgements.flush()?;
        let closed = tokio::time::timeout(CLOSE_WITHIN, self.channel.close(200, ShortString::default())).await;
        self.acknowledging.shutdown().await;
        let closed = closed.map_err(|_elapsed| lost("the channel did not close in time"))?;
        closed.map_err(|error| lost(&error.to_string()))
    }
}
