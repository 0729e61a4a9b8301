//! The list of the events that wait, while this daemon runs their route: how it takes the route over, and what it does
//! with the entries.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::Interval;

use super::Route;
use super::core::Settled;
use super::handle::Item;
use super::waiting::{self, List, Note, Place, Removal, Waiter};
use crate::codec;
use trunkline_broker::{Delivery, Next, NothingPublished, Publication, Settlement, Subscription};
use trunkline_event::QueueName;
use trunkline_telemetry::wait;
use trunkline_telemetry::{self as telemetry, OrderLost};

/// How often a daemon that stands by looks whether it is the one that is served.
const STAND_BY: Duration = Duration::from_secs(1);
/// How often the age of the entries is looked at.
const LOOK: Duration = Duration::from_secs(60);

/// What happened to the list.
pub(super) enum Chore {
    /// A message of its queue came, or no more will.
    Note(Next),
    /// Entries are acknowledged, or that cannot be any more.
    Removed(Waiter, Result<(), String>),
    /// An entry was written anew, with its old deliveries; or it could not be.
    Rewritten(Waiter, Vec<Delivery>, Result<(), String>),
    /// A mark was published, or not.
    Marked(Result<(), String>),
    /// Time has passed.
    Look,
}

/// An event that is settled and waits for the end of its entry.
struct Ending {
    item: Item,
    settled: Settled,
}

/// A mark on its way through the retry queue.
struct Mark {
    token: String,
    /// It is the first of two.
    is_first: bool,
}

/// The list, in the hands of this daemon.
pub(super) struct Listed {
    route: Arc<Route>,
    queue: QueueName,
    subscription: Subscription,
    /// The session of the broker that it lives in.
    session: u64,
    list: List<Delivery>,
    chores: JoinSet<Chore>,
    ending: HashMap<Waiter, Vec<Ending>>,
    begun: Instant,
    look: Interval,
    mark: Option<Mark>,
    lost: Option<String>,
}

impl Route {
    /// Waits until no other daemon runs the route, and gives the list of those that wait. The broker serves one consumer of
    /// the list's queue at a time: whoever gets anything of it is the one.
    ///
    /// # Errors
    /// Why the queue cannot be read.
    pub(super) async fn take_over(self: Arc<Self>, queue: &QueueName, session: u64) -> Result<Listed, String> {
        let subscribed = self.broker.subscribe(queue, u16::MAX, self.name.as_str()).await;
        let mut subscription = subscribed.map_err(|error| error.to_string())?;
        // From here on it stands by, which is as good as running.
        self.metrics.consuming(true);
        telemetry::route_up(&self.name, &self.settings.queue);
        let (mut list, begun) = (List::default(), Instant::now());
        let mut stand_by = wait::every(STAND_BY);
        loop {
            tokio::select! {
                biased;
                next = subscription.next() => {
                    self.read(next, &mut list, begun)?;
                    break;
                }
                _ = stand_by.tick() => self.publish_alone(self.mark(queue, &codec::new_id())).await?,
            }
        }
        // What the one before it held has come back by now, and stands before this mark.
        let last = codec::new_id();
        self.publish_alone(self.mark(queue, &last)).await?;
        while self.read(subscription.next().await, &mut list, begun)?.as_ref() != Some(&last) {}
        Ok(Listed {
            queue: queue.clone(),
            subscription,
            session,
            list,
            chores: JoinSet::new(),
            ending: HashMap::new(),
            begun,
            look: wait::every(LOOK),
            mark: None,
            lost: None,
            route: self,
        })
    }

    /// Takes an entry in; gives the token of a mark.
    fn read(&self, next: Next, list: &mut List<Delivery>, begun: Instant) -> Result<Option<String>, String> {
        let delivery = match next {
            Next::Delivery(delivery) => delivery,
            Next::Cancelled(reason) | Next::Ended(reason) => return Err(reason),
        };
        match waiting::note(&delivery.message) {
            Note::Entry(waiter, place) => {
                list.read(waiter, place, delivery, begun.elapsed());
                Ok(None)
            }
            Note::Mark(token) => {
                done(delivery);
                Ok(Some(token))
            }
            Note::Unknown => {
                self.unreadable(delivery);
                Ok(None)
            }
        }
    }

    fn unreadable(&self, delivery: Delivery) {
        let id = delivery.message.properties.message_id.clone().unwrap_or_default();
        self.metrics.order_lost(OrderLost::Unreadable, "", &id);
        done(delivery);
    }

