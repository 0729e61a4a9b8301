//! The queue of the waiting list: how a daemon takes the lead of an ordered route over, and its work on the entries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::Interval;

use super::ports::{EntryCompletion, EntryRequest, ExecutorInput};
use crate::codec;
use crate::order::list::{self as waiting, List, ListMessage};
use crate::route_runner::RouteRunner;
use trunkline_broker::{Delivery, Next, NothingPublished, Publication, Settlement, Subscription};
use trunkline_event::QueueName;
use trunkline_telemetry::wait;
use trunkline_telemetry::{self as telemetry, OrderLost};

/// Time between two looks of a daemon that stands by whether the broker serves it.
const STAND_BY: Duration = Duration::from_secs(1);
/// Time between two looks at the age of the entries.
const LOOK: Duration = Duration::from_secs(60);

/// The queue of the waiting list, consumed by this daemon.
pub(super) struct ListQueue {
    route: Arc<RouteRunner>,
    subscription: Subscription,
    /// Session of the broker in which the subscription lives.
    session: u64,
    /// Work on the entries, which ends with the lead.
    work: JoinSet<EntryCompletion<Delivery>>,
    look: Interval,
    lost: Option<String>,
}

/// The waiting list as it was read, with its queue.
pub(super) struct Takeover {
    pub(super) queue: ListQueue,
    pub(super) list: List<Delivery>,
    /// When the reading of the list began, since the executor began.
    pub(super) began: Duration,
}

impl RouteRunner {
    /// Waits until no other daemon leads the route, and reads the waiting list. `executor_began` is the time from which
    /// the times of the list count. The broker serves one consumer of the list's queue at a time, so the daemon that gets
    /// a message leads the route.
    ///
    /// # Errors
    /// Why the queue cannot be read.
    pub(super) async fn take_over(
        self: Arc<Self>,
        queue: &QueueName,
        session: u64,
        executor_began: Instant,
    ) -> Result<Takeover, String> {
        let subscribed = self.broker.subscribe(queue, u16::MAX, self.profile.name.as_str()).await;
        let mut subscription = subscribed.map_err(|error| error.to_string())?;
        // From here on the daemon stands by, which is as good as running.
        self.metrics.consumes();
        telemetry::route_up(&self.profile.name, &self.profile.settings.queue);
        let (mut list, began) = (List::default(), executor_began.elapsed());
        let mut stand_by = wait::every(STAND_BY);
        loop {
            tokio::select! {
                biased;
                next = subscription.next() => {
                    self.read(next, &mut list, executor_began.elapsed())?;
                    break;
                }
                _ = stand_by.tick() => self.publish_alone(self.marker(queue, &codec::new_id())).await?,
            }
        }
        // The entries that the last leader held have come back by now, and stand before this marker.
        let last = codec::new_id();
        self.publish_alone(self.marker(queue, &last)).await?;
        while self.read(subscription.next().await, &mut list, executor_began.elapsed())?.as_ref() != Some(&last) {}
        let (work, look, lost) = (JoinSet::new(), wait::every(LOOK), None);
        Ok(Takeover { queue: ListQueue { route: self, subscription, session, work, look, lost }, list, began })
    }

    /// Takes an entry in; gives the token of a marker.
    fn read(&self, next: Next, list: &mut List<Delivery>, now: Duration) -> Result<Option<String>, String> {
        let delivery = match next {
            Next::Delivery(delivery) => delivery,
            Next::Cancelled(reason) | Next::Ended(reason) => return Err(reason),
        };
        match waiting::read(&delivery.message) {
            ListMessage::Entry(waiter, place) => {
                list.read(waiter, place, delivery, now);
                Ok(None)
            }
            ListMessage::Marker(token) => {
                delivery.settle(Settlement::Nothing(NothingPublished::OwnMessage));
                Ok(Some(token))
            }
            ListMessage::Unknown => {
                let id = delivery.message.properties.message_id.clone().unwrap_or_default();
                self.metrics.order_lost(OrderLost::Unreadable, "", &id);
                delivery.settle(Settlement::Nothing(NothingPublished::OwnMessage));
                Ok(None)
            }
        }
    }

    fn marker(&self, queue: &QueueName, token: &str) -> Publication {
        waiting::marker(queue, token, self.profile.key.as_ref())
    }

    async fn publish_alone(&self, publication: Publication) -> Result<(), String> {
        self.broker.publish(publication).await.map(drop).map_err(|unpublished| unpublished.why())
    }
}

impl ListQueue {
    /// Whether the subscription lives in this session of the broker.
    pub(super) fn is_of(&self, session: u64) -> bool {
        self.session == session && self.lost.is_none() && self.subscription.is_open()
    }

    /// Why another daemon may lead the route by now.
    pub(super) fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// Waits for the next input from the waiting list; none when the subscription ended. Safe to drop while waiting.
    pub(super) async fn next(&mut self) -> Option<ExecutorInput<Delivery>> {
        tokio::select! {
            Some(Ok(completion)) = self.work.join_next(), if !self.work.is_empty() => {
                Some(ExecutorInput::EntryCompleted(completion))
            }
            next = self.subscription.next(), if self.lost.is_none() => match next {
                Next::Delivery(delivery) => Some(ExecutorInput::EntryArrived(delivery)),
                Next::Cancelled(reason) | Next::Ended(reason) => {
                    self.lost = Some(reason);
                    None
                }
            },
            _ = self.look.tick() => Some(ExecutorInput::RewriteDue),
        }
    }

    /// Begins the work of a request.
    pub(super) fn perform(&mut self, request: EntryRequest<Delivery>) {
        let route = self.route.clone();
        match request {
            EntryRequest::Remove(waiter, entries) => self.work.spawn(async move {
                for entry in entries {
                    if let Err(error) = entry.settle_now(Settlement::Nothing(NothingPublished::OwnMessage)).await {
                        return EntryCompletion::Removed(waiter, Err(error.to_string()));
                    }
                }
                EntryCompletion::Removed(waiter, Ok(()))
            }),
            EntryRequest::Rewrite { waiter, old, publication } => self.work.spawn(async move {
                let result = route.publish_alone(publication).await;
                EntryCompletion::Rewritten { waiter, old, result }
            }),
            EntryRequest::SendMarker { publication, after } => self.work.spawn(async move {
                wait::after(after).await;
                EntryCompletion::MarkerSent(route.publish_alone(publication).await)
            }),
        };
    }

    /// Gives the subscription: another daemon may lead the route once that is closed.
    pub(super) fn resign(self) -> Subscription {
        self.subscription
    }
}
