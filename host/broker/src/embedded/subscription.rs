//! Consumers: who holds which delivery, and what happens when they go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Notify, oneshot};
use tokio::time::Interval;

use super::queue::{Entry, Head};
use super::shared::{Change, Command, Core, Out, Shared};
use crate::{Delivery, Error, LOOK, Next, SUSPECT_DELIVERIES};
use trunkline_event::QueueName;
use trunkline_telemetry::wait;

/// A consumer of one queue.
pub struct Subscription {
    shared: Arc<Shared>,
    session: u64,
    queue: usize,
    arrivals: Arc<Notify>,
    holder: Arc<Holder>,
    prefetch: u32,
    is_cancelled: bool,
    /// When the session is looked at although no delivery is wanted.
    look: Interval,
    /// A suspect that is handed out once its count is on disk.
    counting: Option<(Delivery, oneshot::Receiver<()>)>,
}

/// What the queue had.
enum Taken {
    Delivery(Delivery),
    /// To be handed out when its count is on disk.
    Suspect(Delivery, oneshot::Receiver<()>),
    /// It went over the delivery limit.
    GivenUp,
    Nothing,
}

#[derive(Debug)]
struct Holder {
    number: u64,
    unanswered: AtomicU32,
    answered: Notify,
}

/// The way back from a delivery to its queue.
pub struct Answer {
    shared: Arc<Shared>,
    out: Out,
    holder: Arc<Holder>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({:?})", self.out)
    }
}

impl Answer {
    /// What a transaction removes that settles this delivery.
    pub(super) const fn out(&self) -> Out {
        self.out
    }

    /// The transaction is on disk.
    pub(super) fn committed(self) {
        self.holder.unanswered.fetch_sub(1, Ordering::AcqRel);
        self.holder.answered.notify_one();
    }

    /// Removes the message from its queue, with the next transaction. Without effect when it was given back meanwhile.
    pub fn ack(self) {
        let removed = {
            let (now_ms, mut core) = (self.shared.clock.now_ms(), self.shared.lock());
            let Out { session, queue, position, holder } = self.out;
            let released = core.queue_of(session, queue).is_some_and(|queue| queue.release(position, holder, now_ms));
            if released {
                core.pending.push(Change::Remove { queue, position });
            }
            released
        };
        if removed {
            self.shared.wake();
            self.committed();
        }
    }

    /// As [`Answer::ack`], and returns when it is on disk.
    ///
    /// # Errors
    /// [`Error::Lost`] when the store failed, or the session is over.
    pub async fn ack_now(self) -> Result<(), Error> {
        let (shared, session) = (self.shared.clone(), self.out.session);
        self.ack();
        flushed(&shared, session).await
    }
}

/// Waits until every acknowledgement is on disk.
async fn flushed(shared: &Shared, session: u64) -> Result<(), Error> {
    let (reply, flushed) = oneshot::channel();
    shared.send(Command::Flush(reply));
    flushed.await.map_err(|_dropped| Error::Lost(shared.gone()))?;
    // What was acknowledged in a session that is over may not have been written.
    let end = shared.lock().end_of(session);
    end.map_or(Ok(()), |reason| Err(Error::Lost(reason)))
}

/// Whether a subscription may be the only one of its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Others may consume beside it.
    Shared,
    /// It is refused while there is another one.
    Alone,
}

impl Subscription {
    pub(super) fn new(shared: Arc<Shared>, queue: &QueueName, prefetch: u16, sharing: Sharing) -> Result<Self, Error> {
        let refused = |reason: &str| Error::Queue { queue: queue.clone(), reason: reason.to_owned() };
        let (session, number, arrivals) = {
            let mut core = shared.lock();
            if let Some(reason) = core.failed.clone() {
                return Err(Error::Lost(reason));
            }
            let (session, number) = (core.session, core.number(queue));
            let found = number.and_then(|number| core.queue_of(session, number));
            let (Some(number), Some(found)) = (number, found) else { return Err(refused("there is no such queue")) };
            if let Some(reason) = found.broken() {
                return Err(refused(reason));
            }
            if sharing == Sharing::Alone && found.consumers > 0 {
                return Err(refused("another connection reads this stream"));
            }
            found.consumers = found.consumers.saturating_add(1);
            if let Some(reader) = &mut found.reader {
                reader.came();
            }
            (session, number, found.arrivals.clone())
        };
        let holder = Holder { number: shared.new_holder(), unanswered: AtomicU32::new(0), answered: Notify::new() };
        let (holder, prefetch) = (Arc::new(holder), u32::from(prefetch.max(1)));
        let (queue, look) = (number, wait::every(LOOK));
        Ok(Self { shared, session, queue, arrivals, holder, prefetch, is_cancelled: false, look, counting: None })
    }