    fn mark(&self, queue: &QueueName, token: &str) -> Publication {
        waiting::mark(queue, token, self.key.as_ref())
    }

    /// A mark that goes the way of the copies, and comes back behind them into the route's queue.
    fn mark_on_the_way(&self, token: &str) -> Publication {
        let step = self.settings.retry.steps.first();
        match step.and_then(|step| step.queues.first()) {
            Some(held_in) => self.mark(held_in, token),
            None => {
                let delay = step.map(|step| step.delay);
                Publication { delay, ..self.mark(&self.settings.queue, token) }
            }
        }
    }

    async fn publish_alone(&self, publication: Publication) -> Result<(), String> {
        self.broker.publish(publication).await.map(drop).map_err(|unpublished| unpublished.why())
    }

    /// For how long a copy is held before it comes back.
    fn round(&self) -> Duration {
        self.settings.retry.steps.first().map(|step| step.delay).unwrap_or_default()
    }
}

impl Listed {
    /// Everybody on the list, each key in its order.
    pub(super) fn waiters(&self) -> Vec<Waiter> {
        self.list.waiters()
    }

    /// Whether it lives in this session of the broker.
    pub(super) fn is_of(&self, session: u64) -> bool {
        self.session == session && self.lost.is_none() && self.subscription.is_open()
    }

    /// Why another daemon may run the route by now.
    pub(super) fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// Events that are settled and not acknowledged.
    pub(super) fn ending(&self) -> usize {
        self.ending.values().map(Vec::len).sum()
    }

    /// Finds out which entries have no event, if there are any entries: behind the copies of those that wait now a mark comes back.
    pub(super) fn look_for_missing(&mut self) {
        if !self.list.is_empty() {
            self.send_mark(true, Duration::ZERO);
        }
    }

    fn send_mark(&mut self, is_first: bool, after: Duration) {
        let token = codec::new_id();
        let (route, publication) = (self.route.clone(), self.route.mark_on_the_way(&token));
        self.mark = Some(Mark { token, is_first });
        self.chores.spawn(async move {
            wait::after(after).await;
            Chore::Marked(route.publish_alone(publication).await)
        });
    }

    /// A mark came back. Gives those whose copies have not: nobody waits for them any more.
    pub(super) fn mark_came(&mut self, token: &str) -> Vec<Waiter> {
        let Some(mark) = self.mark.take_if(|mark| mark.token == token) else { return Vec::new() };
        let (missing, longest) = self.list.missing();
        if missing.is_empty() {
            return missing;
        }
        if mark.is_first {
            // A copy may have been passed on later than the mark, or be held for longer since before the settings changed.
            self.send_mark(false, longest.saturating_sub(self.begun.elapsed()));
            return Vec::new();
        }
        missing.iter().for_each(|waiter| self.missing(waiter));
        missing
    }

    /// An event does not come back.
    pub(super) fn missing(&mut self, waiter: &Waiter) {
        self.strike(waiter, OrderLost::Missing);
    }

    /// Takes a name off the list whose order is lost.
    fn strike(&mut self, waiter: &Waiter, why: OrderLost) {
        self.route.metrics.order_lost(why, &waiter.key, &waiter.id);
        if let Removal::Now(entries) = self.list.remove(waiter) {
            entries.into_iter().for_each(done);
        }
    }

    /// An event came. Gives its entry under another key, which is no longer waited for.
    pub(super) fn came(&mut self, waiter: &Waiter) -> Option<Waiter> {
        let other = self.list.came(waiter)?;
        self.strike(&other, OrderLost::OtherKey);
        Some(other)
    }

    /// The place of an event that begins to wait; none when it has one.
    pub(super) fn place(&mut self, waiter: &Waiter) -> Option<Place> {
        if !self.list.has(waiter) && self.list.is_full() {
            self.route.metrics.order_lost(OrderLost::Unlisted, &waiter.key, &waiter.id);
        }
        self.list.place(waiter, self.route.round())
    }

    /// The broker has an event's entry.
    pub(super) fn confirmed(&mut self, waiter: &Waiter) {
        self.list.confirmed(waiter);
    }

