//! Consumers, each on a channel of its own, and their acknowledgements, sent in batches.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::convert::{message, name};
use super::session::Session;
use super::topology;
use crate::broker::bug::Bug;
use crate::broker::{self, Delivery, Error, Next};
use crate::config::Topology;
use crate::event::QueueName;

/// Acknowledgements that make a batch full.
const BATCH_MAX: usize = 64;
/// How long an acknowledgement waits for others.
const BATCH_WITHIN: Duration = Duration::from_millis(2);
/// One place for each delivery of two consumers, and one for the flush.
const ANSWERS_MAX: usize = 2 * (u16::MAX as usize) + 1;
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// A consumer of one queue.
pub struct Subscription {
    queue: QueueName,
    /// The consumer's now; [`Subscription::resize`] makes another.
    tag: ShortString,
    first_tag: ShortString,
    generation: u32,
    channel: Channel,
    consumer: Consumer,
    /// Handed out by the broker to a consumer that was cancelled since; ours to settle all the same.
    left: VecDeque<Result<lapin::message::Delivery, lapin::Error>>,
    settle: mpsc::Sender<Settle>,
    settler: JoinSet<()>,
    is_cancelled: bool,
}

/// The way back from a delivery to its channel.
#[derive(Debug)]
pub struct Answer {
    tag: u64,
    settle: mpsc::Sender<Settle>,
}

#[derive(Debug)]
enum Settle {
    Ack(u64),
    Flush(oneshot::Sender<()>),
}

/// How a queue is consumed.
pub(super) struct Settings<'a> {
    /// Deliveries that may be unanswered.
    pub(super) prefetch: u16,
    /// The consumer's.
    pub(super) tag: &'a str,
    /// Nobody else may consume the queue meanwhile.
    pub(super) exclusive: bool,
}

impl Answer {
    /// Acknowledges with the next batch; dropped when the session is over, and the message comes again.
    pub fn ack(self) {
        // There are never more answers than deliveries, and the channel has room for all of them.
        let _session_over = self.settle.try_send(Settle::Ack(self.tag));
    }
}

impl Subscription {
    pub(super) async fn new(
        session: &Arc<Session>,
        topology: &Topology,
        queue: &QueueName,
        settings: Settings<'_>,
    ) -> Result<Self, Error> {
        let Settings { prefetch, tag, exclusive } = settings;
        let failed = |error: lapin::Error| {
            if topology::is_refusal(&error) {
                return Error::Queue { queue: queue.clone(), reason: error.to_string() };
            }
            Error::Lost(error.to_string())
        };
        let channel = session.consume.create_channel().await.map_err(failed)?;
        topology::declare_one(&channel, topology, queue).await.map_err(failed)?;
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
            settle,
            settler,
            is_cancelled: false,
        })
    }

    /// The next delivery.
    pub async fn next(&mut self) -> Next {
        if self.is_cancelled {
            return Next::Ended("the subscription was cancelled".to_owned());
        }
        let next = loop {
            let next = match self.left.pop_front() {
                Some(left) => Some(left),
                None => self.consumer.next().await,
            };
            // What a closed channel has left cannot be acknowledged and comes again. Its error stands behind it.
            if !matches!(next, Some(Ok(_))) || self.channel.status().connected() {
                break next;
            }
        };
        let delivery = match next {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return Next::Ended(error.to_string()),
            None => return Next::Ended("the queue was deleted, or the broker cancelled the consumer".to_owned()),
        };
        let (exchange, key) = (delivery.exchange.as_str(), delivery.routing_key.as_str());
        let message = message(exchange, key, &delivery.properties, delivery.data);
        let count = message.properties.headers.int("x-delivery-count").and_then(|count| u32::try_from(count).ok());
        Next::Delivery(Delivery {
            message: Arc::new(message),
            queue: self.queue.clone(),
            redelivered: delivery.redelivered,
            delivery_count: count.unwrap_or(u32::from(delivery.redelivered)),
            answer: broker::Answer::Amqp(Answer { tag: delivery.delivery_tag, settle: self.settle.clone() }),
        })
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
            self.left.push_back(delivery);
        }
        // For consumers that come after it on the channel.
        self.channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(lost)?;
        // Under a tag of its own: a quorum queue remembers a cancelled consumer by channel and tag for as long as one of
        // its deliveries is open, and RabbitMQ 3.10 crashes the channel when another comes under the same (541).
        self.generation += 1;
        let tag = name(&format!("{}.{}", self.first_tag, self.generation));
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consuming = self.channel.basic_consume(name(self.queue.as_str()), tag, options, arguments);
        self.consumer = consuming.await.map_err(lost)?;
        self.tag = self.consumer.tag();
        Ok(())
    }

    /// Tells the broker to send no more. What was sent and not handed out goes back when the channel closes.
    pub async fn cancel(&mut self) {
        self.is_cancelled = true;
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

/// The only place that acknowledges. Ends with the subscription.
async fn settle_all(channel: Channel, mut answers: mpsc::Receiver<Settle>) {
    let mut done = Done::default();
    while let Some(first) = answers.recv().await {
        let mut flush = done.take(first);
        let deadline = tokio::time::sleep(BATCH_WITHIN);
        tokio::pin!(deadline);
        while flush.is_none() && done.fresh.len() < BATCH_MAX {
            tokio::select! {
                biased;
                next = answers.recv() => match next {
                    Some(next) => flush = done.take(next),
                    None => break,
                },
                () = &mut deadline => break,
            }
        }
        for (tag, multiple) in done.frames() {
            if channel.basic_ack(tag, BasicAckOptions { multiple }).await.is_err() {
                return;
            }
        }
        if let Some(flush) = flush {
            let _nobody_waits = flush.send(());
        }
    }
}

/// Which deliveries are done, and how that is said in the fewest frames.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Every tag up to this one is acknowledged.
    prefix: u64,
    /// Acknowledged one by one beyond the prefix.
    beyond: BTreeSet<u64>,
    /// Done and not yet acknowledged.
    fresh: BTreeSet<u64>,
}

