//! Publishes the messages of one queue of due messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::delay_queues::DelayQueues;
use super::due_message::{self, AfterRefusal, DueOrigin, FirstFailure};
use super::queue_answer::await_answer;
use super::silent_targets::SilentTargets;
use super::width::RelayWidth;
use crate::amqp::connection::Session;
use crate::amqp::consume::{AmqpSubscription, SubscriptionOptions};
use crate::amqp::delay::{DUE, consumers, exists};
use crate::amqp::publish::AmqpPublisher;
use crate::{Batch, Delivery, Error, Next, Receipt, Settlement};
use trunkline_event::{Message, QueueName};
use trunkline_telemetry::RepeatLimit;
use trunkline_telemetry::wait::{self, Loop, RetryLoop};

/// The longest wait for the confirm of a message that is due, without the time of an alarm.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Time for which the relay keeps the answer whether a daemon with another key consumes the queue of its key.
const BELIEVED_FOR: Duration = Duration::from_secs(1);
/// Keys that are remembered. Any program can name keys.
const KEYS_MAX: usize = 64;

/// The relay of one queue of due messages.
pub(crate) struct DueRelay {
    session: Arc<Session>,
    publisher: Arc<AmqpPublisher>,
    queues: Arc<DelayQueues>,
    due: QueueName,
    /// Cancelled when the relay has to end. The session may still be there.
    stop: CancellationToken,
    silent: SilentTargets,
    /// Queues of other keys, each with whether a daemon consumes it, and the time of that answer.
    served: tokio::sync::Mutex<HashMap<QueueName, (bool, Instant)>>,
}

impl DueRelay {
    pub(crate) fn new(
        session: Arc<Session>,
        publisher: Arc<AmqpPublisher>,
        queues: Arc<DelayQueues>,
        due: QueueName,
        stop: CancellationToken,
    ) -> Self {
        let (silent, served) = (SilentTargets::default(), tokio::sync::Mutex::default());
        Self { session, publisher, queues, due, stop, silent, served }
    }