    /// An event is settled: it is acknowledged when its entry is gone.
    pub(super) fn settle(&mut self, waiter: &Waiter, item: Item, settled: Settled) {
        match self.list.remove(waiter) {
            Removal::Nothing => return self.route.settle(item, &settled, true),
            Removal::Now(entries) => self.remove(waiter.clone(), entries),
            Removal::Later => {}
        }
        self.ending.entry(waiter.clone()).or_default().push(Ending { item, settled });
    }

    fn remove(&mut self, waiter: Waiter, entries: Vec<Delivery>) {
        self.chores.spawn(async move {
            for entry in entries {
                if let Err(error) = entry.settle_now(Settlement::Nothing(NothingPublished::Noted)).await {
                    return Chore::Removed(waiter, Err(error.to_string()));
                }
            }
            Chore::Removed(waiter, Ok(()))
        });
    }

    /// The entries of an event, for the transaction that settles it.
    pub(super) fn lend(&mut self, waiter: &Waiter) -> Vec<Delivery> {
        self.list.lend(waiter)
    }

    /// The transaction failed.
    pub(super) fn take_back(&mut self, waiter: &Waiter, entries: Vec<Delivery>) {
        let (over, is_waited_for) = self.list.take_back(waiter, entries, self.begun.elapsed());
        self.over(waiter, over, is_waited_for);
    }

    /// The transaction settled the event and what was lent of it.
    pub(super) fn forget(&mut self, waiter: &Waiter) {
        self.list.forget(waiter);
    }

    fn over(&mut self, waiter: &Waiter, entries: Vec<Delivery>, is_waited_for: bool) {
        if is_waited_for {
            self.remove(waiter.clone(), entries);
        } else {
            entries.into_iter().for_each(done);
        }
    }

    /// Waits until something happens to the list. Safe to drop while waiting.
    pub(super) async fn happens(&mut self) -> Chore {
        tokio::select! {
            Some(Ok(chore)) = self.chores.join_next(), if !self.chores.is_empty() => chore,
            next = self.subscription.next(), if self.lost.is_none() => Chore::Note(next),
            _ = self.look.tick() => Chore::Look,
        }
    }

    /// Takes in what happened.
    pub(super) fn happened(&mut self, chore: Chore) {
        match chore {
            Chore::Note(Next::Delivery(delivery)) => match waiting::note(&delivery.message) {
                Note::Entry(waiter, _) => {
                    let (over, is_waited_for) = self.list.arrived(&waiter, delivery, self.begun.elapsed());
                    self.over(&waiter, over, is_waited_for);
                }
                // Of a daemon that stands by.
                Note::Mark(_) => done(delivery),
                Note::Unknown => self.route.unreadable(delivery),
            },
            Chore::Note(Next::Cancelled(reason) | Next::Ended(reason)) => self.lost = Some(reason),
            Chore::Removed(waiter, result) => {
                for Ending { item, settled } in self.ending.remove(&waiter).unwrap_or_default() {
                    match &result {
                        Ok(()) => self.route.settle(item, &settled, true),
                        Err(why) => self.route.metrics.left(&item.seen.id, why),
                    }
                }
            }
            Chore::Rewritten(_, old, Ok(())) => old.into_iter().for_each(done),
            Chore::Rewritten(waiter, old, Err(why)) => {
                tracing::warn!(route = %self.route.name, why, "an entry of the list of waiting events is not written anew");
                self.take_back(&waiter, old);
            }
            Chore::Marked(Ok(())) => {}
            // What is missing is found by the time that it is away.
            Chore::Marked(Err(why)) => {
                tracing::warn!(route = %self.route.name, why, "waiting events that do not come back are noticed late");
            }
            Chore::Look => self.rewrite(),
        }
    }

    /// Writes entries anew that are held for long.
    fn rewrite(&mut self) {
        for (waiter, place, old) in self.list.old(self.begun.elapsed()) {
            let route = self.route.clone();
            let publication = waiting::entry(&self.queue, &waiter, place, route.key.as_ref());
            self.chores.spawn(async move { Chore::Rewritten(waiter, old, route.publish_alone(publication).await) });
        }
    }

    /// Another daemon may run the route from now on, once what this gives is closed.
    pub(super) fn resign(self) -> Subscription {
        for Ending { item, .. } in self.ending.into_values().flatten() {
            self.route.metrics.left(&item.seen.id, "its route is given to another daemon");
        }
        self.subscription
    }
}

/// A message of our own has done what it is for.
fn done(delivery: Delivery) {
    delivery.settle(Settlement::Nothing(NothingPublished::Noted));
}
