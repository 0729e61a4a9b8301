//! The owner of a route's deliveries: feeds the core, and carries out what it says.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::Route;
use super::call::Called;
use super::core::{Action, Core, Input, Plan, Settled, Ticket, Unpublished};
use super::decide::Decision;
use super::handle::Item;
use crate::broker::{Delivery, Error, Fate, Known, Publication, Receipt, Settlement, Status};
use crate::event::Reason;
use crate::telemetry::{self, EmittedTrace, PublishResult, SettledTrace};

/// What a task found out.
enum Done {
    Looked(Known),
    Called(Called),
    Published(Result<Receipt, Error>),
    Committed(Result<Vec<Fate>, Box<(Delivery, Error)>>),
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
}

impl Work {
    pub(super) fn new(route: Arc<Route>) -> Self {
        let core = Core::new(route.rules());
        Self { route, core, items: HashMap::new(), tasks: JoinSet::new(), begun: Instant::now(), last: 0 }
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
    pub(super) fn arrived(&mut self, delivery: Delivery, session: u64) {
        self.last += 1;
        let ticket = Ticket(self.last);
        let (mut facts, item) = self.route.receive(delivery, session);
        facts.due = facts.due.map(|left| self.now() + left);
        facts.turn = facts.turn.map(|left| self.now() + left);
        self.items.insert(ticket, item);
        self.feed(Input::Arrived(ticket, facts));
    }

    /// The broker's state changed.
    pub(super) fn status(&mut self, status: &Status) {
        let now = status.connected.then_some(status.session);
        self.feed(Input::Session { now, blocked: status.blocked });
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
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
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
            Done::Published(result) => {
                let result = result.map(|receipt| {
                    if let Some(item) = self.items.get_mut(&ticket) {
                        item.fates = receipt.fates().to_vec();
                        item.receipt = Some(receipt);
                    }
                });
                Input::Published(ticket, self.told(ticket, result))
            }
            Done::Committed(Ok(fates)) => {
                if let Some(item) = self.items.get_mut(&ticket) {
                    item.fates = fates;
                }
                Input::Published(ticket, Ok(()))
            }
            Done::Committed(Err(failed)) => {
                let (delivery, error) = *failed;
                if let Some(item) = self.items.get_mut(&ticket) {
                    item.delivery = Some(delivery);
                }
                Input::Published(ticket, self.told(ticket, Err(error)))
            }
            Done::Marked => Input::Marked(ticket),
            Done::LetGo => Input::Abandoned(ticket, "its route ends"),
            Done::Panicked => Input::Abandoned(ticket, "handling it failed"),
        };
        self.feed(input);
    }

    /// The answer to a publish, counted.
    fn told(&self, ticket: Ticket, result: Result<(), Error>) -> Result<(), Unpublished> {
        let Err(error) = result else { return Ok(()) };
        let count = self.items.get(&ticket).map_or(1, |item| item.emissions.len().max(1)) as u64;
        let metrics = &self.route.metrics;
        Err(match error {
            Error::Refused(refused) => {
                metrics.publish_result(PublishResult::Nacked, refused.len() as u64);
                Unpublished::Refused(refused.into_iter().map(|(_, refusal)| refusal).collect())
            }
            Error::Lost(_) | Error::Queue { .. } | Error::Unusable(_) => {
                metrics.publish_result(PublishResult::Lost, count);
                Unpublished::Lost(error.to_string())
            }
        })
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
            Action::Commit(ticket, plan, marks) => self.commit(ticket, &plan, marks),
            Action::Mark(ticket) => self.mark(ticket),
            Action::Settled(ticket, settled) => self.settled(ticket, settled, false),
            Action::Ack(ticket, settled) => self.settled(ticket, settled, true),
            Action::Leave(ticket, why) => {
                if let Some(item) = self.items.remove(&ticket) {
                    self.route.metrics.left(&item.seen.id, &why);
                }
            }
            Action::Stuck(ticket, why) => {
                if let Some(item) = self.items.get(&ticket) {
                    self.route.metrics.stuck(&item.seen.id, &why);
                }
            }
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
        let Some(item) = self.items.get(&ticket) else { return };
        let publications = self.route.planned(item, plan);
        let route = self.route.clone();
        self.spawn(ticket, async move { Done::Published(route.publish(publications).await) });
    }

