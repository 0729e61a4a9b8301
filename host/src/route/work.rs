//! The owner of a route's deliveries: feeds the core, and carries out what it says.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::Route;
use super::call::Called;
use super::core::{Action, Core, Incomplete, Input, Plan, Settled, Ticket};
use super::handle::{Item, Proof};
use crate::broker::{Batch, Confirmed, Delivery, Ended, Known, Mark, Passing, Receipt, Refusal, Status, Unpublished};
use crate::telemetry::{Condition, PublishResult};
use crate::wait;

/// Result of a spawned task, fed back into the core.
enum Done {
    Looked(Known),
    Called(Called),
    Published(Result<Receipt, Unpublished>),
    Committed(Result<Vec<Confirmed>, Box<(Delivery, Unpublished)>>),
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
        }
    }

    /// Whether another delivery should be taken.
    pub(super) fn wants(&self) -> bool {
        self.core.wants()
    }

    /// Deliveries in work.
    pub(super) fn held(&self) -> usize {
        self.core.held()
    }

    /// Nothing new is begun.
    pub(super) fn is_draining(&self) -> bool {
        self.core.is_draining()
    }

    /// Takes a delivery in.
    pub(super) fn arrived(&mut self, delivery: Delivery) {
        self.last += 1;
        let session = self.subscription.map(|(number, _)| number).unwrap_or_default();
        let ticket = Ticket(self.last);
        let (mut facts, item) = self.route.receive(delivery, session);
        facts.due = facts.due.map(|left| self.now() + left);
        facts.turn = facts.turn.map(|left| self.now() + left);
        self.items.insert(ticket, item);
        self.feed(Input::Arrived(ticket, facts));
    }

    /// Deliveries come from a new subscription, in this session of the broker.
    pub(super) fn subscribed(&mut self, session: u64) {
        self.subscriptions += 1;
        self.subscription = Some((self.subscriptions, session));
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
        tokio::select! {
            biased;
            Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                if let Ok((ticket, done)) = ended {
                    self.done(ticket, done);
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
                if let Some(item) = self.items.get_mut(&ticket) {
                    item.confirmed = receipt.confirmed().to_vec();
                    item.proof = Some(Proof::Receipt(receipt));
                }
                Input::Published(ticket, Ok(()))
            }
            Done::Published(Err(unpublished)) => Input::Published(ticket, Err(self.incomplete(ticket, unpublished))),
            Done::Committed(Ok(confirmed)) => {
                if let Some(item) = self.items.get_mut(&ticket) {
                    item.confirmed = confirmed;
                }
                Input::Published(ticket, Ok(()))
            }
            Done::Committed(Err(failed)) => {
                let (delivery, unpublished) = *failed;
                if let Some(item) = self.items.get_mut(&ticket) {
                    item.delivery = Some(delivery);
                }
                Input::Published(ticket, Err(self.incomplete(ticket, unpublished)))
            }
            Done::Marked => Input::Marked(ticket),
            Done::LetGo => Input::Abandoned(ticket, "its route ends"),
            Done::Panicked => Input::Abandoned(ticket, "handling it failed"),
        };
        self.feed(input);
    }

    /// Why a publish is not complete, counted. What is confirmed of it is kept with the delivery.
    fn incomplete(&mut self, ticket: Ticket, unpublished: Unpublished) -> Incomplete {
        let why = unpublished.why();
        let permanent = unpublished.permanent().cloned();
        let Unpublished { batch, refused, lost } = unpublished;
        let metrics = &self.route.metrics;
        metrics.publish_result(PublishResult::Nacked, refused.len() as u64);
        if lost.is_some() {
            metrics.publish_result(PublishResult::Lost, batch.open().saturating_sub(refused.len()) as u64);
        }
        if let Some(item) = self.items.get_mut(&ticket) {
            item.open = Some(batch);
        }
        if let Some(permanent) = permanent {
            metrics.refused_for_good(&why);
            return Incomplete::Permanent(permanent);
        }
        if lost.is_some() {
            return Incomplete::Lost(why);
        }
        let passing = refused.into_iter().filter_map(|(_, refusal)| match refusal {
            Refusal::Passing(passing) => Some(passing),
            Refusal::Permanent(_) => None,
        });
        Incomplete::Passing(passing.collect::<Vec<Passing>>())
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
            Action::Circuit(open) => self.route.metrics.circuit(open),
        }
    }

    fn spawn(&mut self, ticket: Ticket, task: impl Future<Output = Done> + Send + 'static) {
        let guarded = AssertUnwindSafe(task).catch_unwind();
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

    fn publish(&mut self, ticket: Ticket, plan: &Plan) {
        let Some(item) = self.items.get_mut(&ticket) else { return };
        let publications = self.route.planned(item, plan);
        if publications.is_empty() {
            item.proof = Some(Proof::Nothing(self.route.handler.nothing_published()));
            item.confirmed = Vec::new();
            return self.feed(Input::Published(ticket, Ok(())));
        }
        item.open = Some(publications.into());
        self.publish_rest(ticket);
    }

    fn publish_rest(&mut self, ticket: Ticket) {
        let Some(batch) = self.items.get_mut(&ticket).and_then(|item| item.open.take()) else {
            return self.spawn(ticket, std::future::ready(Done::Panicked));
        };
        let route = self.route.clone();
        self.spawn(ticket, async move { Done::Published(route.publish(batch).await) });
    }

    fn commit(&mut self, ticket: Ticket, plan: &Plan, ended: Option<Ended>) {
        let Some(item) = self.items.get_mut(&ticket) else { return };
        let batch = Batch::from(self.route.planned(item, plan));
        let mark = item.mark.clone().zip(ended).map(|(mark, ended)| Mark { ended, ..mark });
        let Some(delivery) = item.delivery.take() else { return };
        let route = self.route.clone();
        self.spawn(ticket, async move { Done::Committed(route.commit(delivery, batch, mark).await) });
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
        if let Some(item) = self.items.remove(&ticket) {
            self.route.settle(item, settled, acknowledge);
        }
    }
}