impl Done {
    /// A delivery is done.
    #[cfg(test)]
    pub(crate) fn note(&mut self, tag: u64) {
        self.fresh.insert(tag);
    }

    fn take(&mut self, settle: Settle) -> Option<oneshot::Sender<()>> {
        match settle {
            Settle::Ack(tag) => {
                self.fresh.insert(tag);
                None
            }
            Settle::Flush(reply) => Some(reply),
        }
    }

    /// The frames (tag, multiple) for what is fresh: one for the contiguous part, one each for the rest, so that a slow
    /// delivery holds nobody else's acknowledgement. A `multiple` frame names a tag that is not acknowledged yet: an
    /// unknown one would close the channel.
    pub(crate) fn frames(&mut self) -> Vec<(u64, bool)> {
        if Bug::AckMultiple.is_planted() {
            let all = std::mem::take(&mut self.fresh);
            return all.last().map(|tag| (*tag, true)).into_iter().collect();
        }
        let mut end = self.prefix;
        while self.fresh.contains(&(end + 1)) || self.beyond.contains(&(end + 1)) {
            end += 1;
        }
        self.prefix = end;
        let rest = self.fresh.split_off(&(end + 1));
        let mut frames = Vec::new();
        if let Some(last) = self.fresh.pop_last() {
            frames.push((last, true));
        }
        self.fresh.clear();
        self.beyond = self.beyond.split_off(&(end + 1));
        for tag in rest {
            frames.push((tag, false));
            self.beyond.insert(tag);
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(done: &mut Done, tags: &[u64]) -> Vec<(u64, bool)> {
        done.fresh.extend(tags);
        done.frames()
    }

    #[test]
    fn contiguous_tags_share_a_frame_and_stragglers_wait_for_nobody() {
        let mut done = Done::default();
        assert_eq!(frames(&mut done, &[1, 2, 3]), [(3, true)]);
        assert_eq!(frames(&mut done, &[5, 7]), [(5, false), (7, false)]);
        assert_eq!(frames(&mut done, &[4]), [(4, true)], "5 is acknowledged already: 4 is the last open tag");
        assert_eq!(frames(&mut done, &[6, 8]), [(8, true)]);
        assert_eq!(frames(&mut done, &[]), []);
    }

    #[test]
    fn every_tag_is_acknowledged_exactly_once() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let mut tags: Vec<u64> = (1..=random.u64(1..300)).collect();
            for window in tags.chunks_mut(40) {
                random.shuffle(window);
            }
            let (mut done, mut open) = (Done::default(), tags.iter().copied().collect::<BTreeSet<_>>());
            for batch in tags.chunks(7) {
                for (tag, multiple) in frames(&mut done, batch) {
                    assert!(open.contains(&tag), "{tag} is unknown to the broker");
                    if multiple {
                        open = open.split_off(&(tag + 1));
                    } else {
                        open.remove(&tag);
                    }
                }
            }
            assert!(open.is_empty(), "{open:?}");
        }
    }
}
