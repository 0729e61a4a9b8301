//! The owner of a route's deliveries: feeds the core, and carries out what it says.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::Route;
use super::call::Called;
use super::core::{Action, Core, Input, Settled, Ticket};
use super::handle::{Item, Proof};
use super::listed::Listed;
use super::waiting;
use trunkline_broker::{
    Confirmed, Deliveries, Delivery, Ended, Known, Mark, NothingPublished, Receipt, Settlement, Status, Subscription,
    Unpublished,
};
use trunkline_telemetry::Condition;
use trunkline_telemetry::wait;

mod publish;

/// Result of a spawned task, fed back into the core.
enum Done {
    Looked(Known),
    Called(Called),
    Published(Result<Receipt, Unpublished>),
    Committed(Result<Vec<Confirmed>, Box<(Deliveries, Unpublished)>>),
    Marked,
    /// The route ends, and what it runs could not do its work. The delivery comes again when its subscription ends.
    LetGo,
    /// Our bug; the same.
    Panicked,
}

/// The deliveries of a route, in work.
pub(super) struct Work {
    route: Arc<Route>,
    core: Core,
    items: HashMap<Ticket, Item>,
    tasks: JoinSet<(Ticket, Done)>,
    begun: Instant,
    last: u64,
    /// The subscription that deliveries come from now: its number, never used again, and the broker session it lives in.
    subscription: Option<(u64, u64)>,
    subscriptions: u64,
    blocked: bool,
    /// On an ordered route, while this daemon is the one that runs it.
    listed: Option<Listed>,
}

impl Work {
    pub(super) fn new(route: Arc<Route>) -> Self {
        let core = Core::new(route.rules());
        Self {
            route,
            core,
            items: HashMap::new(),
            tasks: JoinSet::new(),
            begun: Instant::now(),
            last: 0,
            subscription: None,
            subscriptions: 0,
            blocked: false,
            listed: None,
        }
    }

    /// Whether another delivery should be taken.
    pub(super) fn wants(&self) -> bool {
        self.core.wants()
    }

    /// Deliveries in work.
    pub(super) fn held(&self) -> usize {
        self.core.held() + self.listed.as_ref().map_or(0, Listed::ending)
    }

    /// The list of those that wait, while this daemon runs its ordered route.
    pub(super) fn listed(&self) -> Option<&Listed> {
        self.listed.as_ref()
    }

    /// This daemon runs its ordered route from now on.
    pub(super) fn lead(&mut self, listed: Listed) {
        self.listed = Some(listed);
    }

    /// And no longer.
    pub(super) fn resign(&mut self) -> Option<Subscription> {
        self.listed.take().map(Listed::resign)
    }

    /// Nothing new is begun.
    pub(super) fn is_draining(&self) -> bool {
        self.core.is_draining()
    }

    /// Takes a delivery in.
    pub(super) fn arrived(&mut self, delivery: Delivery) {
        if let Some(token) = waiting::token(&delivery.message).map(str::to_owned) {
            delivery.settle(Settlement::Nothing(NothingPublished::Noted));
            let missing = self.listed.as_mut().map(|listed| listed.mark_came(&token)).unwrap_or_default();
            return missing.into_iter().for_each(|waiter| self.feed(Input::Missing(waiter)));
        }
        self.last += 1;
        let session = self.subscription.map(|(number, _)| number).unwrap_or_default();
        let ticket = Ticket(self.last);
        let (mut facts, item) = self.route.receive(delivery, session);
        facts.due = facts.due.map(|left| self.now() + left);
        facts.turn = facts.turn.map(|left| self.now() + left);
        let other = self.listed.as_mut().zip(item.waiter.as_ref()).and_then(|(listed, waiter)| listed.came(waiter));
        self.items.insert(ticket, item);
        if let Some(other) = other {
            self.feed(Input::Missing(other));
        }
        self.feed(Input::Arrived(ticket, facts));
    }