    fn commit(&mut self, ticket: Ticket, plan: &Plan, marks: bool) {
        let Some(item) = self.items.get_mut(&ticket) else { return };
        let publications = self.route.planned(item, plan);
        let mark = item.mark.clone().filter(|_| marks);
        let Some(delivery) = item.delivery.take() else { return };
        let route = self.route.clone();
        self.spawn(ticket, async move { Done::Committed(route.commit(delivery, publications, mark).await) });
    }

    fn mark(&mut self, ticket: Ticket) {
        let Some(mark) = self.items.get(&ticket).and_then(|item| item.mark.clone()) else {
            return self.spawn(ticket, std::future::ready(Done::Marked));
        };
        let broker = self.route.broker.clone();
        self.spawn(ticket, async move {
            if let Err(error) = broker.mark(mark).await {
                // Everything is confirmed: to acknowledge is right, and a repeat will not be noticed.
                tracing::error!(%error, "an event is settled and not marked: a repeat of it would be handled again");
            }
            Done::Marked
        });
    }

    /// A delivery is done with; it is acknowledged here unless a transaction did so.
    fn settled(&mut self, ticket: Ticket, settled: Settled, acknowledge: bool) {
        let Some(mut item) = self.items.remove(&ticket) else { return };
        let receipt = item.receipt.take().unwrap_or_else(Receipt::of_nothing);
        let (outcome, reason) = match &settled {
            Settled::Emitted => (telemetry::Settled::Ack, None),
            Settled::Copied(Decision::Retry { .. }) => (telemetry::Settled::Retry, None),
            Settled::Copied(Decision::DeadLetter { reason, .. }) => (telemetry::Settled::DeadLetter, Some(*reason)),
            Settled::Parked => (telemetry::Settled::Parked, None),
            Settled::Repeat => (telemetry::Settled::Dropped, None),
        };
        if settled == Settled::Emitted {
            self.route.count_fates(&item);
        }
        self.tell(&item, &settled);
        self.route.trace(&item, outcome, reason);
        if acknowledge && let Some(delivery) = item.delivery.take() {
            delivery.settle(Settlement::Ack(receipt));
        }
        self.route.metrics.settled(outcome, item.started.elapsed());
    }

    fn tell(&self, item: &Item, settled: &Settled) {
        let (metrics, seen) = (&self.route.metrics, &item.seen);
        match settled {
            Settled::Copied(Decision::Retry { step, error }) => {
                metrics.retry_scheduled(&seen.id, seen.attempt + 1, step.delay, error);
            }
            Settled::Copied(Decision::DeadLetter { reason, error }) => metrics.dead_lettered(&seen.id, *reason, error),
            Settled::Emitted | Settled::Parked | Settled::Repeat => {}
        }
    }
}

impl Route {
    /// What became of emissions.
    fn count_fates(&self, item: &Item) {
        let mut confirmed = 0;
        for (fate, publication) in item.fates.iter().zip(&item.emissions) {
            match fate {
                Fate::Routed => confirmed += 1,
                Fate::Unrouted => {
                    self.metrics.publish_result(PublishResult::Unroutable, 1);
                    self.mention_unroutable(publication.message.properties.kind.as_deref().unwrap_or_default());
                }
            }
        }
        self.metrics.publish_result(PublishResult::Confirmed, confirmed);
    }

    fn trace(&self, item: &Item, settled: telemetry::Settled, reason: Option<Reason>) {
        if !SettledTrace::is_wanted() {
            return;
        }
        let message = &item.message;
        let kind = message.properties.kind.as_deref().unwrap_or(message.routing_key.as_str());
        let emitted = if settled == telemetry::Settled::Ack {
            traces(&item.emissions, &item.fates, |text| self.handler.clean(text))
        } else {
            Vec::new()
        };
        SettledTrace { route: &self.name, event: &item.seen.id, kind, settled, reason }.write(&emitted);
    }
}

/// What was emitted, for the log: without the plugin's secrets, which it may well send to where they belong.
fn traces(emissions: &[Publication], fates: &[Fate], clean: impl Fn(&str) -> String) -> Vec<EmittedTrace> {
    let trace = |(fate, publication): (&Fate, &Publication)| {
        let message = &publication.message;
        EmittedTrace {
            id: message.properties.message_id.clone().unwrap_or_default(),
            r#type: clean(message.properties.kind.as_deref().unwrap_or_default()),
            exchange: message.exchange.to_string(),
            routing_key: clean(message.routing_key.as_str()),
            routed: *fate == Fate::Routed,
            data: clean(&String::from_utf8_lossy(&message.body)),
        }
    };
    fates.iter().zip(emissions).map(trace).collect()
}
