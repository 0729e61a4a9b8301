//! What a route's deliveries publish, and the places that those get which wait.

use super::super::core::{Incomplete, Input, Plan, Ticket};
use super::super::handle::Proof;
use super::super::listed::Listed;
use super::super::waiting::Waiter;
use super::{Done, Work};
use trunkline_broker::{Batch, Deliveries, Ended, Mark, Passing, Refusal, Unpublished};
use trunkline_telemetry::PublishResult;

impl Work {
    /// The list and a delivery's name on it, if both are of this subscription.
    pub(super) fn place_on_list(&mut self, ticket: Ticket) -> Option<(&mut Listed, Waiter)> {
        let now = self.subscription.map(|(number, _)| number);
        let item = self.items.get(&ticket).filter(|item| Some(item.session) == now)?;
        Some((self.listed.as_mut()?, item.waiter.clone()?))
    }

    /// Gives an event that begins to wait its place on the list. Whether the entry of one that was to wait, and does not, was
    /// published is not known.
    pub(super) fn enter(&mut self, ticket: Ticket, plan: &Plan) {
        let known = self.items.get(&ticket).and_then(|item| item.place);
        let place = match (plan.waits(), known) {
            (false, _) => None,
            (true, Some(place)) => Some(place),
            (true, None) => self.place_on_list(ticket).and_then(|(listed, waiter)| listed.place(&waiter)),
        };
        if let Some(item) = self.items.get_mut(&ticket) {
            item.place = place;
        }
    }

    /// What was published is confirmed, with the event's entry if it had one.
    pub(super) fn entered(&mut self, ticket: Ticket) {
        if self.items.get_mut(&ticket).and_then(|item| item.place.take()).is_some()
            && let Some((listed, waiter)) = self.place_on_list(ticket)
        {
            listed.confirmed(&waiter);
        }
    }

    pub(super) fn publish(&mut self, ticket: Ticket, plan: &Plan) {
        self.enter(ticket, plan);
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

    pub(super) fn publish_rest(&mut self, ticket: Ticket) {
        let Some(batch) = self.items.get_mut(&ticket).and_then(|item| item.open.take()) else {
            return self.spawn(ticket, std::future::ready(Done::Panicked));
        };
        let route = self.route.clone();
        self.spawn(ticket, async move { Done::Published(route.publish(batch).await) });
    }

    pub(super) fn commit(&mut self, ticket: Ticket, plan: &Plan, ended: Option<Ended>) {
        self.enter(ticket, plan);
        let lent = self.place_on_list(ticket).filter(|_| !plan.waits());
        let with_it = lent.map(|(listed, waiter)| listed.lend(&waiter)).unwrap_or_default();
        let Some(item) = self.items.get_mut(&ticket) else { return };
        let batch = Batch::from(self.route.planned(item, plan));
        let mark = item.mark.clone().zip(ended).map(|(mark, ended)| Mark { ended, ..mark });
        let Some(first) = item.delivery.take() else { return };
        let (route, deliveries) = (self.route.clone(), Deliveries { first, with_it });
        self.spawn(ticket, async move { Done::Committed(route.commit(deliveries, batch, mark).await) });
    }

    /// Why a publish is not complete, counted. What is confirmed of it is kept with the delivery.
    pub(super) fn incomplete(&mut self, ticket: Ticket, unpublished: Unpublished) -> Incomplete {
        let why = unpublished.why();
        let permanent = unpublished.permanent().cloned();
        let Unpublished { batch, refused, lost } = unpublished;
        // The event's entry is the last message. Its copy may be refused all the same.
        if batch.has_last() {
            self.entered(ticket);
        }
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
}