    /// Another prefetch from now on.
    pub fn resize(&mut self, prefetch: u16) {
        self.prefetch = u32::from(prefetch.max(1));
        self.holder.answered.notify_one();
    }

    /// The next delivery; nothing is taken from the queue when the caller stops waiting.
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
            // From here on no notification is missed, whatever happens before the wait below.
            ready.as_mut().enable();
            let answered = self.holder.answered.notified();
            match self.try_next() {
                Ok(Taken::Delivery(delivery)) => return Next::Delivery(delivery),
                Ok(Taken::Suspect(delivery, counted)) => {
                    self.counting = Some((delivery, counted));
                    continue;
                }
                Ok(Taken::GivenUp) => continue,
                Ok(Taken::Nothing) => {}
                Err(reason) => return Next::Ended(reason),
            }
            tokio::select! {
                () = ready => {}
                () = answered => {}
            }
        }
    }

    /// Waits until there will be no more deliveries, and says why. Arrivals wake nobody meanwhile. Safe to drop while waiting.
    pub async fn ended(&mut self) -> String {
        loop {
            self.look.tick().await;
            let end = self.shared.lock().end_of(self.session);
            if let Some(reason) = end {
                return reason;
            }
        }
    }

    fn why_ended(&self) -> String {
        self.shared.lock().end_of(self.session).unwrap_or_else(|| "the store is closed".to_owned())
    }

    fn try_next(&self) -> Result<Taken, String> {
        if self.is_cancelled {
            return Err("the subscription was cancelled".to_owned());
        }
        let (now_ms, mut core) = (self.shared.clock.now_ms(), self.shared.lock());
        if let Some(reason) = core.end_of(self.session) {
            return Err(reason);
        }
        if self.holder.unanswered.load(Ordering::Acquire) >= self.prefetch {
            return Ok(Taken::Nothing);
        }
        let Some(queue) = core.queue_of(self.session, self.queue) else {
            return Err("the queue was removed".to_owned());
        };
        let popped = queue.pop();
        let is_low = queue.reading().is_some();
        let taken = match popped {
            Some(entry) => self.take(&mut core, entry, now_ms),
            None => match core.queue_of(self.session, self.queue) {
                Some(queue) if queue.head() == Head::OnDisk => match queue.broken() {
                    Some(reason) => return Err(reason.to_owned()),
                    None => Taken::Nothing,
                },
                Some(_) | None => Taken::Nothing,
            },
        };
        let is_to_be_read = is_low && core.read_ahead(self.queue);
        drop(core);
        if is_to_be_read || matches!(taken, Taken::GivenUp) {
            self.shared.wake();
        }
        Ok(taken)
    }

    /// What becomes of the next message.
    fn take(&self, core: &mut Core, mut entry: Entry, now_ms: u64) -> Taken {
        let queue = self.queue;
        let Some(from) = core.queue_of(self.session, queue) else { return Taken::Nothing };
        let mut delivery_count = entry.record.count;
        if entry.suspect {
            if from.is_over_limit(&entry) {
                core.pending.push(Change::GiveUp { queue, entry, reason: "delivery_limit" });
                return Taken::GivenUp;
            }
            delivery_count = delivery_count.max(SUSPECT_DELIVERIES);
            entry.record.count = entry.record.count.saturating_add(1);
        }
        from.hold(entry.clone(), self.holder.number, now_ms);
        let name = from.name.clone();
        if entry.suspect {
            core.pending.push(Change::Recount { queue, entry: entry.clone() });
        }
        self.holder.unanswered.fetch_add(1, Ordering::AcqRel);
        let out = Out { session: self.session, queue, position: entry.position, holder: self.holder.number };
        let delivery = Delivery {
            message: entry.record.message,
            queue: name,
            redelivered: entry.redelivered,
            delivery_count,
            unreadable: None,
            answer: crate::Answer::Embedded(Answer { shared: self.shared.clone(), out, holder: self.holder.clone() }),
        };
        if !entry.suspect {
            return Taken::Delivery(delivery);
        }
        let (reply, counted) = oneshot::channel();
        self.shared.send(Command::Flush(reply));
        Taken::Suspect(delivery, counted)
    }

    /// No more deliveries; what was handed out can still be settled.
    pub async fn cancel(&mut self) {
        self.is_cancelled = true;
    }

    /// Waits until every acknowledgement is on disk, and gives the rest back.
    ///
    /// # Errors
    /// [`Error::Lost`] when the store failed meanwhile.
    pub async fn close(self) -> Result<(), Error> {
        flushed(&self.shared, self.session).await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        {
            let (now_ms, mut core) = (self.shared.clock.now_ms(), self.shared.lock());
            let number = self.queue;
            let Some(queue) = core.queue_of(self.session, number) else { return };
            queue.consumers = queue.consumers.saturating_sub(1);
            if let Some(reader) = &mut queue.reader {
                reader.went(now_ms);
            }
            let mut changes = Vec::new();
            for entry in queue.take_back(self.holder.number) {
                if queue.is_over_limit(&entry) {
                    changes.push(Change::GiveUp { queue: number, entry, reason: "delivery_limit" });
                } else {
                    changes.push(Change::Recount { queue: number, entry: entry.clone() });
                    queue.put_back(entry);
                }
            }
            core.pending.append(&mut changes);
        }
        self.arrivals.notify_waiters();
        self.shared.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Wake};
    use std::time::{Duration, Instant};

    use super::super::Embedded;
    use super::super::shared::Work;
    use super::*;
    use crate::Tap;
    use trunkline_config::Topology;
    use trunkline_event::{ExchangeName, Message, Properties, RoutingKey};

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A route that is full is woken by its own work, and not by every message that comes meanwhile.
    #[tokio::test]
    async fn arrivals_wake_nobody_while_none_is_wanted() {
        let dir = tempfile::tempdir().expect("a directory");
        let broker = Embedded::open(dir.path(), &Topology::default()).await.expect("a broker");
        let name = |name: &str| QueueName::new(name).expect("valid");
        let tap = Tap {
            queue: name("full"),
            overflow: name("full.overflow"),
            exchange: ExchangeName::default_exchange(),
            keys: Vec::new(),
            expires: Duration::ZERO,
            max_length: 1000,
        };
        broker.open_tap(&tap).await.expect("a queue");
        let subscription = Subscription::new(broker.shared.clone(), &tap.queue, 10, Sharing::Shared);
        let mut subscription = subscription.expect("a subscription");
        let message = Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("full").expect("valid"),
            properties: Properties::default(),
            body: bytes::Bytes::from_static(b"{}"),
        };
        let queue = broker.shared.lock().number(&tap.queue).expect("it is there");
        let (wakes, begun) = (Arc::new(Wakes::default()), Instant::now());
        let waker = wakes.clone().into();
        for _ in 0..200 {
            let mut ended = std::pin::pin!(subscription.ended());
            assert!(ended.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            let routed = vec![(message.clone().into(), BTreeSet::from([queue]))];
            assert!(broker.shared.publish(Work { routed, ..Work::default() }).await.is_ok());
        }
        let looks = begun.elapsed().as_millis() / LOOK.as_millis() + 1;
        let woken = wakes.0.load(Ordering::Relaxed);
        assert!(woken as u128 <= looks, "{woken} wakes for 200 arrivals in the time of {looks} looks");
    }
}