    /// Deliveries come from a new subscription, in this session of the broker.
    pub(super) fn subscribed(&mut self, session: u64) {
        self.subscriptions += 1;
        self.subscription = Some((self.subscriptions, session));
        if let Some(listed) = &mut self.listed {
            listed.look_for_missing();
            let waiting = listed.waiters();
            self.feed(Input::Waiting(waiting));
        }
        self.tell_session();
    }

    /// The subscription is over: what came from it will be delivered again.
    pub(super) fn unsubscribed(&mut self) {
        self.subscription = None;
        self.tell_session();
    }

    /// The broker's state changed.
    pub(super) fn status(&mut self, status: &Status) {
        self.blocked = status.blocked;
        self.subscription = self.subscription.filter(|(_, session)| status.connected && status.session == *session);
        self.tell_session();
    }

    fn tell_session(&mut self) {
        let now = self.subscription.map(|(number, _)| number);
        self.feed(Input::Session { now, blocked: self.blocked });
    }

    /// How long nothing that is held, or may come, can begin; none when something is in work or may begin.
    pub(super) fn nothing_begins_for(&self) -> Option<Duration> {
        self.core.idle_until()?.checked_sub(self.now())
    }

    /// Nothing new is begun from here on.
    pub(super) fn drain(&mut self) {
        self.route.handler.drain();
        self.feed(Input::Drain);
    }