    /// Publishes messages that are due until the relay has to end.
    pub(crate) async fn run(self) {
        let mut retry = RetryLoop::new(Loop::DelayRelay, "");
        let mut lines = RepeatLimit::default();
        while !self.stop.is_cancelled() && self.session.is_connected() {
            let mut width = RelayWidth::new();
            let why = match self.subscribe(&width).await {
                Ok(Some(subscription)) => {
                    retry.succeeded();
                    lines.clear();
                    self.serve(subscription, &mut width).await
                }
                Ok(None) => return,
                Err(error) => {
                    let error = error.to_string();
                    if let Some(left_out) = lines.allows(&error) {
                        tracing::warn!(
                            error,
                            left_out,
                            "the daemon cannot consume delayed messages that are due; the messages are late until the daemon subscribes again"
                        );
                    }
                    error
                }
            };
            // An operator may have deleted the queues.
            self.queues.doubt().await;
            tokio::select! {
                // The loop has no bound.
                _tried = retry.pause(&why) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Consumes the queue. None when this daemon needs no such consumer: it may not declare the queue of its key, and the queue
    /// does not exist.
    async fn subscribe(&self, width: &RelayWidth) -> Result<Option<AmqpSubscription>, Error> {
        self.queues.ensure().await?;
        let is_optional = self.due.as_str() != DUE && self.queues.are_only_checked();
        if is_optional && !exists(&self.session, &self.due).await {
            return Ok(None);
        }
        // The last session may have ended because the queue did not answer.
        let unanswered = &self.session.unanswered;
        if unanswered.contains(&self.due) {
            await_answer(&self.session, &self.due).await?;
        }
        // The relay judges the signature itself.
        let options = SubscriptionOptions {
            tag: self.due.as_str(),
            keeps_signatures: true,
            ..SubscriptionOptions::new(width.prefetch())
        };
        unanswered.add(&self.due);
        let subscribed = AmqpSubscription::new(&self.session, &self.queues.topology(), &self.due, options).await;
        if subscribed.is_ok() || self.session.is_connected() {
            unanswered.remove(&self.due);
        }
        subscribed.map(Some)
    }

    /// Relays messages until the consumer is lost or the relay has to end. Returns the reason. At an orderly end, messages that
    /// are being published are acknowledged, so that they are not published twice.
    async fn serve(&self, mut subscription: AmqpSubscription, width: &mut RelayWidth) -> String {
        let mut work = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(()) = work.next(), if !work.is_empty() => {}
                next = subscription.next(), if work.len() < usize::from(width.prefetch()) => match next {
                    Next::Delivery(delivery) => {
                        let changed = width.arrived(delivery.message.body.len());
                        work.push(self.pass_on(delivery));
                        if let Some(prefetch) = changed
                            && let Err(error) = subscription.resize(prefetch).await
                        {
                            return error.to_string();
                        }
                    }
                    Next::Cancelled(reason) | Next::Ended(reason) => return reason,
                },
            }
        }
        subscription.cancel().await;
        while work.next().await.is_some() {}
        let _session_over = subscription.close().await;
        "the session ended".to_owned()
    }

    /// Publishes one message, postpones it, or dead-letters it. The delivery stays unacknowledged only while the broker takes
    /// nothing at all, which a condition shows.
    async fn pass_on(&self, delivery: Delivery) {
        let (first, after_refusal) = match &delivery.unreadable {
            None => self.first(&delivery.message).await,
            Some(why) => due_message::unreadable(&delivery.message, why),
        };
        let mut next = match self.publish_first(first, &after_refusal).await {
            Ok(receipt) => return delivery.settle(Settlement::Published(receipt)),
            // The session is over. The broker delivers the message again.
            Err(failure) if failure.is_unknown() && !self.session.is_connected() => return,
            Err(failure) => due_message::second(&delivery.message, after_refusal, failure, &self.session.key),
        };
        let mut retry = RetryLoop::new(Loop::DelayRelay, "");
        while !self.stop.is_cancelled() {
            match self.publisher.publish(next).await {
                Ok(receipt) => return delivery.settle(Settlement::Published(receipt)),
                Err(unpublished) => {
                    let why = unpublished.why();
                    self.queues.note(&unpublished).await;
                    next = unpublished.batch;
                    tokio::select! {
                        // The loop has no bound. When the session ends, the broker delivers the message again.
                        _tried = retry.pause(&why) => {}
                        () = self.stop.cancelled() => return,
                    }
                    // A failure leaves the queues missing, and the next publish says so.
                    let _missing = self.queues.ensure().await;
                }
            }
        }
    }

    /// Publishes a message that is due. A message that can be postponed does not wait long for its confirm, because messages
    /// for one queue that does not answer must not hold up the messages for all others.
    async fn publish_first(&self, batch: Batch, after: &AfterRefusal) -> Result<Receipt, FirstFailure> {
        let AfterRefusal::Postpone(delayed) = after else {
            return self.publisher.publish(batch).await.map_err(FirstFailure::from);
        };
        let message = &delayed.publication.message;
        let target = (message.exchange.clone(), message.routing_key.clone());
        if self.silent.has(&target, Instant::now()) {
            return Err(FirstFailure::silence());
        }
        tokio::select! {
            published = self.publisher.publish(batch) => {
                let receipt = published?;
                self.silent.remove(&target);
                Ok(receipt)
            }
            () = self.unanswered() => {
                self.silent.add(target, Instant::now());
                Err(FirstFailure::silence())
            }
        }
    }

    /// Returns after [`ANSWER_WITHIN`] without an alarm. During an alarm the broker takes no message at all.
    async fn unanswered(&self) {
        let mut status = self.session.status.clone();
        loop {
            if status.wait_for(|status| !status.blocked).await.is_err() {
                return;
            }
            let blocked = async { status.wait_for(|status| status.blocked).await.is_ok() };
            tokio::select! {
                () = wait::after(ANSWER_WITHIN) => return,
                is_blocked = blocked => if !is_blocked {
                    return;
                },
            }
        }
    }

    /// The first publish for a message that is due.
    async fn first(&self, due: &Message) -> (Batch, AfterRefusal) {
        match due_message::origin(due, &self.session.key, &self.queues.topology()) {
            DueOrigin::OurKey(delayed) => due_message::restored(delayed),
            DueOrigin::OtherKey { queue, home } => {
                // Daemons with the key of the message can trust its headers. While none of them is there, the retry comes home
                // all the same.
                if let Some(home) = home
                    && !self.is_served(&queue).await
                {
                    return due_message::restored(home);
                }
                due_message::handed_on(due, &queue)
            }
            DueOrigin::Foreign => due_message::foreign(due),
        }
    }

    /// Whether a daemon consumes the queue of another key.
    async fn is_served(&self, queue: &QueueName) -> bool {
        let mut served = self.served.lock().await;
        if let Some((is_served, at)) = served.get(queue)
            && at.elapsed() < BELIEVED_FOR
        {
            return *is_served;
        }
        if served.len() >= KEYS_MAX {
            served.clear();
        }
        let is_served = consumers(&self.session, queue).await.is_some_and(|count| count > 0);
        served.insert(queue.clone(), (is_served, Instant::now()));
        is_served
    }
}
