//! Consumers: who holds which delivery, and what happens when they go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Notify, oneshot};

use super::shared::{Change, Command, Shared};
use crate::broker::{self, Delivery, Error, Next};

/// A consumer of one queue.
pub struct Subscription {
    shared: Arc<Shared>,
    queue: usize,
    arrivals: Arc<Notify>,
    holder: Arc<Holder>,
    prefetch: u32,
    is_cancelled: bool,
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
    queue: usize,
    position: u64,
    holder: Arc<Holder>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({}, {})", self.queue, self.position)
    }
}

impl Answer {
    /// What a transaction removes that settles this delivery.
    pub(super) const fn place(&self) -> (usize, u64) {
        (self.queue, self.position)
    }

    /// The transaction is on disk.
    pub(super) fn committed(self) {
        self.holder.unanswered.fetch_sub(1, Ordering::AcqRel);
        self.holder.answered.notify_one();
    }

    /// Removes the message from its queue, with the next transaction. Without effect when it was given back meanwhile.
    pub fn ack(self) {
        let removed = {
            let mut core = self.shared.lock();
            let (queue, position) = (self.queue, self.position);
            let removed = core.queues[queue].release(position);
            if removed {
                core.pending.push(Change::Remove { queue, position });
            }
            removed
        };
        if removed {
            self.holder.unanswered.fetch_sub(1, Ordering::AcqRel);
            self.holder.answered.notify_one();
            self.shared.wake();
        }
    }
}

impl Subscription {
    pub(super) fn new(shared: Arc<Shared>, queue: usize, prefetch: u16) -> Result<Self, Error> {
        let arrivals = {
            let mut core = shared.lock();
            if let Some(reason) = core.failed.clone() {
                return Err(Error::Lost(reason));
            }
            let queue = &mut core.queues[queue];
            queue.consumers += 1;
            if let Some(reader) = &mut queue.reader {
                reader.came();
            }
            queue.arrivals.clone()
        };
        let holder = Holder { number: shared.new_holder(), unanswered: AtomicU32::new(0), answered: Notify::new() };
        let (holder, prefetch) = (Arc::new(holder), u32::from(prefetch.max(1)));
        Ok(Self { shared, queue, arrivals, holder, prefetch, is_cancelled: false, counting: None })
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
                        let reason = self.shared.lock().failed.clone();
                        return Next::Ended(reason.unwrap_or_else(|| "the store is closed".to_owned()));
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

    /// Waits until there will be no more deliveries, and says why. Safe to drop while waiting.
    pub async fn ended(&mut self) -> String {
        loop {
            let told = self.arrivals.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if let Some(reason) = self.shared.lock().failed.clone() {
                return reason;
            }
            told.await;
        }
    }

    fn try_next(&self) -> Result<Taken, String> {
        if self.is_cancelled {
            return Err("the subscription was cancelled".to_owned());
        }
        let mut core = self.shared.lock();
        if let Some(reason) = &core.failed {
            return Err(reason.clone());
        }
        if self.holder.unanswered.load(Ordering::Acquire) >= self.prefetch {
            return Ok(Taken::Nothing);
        }
        let queue = &mut core.queues[self.queue];
        let Some(mut entry) = queue.pop(&self.shared.store)? else {
            return Ok(Taken::Nothing);
        };
        let mut delivery_count = entry.record.count;
        if entry.suspect {
            if queue.is_over_limit(&entry) {
                core.pending.push(Change::GiveUp { queue: self.queue, entry, reason: "delivery_limit" });
                drop(core);
                self.shared.wake();
                return Ok(Taken::GivenUp);
            }
            delivery_count = delivery_count.max(broker::SUSPECT_DELIVERIES);
            entry.record.count += 1;
        }
        queue.hold(entry.clone(), self.holder.number);
        let name = queue.name.clone();
        if entry.suspect {
            core.pending.push(Change::Recount { queue: self.queue, entry: entry.clone() });
        }
        drop(core);
        self.holder.unanswered.fetch_add(1, Ordering::AcqRel);
        let answer = Answer {
            shared: self.shared.clone(),
            queue: self.queue,
            position: entry.position,
            holder: self.holder.clone(),
        };
        let delivery = Delivery {
            message: entry.record.message.clone(),
            queue: name,
            redelivered: entry.redelivered,
            delivery_count,
            unreadable: None,
            answer: broker::Answer::Embedded(answer),
        };
        if !entry.suspect {
            return Ok(Taken::Delivery(delivery));
        }
        let (reply, counted) = oneshot::channel();
        self.shared.send(Command::Flush(reply));
        Ok(Taken::Suspect(delivery, counted))
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
        let (reply, flushed) = oneshot::channel();
        self.shared.send(Command::Flush(reply));
        let reason = || self.shared.lock().failed.clone().unwrap_or_else(|| "the store is closed".to_owned());
        flushed.await.map_err(|_dropped| Error::Lost(reason()))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        {
            let mut core = self.shared.lock();
            let queue = self.queue;
            core.queues[queue].consumers -= 1;
            if let Some(reader) = &mut core.queues[queue].reader {
                reader.went();
            }
            for entry in core.queues[queue].take_back(self.holder.number) {
                if core.queues[queue].is_over_limit(&entry) {
                    core.pending.push(Change::GiveUp { queue, entry, reason: "delivery_limit" });
                } else {
                    core.pending.push(Change::Recount { queue, entry: entry.clone() });
                    core.queues[queue].put_back(entry);
                }
            }
        }
        self.arrivals.notify_waiters();
        self.shared.wake();
    }
}
