//! Consuming a queue. The messages of a subscription that is dropped go back to their queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Interval;

use super::ack::{EmbeddedAckHandle, EmbeddedConsumer, flushed};
use crate::delivery::{AckHandle, END_CHECK_INTERVAL, SUSPECT_DELIVERIES};
use crate::embedded::state::{DeliveryId, QueueChange, QueueHead, QueuedMessage, SessionState};
use crate::embedded::writer::{BrokerShared, WriterCommand};
use crate::{Delivery, Error, Next};
use trunkline_event::QueueName;
use trunkline_telemetry::wait;

/// A consumer of one queue.
pub struct EmbeddedSubscription {
    shared: Arc<BrokerShared>,
    session: u64,
    queue: usize,
    arrivals: Arc<Notify>,
    consumer: Arc<EmbeddedConsumer>,
    prefetch: u32,
    is_cancelled: bool,
    /// Interval of the checks for the end of the session while no delivery is wanted.
    end_check: Interval,
    /// A suspect that is handed out when its delivery count is on disk.
    counting: Option<(Delivery, oneshot::Receiver<()>)>,
}

/// The next message of the queue.
enum NextMessage {
    Delivery(Delivery),
    /// The message may have ended a run. It is handed out when its delivery count is on disk.
    Suspect(Delivery, oneshot::Receiver<()>),
    /// The message exceeded the delivery limit.
    GivenUp,
    Nothing,
}

/// Whether a queue may have other consumers beside a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exclusivity {
    /// The queue may have other consumers.
    Shared,
    /// The subscription is refused while the queue has another consumer.
    Exclusive,
}

impl EmbeddedSubscription {
    pub(crate) fn new(
        shared: Arc<BrokerShared>,
        queue: &QueueName,
        prefetch: u16,
        exclusivity: Exclusivity,
    ) -> Result<Self, Error> {
        let refused = |reason: &str| Error::Queue { queue: queue.clone(), reason: reason.to_owned() };
        let (session, number, arrivals) = {
            let mut state = shared.lock();
            if let Some(reason) = state.failed.clone() {
                return Err(Error::Lost(reason));
            }
            let (session, number) = (state.session, state.number(queue));
            let found = number.and_then(|number| state.queue_of(session, number));
            let (Some(number), Some(found)) = (number, found) else { return Err(refused("the queue does not exist")) };
            if let Some(reason) = found.read_error() {
                return Err(refused(reason));
            }
            if exclusivity == Exclusivity::Exclusive && found.consumers > 0 {
                return Err(refused("another connection already reads this stream"));
            }
            found.consumers = found.consumers.saturating_add(1);
            if let Some(stream) = &mut found.stream {
                stream.consumer_joined();
            }
            (session, number, found.arrivals.clone())
        };
        let consumer = EmbeddedConsumer::new(shared.new_consumer());
        let (consumer, prefetch) = (Arc::new(consumer), u32::from(prefetch.max(1)));
        let (queue, end_check) = (number, wait::every(END_CHECK_INTERVAL));
        Ok(Self {
            shared,
            session,
            queue,
            arrivals,
            consumer,
            prefetch,
            is_cancelled: false,
            end_check,
            counting: None,
        })
    }

    /// Changes the prefetch.
    pub fn resize(&mut self, prefetch: u16) {
        self.prefetch = u32::from(prefetch.max(1));
        self.consumer.answered.notify_one();
    }

