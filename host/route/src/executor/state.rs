//! The executor of a route: the deliveries in work, and the way from the core's actions to requests and back. The executor
//! never waits and knows no client, so that the simulator runs the executor itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxBuildHasher;

use super::leadership::Leadership;
use super::ports::{CallResult, Completion, ExecutorInput, FailedCommit, Ports, RouteReport, WorkRequest};
use crate::core::{Action, Core, CoreInput, Ticket};
use crate::inbound::{Arrival, ExecutorTime, IncomingDelivery as _, Intake, Item, receive};
use crate::order::list as waiting;
use crate::profile::Profile;
use trunkline_broker::{DedupeLookup, DedupeRecord, NothingPublished, SettledAs, Settlement};

/// A subscription that deliveries come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct CurrentSubscription {
    /// Number of the subscription, never used again.
    number: u64,
    /// Session of the broker in which the subscription lives.
    session: u64,
}

/// The deliveries of a route, in work.
pub(crate) struct Executor<P: Ports> {
    pub(super) profile: Arc<Profile>,
    pub(super) ports: P,
    pub(super) core: Core,
    pub(super) items: HashMap<Ticket, Item<P::Delivery>, FxBuildHasher>,
    /// The waiting list of an ordered route, while this daemon leads the route.
    pub(super) leadership: Option<Leadership<P::Delivery>>,
    /// The present reading of the clock.
    pub(super) now: ExecutorTime,
    /// Draws the jitter of retries.
    pub(super) random: fastrand::Rng,
    pub(super) requests: Vec<WorkRequest<P::Delivery>>,
    actions: Vec<Action>,
    last: u64,
    subscription: Option<CurrentSubscription>,
    subscriptions: u64,
    blocked: bool,
}

impl<P: Ports> Executor<P> {
    pub(crate) fn new(profile: Arc<Profile>, ports: P, random: fastrand::Rng) -> Self {
        Self {
            core: Core::new(profile.rules()),
            now: ports.clock(),
            profile,
            ports,
            random,
            items: HashMap::default(),
            leadership: None,
            requests: Vec::new(),
            actions: Vec::new(),
            last: 0,
            subscription: None,
            subscriptions: 0,
            blocked: false,
        }
    }