    /// Waits until a task ends or time has changed something, and goes on from there.
    pub(super) async fn step(&mut self) {
        let deadline = self.core.deadline().map(|deadline| self.begun + deadline);
        let sleep = async {
            match deadline {
                Some(deadline) => wait::until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let listed = async {
            match &mut self.listed {
                Some(listed) => listed.happens().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                if let Ok((ticket, done)) = ended {
                    self.done(ticket, done);
                }
            }
            chore = listed => {
                if let Some(listed) = &mut self.listed {
                    listed.happened(chore);
                }
            }
            () = sleep => self.feed(Input::Tick),
        }
    }

    /// Leaves everything to the broker.
    pub(super) async fn abandon(&mut self) -> usize {
        self.tasks.shutdown().await;
        let left = self.items.len();
        for (_, item) in self.items.drain() {
            self.route.metrics.left(&item.seen.id, "the deadline of the shutdown");
        }
        left
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn done(&mut self, ticket: Ticket, done: Done) {
        let input = match done {
            Done::Looked(known) => Input::Looked(ticket, known),
            Done::Called(Called { result, log, plugin, digest }) => {
                let Some(item) = self.items.get_mut(&ticket) else { return };
                item.seen.log = log;
                item.seen.plugin = plugin;
                item.seen.digest = digest.to_string();
                Input::Invoked(ticket, result.map(|emissions| item.emissions = emissions))
            }
            Done::Published(Ok(receipt)) => {
                self.entered(ticket);
                if let Some(item) = self.items.get_mut(&ticket) {
                    item.confirmed = receipt.confirmed().to_vec();
                    item.proof = Some(Proof::Receipt(receipt));
                }
                Input::Published(ticket, Ok(()))
            }
            Done::Published(Err(unpublished)) => Input::Published(ticket, Err(self.incomplete(ticket, unpublished))),
            Done::Committed(Ok(confirmed)) => {
                self.entered(ticket);
                if let Some(item) = self.items.get_mut(&ticket) {
                    item.confirmed = confirmed;
                }
                Input::Published(ticket, Ok(()))
            }
            Done::Committed(Err(failed)) => {
                let (Deliveries { first, with_it }, unpublished) = *failed;
                if let Some((listed, waiter)) = self.place_on_list(ticket) {
                    listed.take_back(&waiter, with_it);
                }
                if let Some(item) = self.items.get_mut(&ticket) {
                    item.delivery = Some(first);
                }
                Input::Published(ticket, Err(self.incomplete(ticket, unpublished)))
            }
            Done::Marked => Input::Marked(ticket),
            Done::LetGo => Input::Abandoned(ticket, "its route ends"),
            Done::Panicked => Input::Abandoned(ticket, "handling it failed"),
        };
        self.feed(input);
    }

    fn feed(&mut self, input: Input) {
        let now = self.now();
        for action in self.core.step(input, now) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Look(ticket) => self.look(ticket),
            Action::Invoke(ticket) => self.invoke(ticket),
            Action::Publish(ticket, plan) => self.publish(ticket, &plan),
            Action::PublishRest(ticket) => self.publish_rest(ticket),
            Action::Commit(ticket, plan, ended) => self.commit(ticket, &plan, ended),
            Action::Mark(ticket, ended) => self.mark(ticket, ended),
            Action::Settled(ticket, settled) => self.settled(ticket, &settled, false),
            Action::Ack(ticket, settled) => self.settled(ticket, &settled, true),
            Action::Leave(ticket, why) => {
                if let Some(item) = self.items.remove(&ticket) {
                    self.route.metrics.left(&item.seen.id, &why);
                }
            }
            Action::Stuck(ticket, why) => {
                if let Some(item) = self.items.get(&ticket) {
                    self.route.metrics.stuck(&item.seen.id, &why);
                }
                Condition::RouteStuck.raise(self.route.name.as_str(), why);
            }
            Action::Unstuck => Condition::RouteStuck.clear(self.route.name.as_str()),
            Action::Missing(waiter) => {
                if let Some(listed) = &mut self.listed {
                    listed.missing(&waiter);
                }
            }
            Action::Circuit(open) => self.route.metrics.circuit(open),
        }
    }

    fn spawn(&mut self, ticket: Ticket, task: impl Future<Output = Done> + Send + 'static) {
        // The future of a call is large, and is moved a few times before it runs.
        let guarded = AssertUnwindSafe(Box::pin(task)).catch_unwind();
        self.tasks.spawn(async move {
            let done = guarded.await.unwrap_or_else(|_panic| {
                tracing::error!("handling a delivery panicked; report this");
                Done::Panicked
            });
            (ticket, done)
        });
    }

    fn look(&mut self, ticket: Ticket) {
        let Some(mark) = self.items.get(&ticket).and_then(|item| item.mark.clone()) else {
            return self.spawn(ticket, std::future::ready(Done::Looked(Known::No)));
        };
        let broker = self.route.broker.clone();
        self.spawn(ticket, async move { Done::Looked(broker.known(&mark).await) });
    }

    fn invoke(&mut self, ticket: Ticket) {
        let Some((event, now)) =
            self.items.get(&ticket).and_then(|item| Some((item.event.clone()?, item.seen.now.clone())))
        else {
            return self.spawn(ticket, std::future::ready(Done::Panicked));
        };
        let route = self.route.clone();
        self.spawn(ticket, async move { route.call(event, now).await.map_or(Done::LetGo, Done::Called) });
    }

    fn mark(&mut self, ticket: Ticket, ended: Ended) {
        let Some(mark) = self.items.get(&ticket).and_then(|item| item.mark.clone()) else {
            return self.spawn(ticket, std::future::ready(Done::Marked));
        };
        let route = self.route.clone();
        self.spawn(ticket, async move {
            let (event, mark) = (mark.id.clone(), Mark { ended, ..mark });
            if let Err(error) = route.broker.mark(mark).await {
                // Everything is confirmed: to acknowledge is right, and a repeat will not be noticed.
                route.metrics.unmarked(&event, &error.to_string());
            }
            Done::Marked
        });
    }

    fn settled(&mut self, ticket: Ticket, settled: &Settled, acknowledge: bool) {
        let waiter = self.place_on_list(ticket).filter(|_| !settled.waits()).map(|(_, waiter)| waiter);
        let Some(item) = self.items.remove(&ticket) else { return };
        match (&mut self.listed, waiter) {
            (Some(listed), Some(waiter)) if acknowledge => listed.settle(&waiter, item, settled.clone()),
            (Some(listed), Some(waiter)) => {
                listed.forget(&waiter);
                self.route.settle(item, settled, acknowledge);
            }
            (_, _) => self.route.settle(item, settled, acknowledge),
        }
    }
}