    /// The next delivery. No message is taken from the queue when the caller stops waiting.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some((_, counted)) = &mut self.counting {
                let counted = counted.await;
                let suspect = self.counting.take();
                match (counted, suspect) {
                    (Ok(()), Some((delivery, _))) => return Next::Delivery(delivery),
                    (Ok(()) | Err(_), _) => {
                        return Next::Ended(self.why_ended());
                    }
                }
            }
            let ready = self.arrivals.notified();
            tokio::pin!(ready);
            // No notification is missed from here on.
            ready.as_mut().enable();
            let answered = self.consumer.answered.notified();
            match self.try_next() {
                Ok(NextMessage::Delivery(delivery)) => return Next::Delivery(delivery),
                Ok(NextMessage::Suspect(delivery, counted)) => {
                    self.counting = Some((delivery, counted));
                    continue;
                }
                Ok(NextMessage::GivenUp) => continue,
                Ok(NextMessage::Nothing) => {}
                Err(reason) => return Next::Ended(reason),
            }
            tokio::select! {
                () = ready => {}
                () = answered => {}
            }
        }
    }

    /// Waits for the end of the subscription, and returns the reason. Messages that arrive meanwhile wake no task. The caller
    /// may stop waiting at any time.
    pub async fn ended(&mut self) -> String {
        loop {
            self.end_check.tick().await;
            let end = self.shared.lock().end_of(self.session);
            if let Some(reason) = end {
                return reason;
            }
        }
    }

    fn why_ended(&self) -> String {
        self.shared.lock().end_of(self.session).unwrap_or_else(|| "the store is closed".to_owned())
    }

    fn try_next(&self) -> Result<NextMessage, String> {
        if self.is_cancelled {
            return Err("the subscription was cancelled".to_owned());
        }
        let (now_ms, mut state) = (self.shared.clock.now_ms(), self.shared.lock());
        if let Some(reason) = state.end_of(self.session) {
            return Err(reason);
        }
        if self.consumer.unanswered.load(Ordering::Acquire) >= self.prefetch {
            return Ok(NextMessage::Nothing);
        }
        let Some(queue) = state.queue_of(self.session, self.queue) else {
            return Err("the queue was removed".to_owned());
        };
        let popped = queue.pop();
        let is_low = queue.read_request().is_some();
        let taken = match popped {
            Some(entry) => self.take(&mut state, entry, now_ms),
            None => match state.queue_of(self.session, self.queue) {
                Some(queue) if queue.head() == QueueHead::OnDisk => match queue.read_error() {
                    Some(reason) => return Err(reason.to_owned()),
                    None => NextMessage::Nothing,
                },
                Some(_) | None => NextMessage::Nothing,
            },
        };
        let is_to_be_read = is_low && state.read_ahead(self.queue);
        drop(state);
        if is_to_be_read || matches!(taken, NextMessage::GivenUp) {
            self.shared.wake();
        }
        Ok(taken)
    }

    /// Hands out a message that was taken from the queue, or gives it up.
    fn take(&self, state: &mut SessionState, mut entry: QueuedMessage, now_ms: u64) -> NextMessage {
        let queue = self.queue;
        let Some(from) = state.queue_of(self.session, queue) else { return NextMessage::Nothing };
        let mut delivery_count = entry.record.count;
        if entry.suspect {
            if from.is_over_limit(&entry) {
                state.pending.push(QueueChange::GiveUp { queue, entry, reason: "delivery_limit" });
                return NextMessage::GivenUp;
            }
            delivery_count = delivery_count.max(SUSPECT_DELIVERIES);
            entry.record.count = entry.record.count.saturating_add(1);
        }
        from.hold(entry.clone(), self.consumer.number, now_ms);
        let name = from.name.clone();
        if entry.suspect {
            state.pending.push(QueueChange::Recount { queue, entry: entry.clone() });
        }
        self.consumer.unanswered.fetch_add(1, Ordering::AcqRel);
        let id = DeliveryId { session: self.session, queue, position: entry.position, consumer: self.consumer.number };
        let delivery = Delivery {
            message: entry.record.message,
            queue: name,
            redelivered: entry.redelivered,
            delivery_count,
            waited: Duration::from_millis(now_ms.saturating_sub(entry.record.published_ms)),
            unreadable: None,
            ack_handle: AckHandle::Embedded(EmbeddedAckHandle::new(self.shared.clone(), id, self.consumer.clone())),
        };
        if !entry.suspect {
            return NextMessage::Delivery(delivery);
        }
        let (reply, counted) = oneshot::channel();
        self.shared.send(WriterCommand::Flush(reply));
        NextMessage::Suspect(delivery, counted)
    }

    /// Ends the deliveries. Messages that were handed out can still be settled.
    pub async fn cancel(&mut self) {
        self.is_cancelled = true;
    }

    /// Waits until every acknowledgement is on disk, and returns the other messages to the queue.
    ///
    /// # Errors
    /// [`Error::Lost`] when the store failed meanwhile.
    pub async fn close(self) -> Result<(), Error> {
        flushed(&self.shared, self.session).await
    }
}

impl Drop for EmbeddedSubscription {
    fn drop(&mut self) {
        {
            let (now_ms, mut state) = (self.shared.clock.now_ms(), self.shared.lock());
            let number = self.queue;
            let Some(queue) = state.queue_of(self.session, number) else { return };
            queue.consumers = queue.consumers.saturating_sub(1);
            if let Some(stream) = &mut queue.stream {
                stream.consumer_left(now_ms);
            }
            let mut changes = Vec::new();
            for entry in queue.take_back(self.consumer.number) {
                if queue.is_over_limit(&entry) {
                    changes.push(QueueChange::GiveUp { queue: number, entry, reason: "delivery_limit" });
                } else {
                    changes.push(QueueChange::Recount { queue: number, entry: entry.clone() });
                    queue.put_back(entry);
                }
            }
            state.pending.append(&mut changes);
        }
        self.arrivals.notify_waiters();
        self.shared.wake();
    }
}