    /// Takes everything that has happened, in order, and gives the requests that follow.
    pub(crate) fn step(
        &mut self,
        inputs: impl IntoIterator<Item = ExecutorInput<P::Delivery>>,
    ) -> std::vec::Drain<'_, WorkRequest<P::Delivery>> {
        self.now = self.ports.clock();
        for input in inputs {
            self.take(input);
        }
        self.requests.drain(..)
    }

    fn take(&mut self, input: ExecutorInput<P::Delivery>) {
        match input {
            ExecutorInput::Arrived(delivery) => self.arrived(delivery),
            ExecutorInput::Completed(ticket, completion) => self.completed(ticket, completion),
            ExecutorInput::EntryCompleted(completion) => self.entry_completed(completion),
            ExecutorInput::EntryArrived(delivery) => self.entry_arrived(delivery),
            ExecutorInput::RewriteDue => self.rewrite_entries(),
            ExecutorInput::Broker { session, blocked } => {
                self.blocked = blocked;
                self.subscription = self.subscription.filter(|subscribed| Some(subscribed.session) == session);
                self.subscription_changed();
            }
            ExecutorInput::Subscribed { session } => self.subscribed(session),
            ExecutorInput::Unsubscribed => {
                self.subscription = None;
                self.subscription_changed();
            }
            ExecutorInput::Leading { list, began } => self.leadership = Some(Leadership::new(list, began)),
            ExecutorInput::Resigned => self.resigned(),
            ExecutorInput::Drain => self.feed(CoreInput::Drain),
            ExecutorInput::Tick => self.feed(CoreInput::Tick),
        }
    }

    /// Whether another delivery should be taken from the queue.
    pub(crate) fn wants(&self) -> bool {
        self.core.wants()
    }

    /// Deliveries in work, with those that are settled and wait for the end of their waiting-list entry.
    pub(crate) fn held(&self) -> usize {
        self.core.held() + self.leadership.as_ref().map_or(0, Leadership::ending)
    }

    /// Whether nothing new is begun.
    pub(crate) fn is_draining(&self) -> bool {
        self.core.is_draining()
    }

    /// Time since the start at which [`ExecutorInput::Tick`] is due, if time alone can change anything.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.core.deadline()
    }

    /// Time from now within which no held or new delivery can begin; none when work is in progress or may begin.
    pub(crate) fn nothing_begins_for(&self) -> Option<Duration> {
        self.core.idle_until()?.checked_sub(self.ports.clock().since_start)
    }

    /// Leaves every delivery to the broker; gives their number.
    pub(crate) fn abandon(&mut self) -> usize {
        let left = self.items.len();
        for (_, item) in self.items.drain() {
            self.ports.report(RouteReport::Left { item: &item, why: "the deadline of the shutdown is over" });
        }
        left
    }

    fn arrived(&mut self, delivery: P::Delivery) {
        if let Some(token) = waiting::token(delivery.message()).map(str::to_owned) {
            self.requests.push(WorkRequest::Settle(delivery, Settlement::Nothing(NothingPublished::OwnMessage)));
            let missing = self.marker_came(&token);
            return missing.into_iter().for_each(|waiter| self.feed(CoreInput::Missing(waiter)));
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        let subscription = self.subscription.map(|subscribed| subscribed.number).unwrap_or_default();
        let plugin_digest = &self.ports.plugin_digest();
        let arrival = Arrival { ticket, subscription, now: self.now, plugin_digest };
        let Intake { facts, item } = receive(&self.profile, delivery, &arrival);
        self.ports.report(RouteReport::Received(&item));
        if facts.refused.is_none() && facts.ordering_key.as_ref().is_some_and(String::is_empty) {
            self.ports.report(RouteReport::NoOrderingKey { event: &facts.id });
        }
        let other = item.waiter.as_ref().and_then(|waiter| self.event_came(waiter));
        self.items.insert(ticket, item);
        if let Some(other) = other {
            self.feed(CoreInput::Missing(other));
        }
        self.feed(CoreInput::Arrived(ticket, facts));
    }

    fn subscribed(&mut self, session: u64) {
        self.subscriptions += 1;
        self.subscription = Some(CurrentSubscription { number: self.subscriptions, session });
        self.look_for_missing();
        if let Some(leadership) = &self.leadership {
            let waiting = leadership.waiters();
            self.feed(CoreInput::Waiting(waiting));
        }
        self.subscription_changed();
    }

    fn subscription_changed(&mut self) {
        let now = self.subscription.map(|subscribed| subscribed.number);
        self.feed(CoreInput::Subscription { now, blocked: self.blocked });
    }

    /// Whether a delivery came from the present subscription.
    pub(super) fn is_present(&self, item: &Item<P::Delivery>) -> bool {
        self.subscription.is_some_and(|subscribed| subscribed.number == item.subscription)
    }

    fn completed(&mut self, ticket: Ticket, completion: Completion<P::Delivery>) {
        let input = match completion {
            Completion::LookedUp(known) => CoreInput::LookedUp(ticket, known),
            Completion::Invoked(CallResult { result, log, plugin, digest }) => {
                let Some(item) = self.items.get_mut(&ticket) else { return };
                item.provenance.log = log;
                item.provenance.plugin = plugin;
                item.provenance.digest = digest;
                CoreInput::Invoked(ticket, result.map(|emissions| item.emissions = emissions))
            }
            Completion::Published(Ok(receipt)) => {
                self.entered(ticket);
                if let Some(item) = self.items.get_mut(&ticket) {
                    item.confirmed = receipt.confirmed().to_vec();
                    item.settlement = Some(Settlement::Published(receipt));
                }
                CoreInput::Published(ticket, Ok(()))
            }
            Completion::Published(Err(unpublished)) => {
                CoreInput::Published(ticket, Err(self.incomplete(ticket, unpublished)))
            }
            Completion::Committed(Ok(confirmed)) => {
                self.entered(ticket);
                if let Some(item) = self.items.get_mut(&ticket) {
                    item.confirmed = confirmed;
                }
                CoreInput::Published(ticket, Ok(()))
            }
            Completion::Committed(Err(uncommitted)) => {
                let FailedCommit { deliveries, unpublished } = *uncommitted;
                self.take_back(ticket, deliveries.entries);
                if let Some(item) = self.items.get_mut(&ticket) {
                    item.delivery = Some(deliveries.first);
                }
                CoreInput::Published(ticket, Err(self.incomplete(ticket, unpublished)))
            }
            Completion::RecordWritten => CoreInput::RecordWritten(ticket),
            Completion::Abandoned(why) => CoreInput::Abandoned(ticket, why),
        };
        self.feed(input);
    }

    /// Gives an input to the core and carries out the actions that follow.
    pub(super) fn feed(&mut self, input: CoreInput) {
        let mut actions = std::mem::take(&mut self.actions);
        self.core.step(input, self.now.since_start, &mut actions);
        for action in actions.drain(..) {
            self.act(action);
        }
        self.actions = actions;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::LookUp(ticket) => match self.record(ticket) {
                Some(record) => self.requests.push(WorkRequest::LookUp(ticket, record)),
                None => self.feed(CoreInput::LookedUp(ticket, DedupeLookup::Unknown)),
            },
            Action::Invoke(ticket) => self.invoke(ticket),
            Action::Publish(ticket, plan) => self.publish(ticket, &plan),
            Action::PublishRest(ticket) => self.publish_rest(ticket),
            Action::Commit(ticket, plan, ended) => self.commit(ticket, &plan, ended),
            Action::WriteRecord(ticket, ended) => self.write_record(ticket, ended),
            Action::Committed(ticket, outcome) => self.committed(ticket, &outcome),
            Action::Acknowledge(ticket, outcome) => self.acknowledge(ticket, outcome),
            Action::LeaveToBroker(ticket, why) => {
                if let Some(item) = self.items.remove(&ticket) {
                    self.ports.report(RouteReport::Left { item: &item, why: &why });
                }
            }
            Action::ReportHeld(ticket, why) => {
                let event = self.items.get(&ticket).map(|item| item.provenance.id.as_str()).unwrap_or_default();
                self.ports.report(RouteReport::Held { event, why: &why });
            }
            Action::ReportReleased => self.ports.report(RouteReport::Released),
            Action::ReportMissing(waiter) => self.missing(&waiter),
            Action::ReportCircuit(state) => self.ports.report(RouteReport::Circuit(state)),
        }
    }

    fn record(&self, ticket: Ticket) -> Option<DedupeRecord> {
        self.items.get(&ticket)?.record.clone()
    }

    fn invoke(&mut self, ticket: Ticket) {
        let item = self.items.get(&ticket);
        match item.and_then(|item| Some((item.event.clone()?, item.provenance.received_at.clone()))) {
            Some((event, received_at)) => self.requests.push(WorkRequest::Invoke { ticket, event, received_at }),
            None => self.feed(CoreInput::Abandoned(ticket, "the handling of the delivery failed")),
        }
    }

    fn write_record(&mut self, ticket: Ticket, ended: SettledAs) {
        match self.record(ticket) {
            Some(record) => {
                self.requests.push(WorkRequest::WriteRecord(ticket, DedupeRecord { settled_as: ended, ..record }))
            }
            None => self.feed(CoreInput::RecordWritten(ticket)),
        }
    }
}
