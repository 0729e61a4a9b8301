//! From a plan of the core to the request that publishes it, and the answer of the broker.

use super::ports::{DeliveryGroup, Ports, RouteReport, WorkRequest};
use super::state::Executor;
use crate::core::{CoreInput, Incomplete, PublishPlan, Ticket};
use crate::outbound::plan::{self, CopyTargets, PlanSource, PlanTime};
use trunkline_broker::{Batch, DedupeRecord, Passing, Publication, Refusal, SettledAs, Settlement, Unpublished};
use trunkline_telemetry::PublishResult;

impl<P: Ports> Executor<P> {
    pub(super) fn publish(&mut self, ticket: Ticket, plan: &PublishPlan) {
        self.enter(ticket, plan);
        let publications = self.planned(ticket, plan);
        let Some(item) = self.items.get_mut(&ticket) else { return };
        if publications.is_empty() {
            item.settlement = Some(Settlement::Nothing(self.ports.nothing_published()));
            item.confirmed = Vec::new();
            return self.feed(CoreInput::Published(ticket, Ok(())));
        }
        item.open = Some(publications.into());
        self.publish_rest(ticket);
    }

    pub(super) fn publish_rest(&mut self, ticket: Ticket) {
        match self.items.get_mut(&ticket).and_then(|item| item.open.take()) {
            Some(batch) => self.requests.push(WorkRequest::Publish(ticket, batch)),
            None => self.feed(CoreInput::Abandoned(ticket, "the handling of the delivery failed")),
        }
    }

    pub(super) fn commit(&mut self, ticket: Ticket, plan: &PublishPlan, ended: Option<SettledAs>) {
        self.enter(ticket, plan);
        let entries = if plan.waits() { Vec::new() } else { self.lend(ticket) };
        let batch = Batch::from(self.planned(ticket, plan));
        let Some(item) = self.items.get_mut(&ticket) else { return };
        let record = item.record.clone().zip(ended).map(|(record, ended)| DedupeRecord { settled_as: ended, ..record });
        let Some(first) = item.delivery.take() else { return };
        let deliveries = DeliveryGroup { first, entries };
        self.requests.push(WorkRequest::Commit { ticket, deliveries, batch, record });
    }

    /// The messages of a plan.
    fn planned(&mut self, ticket: Ticket, plan: &PublishPlan) -> Vec<Publication> {
        let Some(item) = self.items.get(&ticket) else { return Vec::new() };
        let settings = &self.profile.settings;
        let places = CopyTargets {
            source: &settings.queue,
            retry: &settings.retry,
            dead_letter: &settings.dead_letter,
            waiting: settings.waiting.as_ref(),
        };
        let entry = item.waiter.as_ref().zip(item.place);
        let source =
            PlanSource { message: &item.message, provenance: &item.provenance, emissions: &item.emissions, entry };
        plan::messages(plan, source, places, PlanTime { now_ms: self.now.unix_ms(), jitter: self.random.f64() })
    }

    /// Reports a publish that is not complete, and keeps its confirmed messages with the delivery.
    pub(super) fn incomplete(&mut self, ticket: Ticket, unpublished: Unpublished) -> Incomplete {
        let why = unpublished.why();
        let permanent = unpublished.permanent().cloned();
        let Unpublished { batch, refused, lost } = unpublished;
        // The event's entry is the last message. Its copy may be refused all the same.
        if batch.has_last() {
            self.entered(ticket);
        }
        self.ports.report(RouteReport::Unconfirmed { result: PublishResult::Nacked, messages: refused.len() as u64 });
        if lost.is_some() {
            let messages = batch.open().saturating_sub(refused.len()) as u64;
            self.ports.report(RouteReport::Unconfirmed { result: PublishResult::Lost, messages });
        }
        if let Some(item) = self.items.get_mut(&ticket) {
            item.open = Some(batch);
        }
        if let Some(permanent) = permanent {
            self.ports.report(RouteReport::RefusedForGood(&why));
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

    /// Gives an event that begins to wait a place on the waiting list. After a plan that does not wait, the place is
    /// forgotten: it is unknown whether the entry was published.
    fn enter(&mut self, ticket: Ticket, plan: &PublishPlan) {
        let known = self.items.get(&ticket).and_then(|item| item.place);
        let place = match (plan.waits(), known) {
            (false, _) => None,
            (true, Some(place)) => Some(place),
            (true, None) => self.place(ticket),
        };
        if let Some(item) = self.items.get_mut(&ticket) {
            item.place = place;
        }
    }

    /// Notes that the broker has the messages of a plan, with the event's waiting-list entry if there was one.
    pub(super) fn entered(&mut self, ticket: Ticket) {
        let Some(item) = self.items.get_mut(&ticket) else { return };
        if item.place.take().is_some() {
            self.entry_confirmed(ticket);
        }
    }
}
