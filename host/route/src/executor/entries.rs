//! The work of the executor on the waiting list of an ordered route.

use std::time::Duration;

use super::leadership::{Ending, Leadership, MarkerRound, SentMarker};
use super::ports::{EntryCompletion, EntryRequest, Ports, RouteReport, WorkRequest};
use super::state::Executor;
use crate::codec;
use crate::core::{DeliveryOutcome, Ticket};
use crate::inbound::IncomingDelivery as _;
use crate::order::list::{self as waiting, ListMessage, ListPlace, Removal, Waiter};
use trunkline_broker::{NothingPublished, Settlement};
use trunkline_telemetry::OrderLost;

impl<P: Ports> Executor<P> {
    /// The leadership and the name of a delivery's event on the list, if both belong to the present subscription.
    fn entry_of(&mut self, ticket: Ticket) -> Option<(&mut Leadership<P::Delivery>, Waiter)> {
        let item = self.items.get(&ticket).filter(|item| self.is_present(item))?;
        let waiter = item.waiter.clone()?;
        Some((self.leadership.as_mut()?, waiter))
    }

    /// The place of an event that begins to wait; none when the event is on the list or the list is full.
    pub(super) fn place(&mut self, ticket: Ticket) -> Option<ListPlace> {
        let round = self.profile.retry_round();
        let (leadership, waiter) = self.entry_of(ticket)?;
        let is_unlisted = !leadership.list.has(&waiter) && leadership.list.is_full();
        let place = leadership.list.place(&waiter, round);
        if is_unlisted {
            self.order_lost(OrderLost::Unlisted, &waiter);
        }
        place
    }

    pub(super) fn entry_confirmed(&mut self, ticket: Ticket) {
        if let Some((leadership, waiter)) = self.entry_of(ticket) {
            leadership.list.confirmed(&waiter);
        }
    }

    /// Lends the entries of an event to the transaction that settles the event.
    pub(super) fn lend(&mut self, ticket: Ticket) -> Vec<P::Delivery> {
        self.entry_of(ticket).map(|(leadership, waiter)| leadership.list.lend(&waiter)).unwrap_or_default()
    }

    /// Takes the entries back after the transaction failed.
    pub(super) fn take_back(&mut self, ticket: Ticket, entries: Vec<P::Delivery>) {
        if let Some((_, waiter)) = self.entry_of(ticket) {
            self.hold_entries(&waiter, entries);
        }
    }

    fn hold_entries(&mut self, waiter: &Waiter, entries: Vec<P::Delivery>) {
        let Some(leadership) = &mut self.leadership else { return };
        let (over, is_waited_for) = leadership.list.take_back(waiter, entries, self.now.since_start);
        self.end_entries(waiter, over, is_waited_for);
    }

    fn end_entries(&mut self, waiter: &Waiter, entries: Vec<P::Delivery>, is_waited_for: bool) {
        if is_waited_for {
            self.requests.push(WorkRequest::Entry(EntryRequest::Remove(waiter.clone(), entries)));
        } else {
            entries.into_iter().for_each(|entry| self.settle_own_message(entry));
        }
    }

    /// Acknowledges a message of the daemon's own whose time is over.
    fn settle_own_message(&mut self, delivery: P::Delivery) {
        self.requests.push(WorkRequest::Settle(delivery, Settlement::Nothing(NothingPublished::OwnMessage)));
    }

    /// Settles a delivery whose transaction succeeded.
    pub(super) fn committed(&mut self, ticket: Ticket, outcome: &DeliveryOutcome) {
        if !outcome.waits()
            && let Some((leadership, waiter)) = self.entry_of(ticket)
        {
            leadership.list.forget(&waiter);
        }
        if let Some(item) = self.items.remove(&ticket) {
            self.settled(&item, outcome);
        }
    }

    /// Settles a delivery: acknowledges it, after the removal of its waiting-list entry.
    pub(super) fn acknowledge(&mut self, ticket: Ticket, outcome: DeliveryOutcome) {
        let waiter = self.entry_of(ticket).filter(|_| !outcome.waits()).map(|(_, waiter)| waiter);
        let Some(item) = self.items.remove(&ticket) else { return };
        let (Some(leadership), Some(waiter)) = (&mut self.leadership, waiter) else {
            return self.settle(item, &outcome);
        };
        match leadership.list.remove(&waiter) {
            Removal::Nothing => return self.settle(item, &outcome),
            Removal::Now(entries) => {
                self.requests.push(WorkRequest::Entry(EntryRequest::Remove(waiter.clone(), entries)));
            }
            Removal::Later => {}
        }
        leadership.ending.entry(waiter).or_default().push(Ending { item, outcome });
    }

    /// Finds out which entries have no event, if there are entries: a marker comes back behind the copies of the events
    /// that wait now.
    pub(super) fn look_for_missing(&mut self) {
        if self.leadership.as_ref().is_some_and(|leadership| !leadership.list.is_empty()) {
            self.send_marker(MarkerRound::First, Duration::ZERO);
        }
    }

    fn send_marker(&mut self, round: MarkerRound, after: Duration) {
        let token = codec::new_id();
        let publication = self.profile.retry_marker(&token);
        if let Some(leadership) = &mut self.leadership {
            leadership.marker = Some(SentMarker { token, round });
            self.requests.push(WorkRequest::Entry(EntryRequest::SendMarker { publication, after }));
        }
    }

    /// Notes that a marker came back; gives the events whose copies did not come back before the second marker.
    pub(super) fn marker_came(&mut self, token: &str) -> Vec<Waiter> {
        let Some(leadership) = &mut self.leadership else { return Vec::new() };
        let Some(marker) = leadership.marker.take_if(|marker| marker.token == token) else { return Vec::new() };
        let (missing, longest) = leadership.list.missing();
        if missing.is_empty() {
            return missing;
        }
        if marker.round == MarkerRound::First {
            // A copy may have been passed on later than the marker, or be held for longer since before the settings changed.
            let led_for = self.now.since_start.saturating_sub(leadership.began);
            self.send_marker(MarkerRound::Second, longest.saturating_sub(led_for));
            return Vec::new();
        }
        missing.iter().for_each(|waiter| self.missing(waiter));
        missing
    }

    /// Notes that an event does not come back.
    pub(super) fn missing(&mut self, waiter: &Waiter) {
        if self.leadership.is_some() {
            self.take_off_list(waiter, OrderLost::Missing);
        }
    }

    /// Takes an event off the list whose order is lost.
    fn take_off_list(&mut self, waiter: &Waiter, why: OrderLost) {
        self.order_lost(why, waiter);
        let removal = self.leadership.as_mut().map(|leadership| leadership.list.remove(waiter));
        if let Some(Removal::Now(entries)) = removal {
            entries.into_iter().for_each(|entry| self.settle_own_message(entry));
        }
    }

    fn order_lost(&mut self, why: OrderLost, waiter: &Waiter) {
        self.ports.report(RouteReport::OrderLost { why, key: &waiter.key, event: &waiter.id });
    }

    /// Notes that an event came; gives the event's entry under another key, which is no longer waited for.
    pub(super) fn event_came(&mut self, waiter: &Waiter) -> Option<Waiter> {
        let other = self.leadership.as_mut()?.list.came(waiter)?;
        self.take_off_list(&other, OrderLost::OtherKey);
        Some(other)
    }

    pub(super) fn entry_arrived(&mut self, delivery: P::Delivery) {
        let Some(leadership) = &mut self.leadership else { return };
        match waiting::read(delivery.message()) {
            ListMessage::Entry(waiter, _) => {
                let (over, is_waited_for) = leadership.list.arrived(&waiter, delivery, self.now.since_start);
                self.end_entries(&waiter, over, is_waited_for);
            }
            // A marker of a daemon that stands by.
            ListMessage::Marker(_) => self.settle_own_message(delivery),
            ListMessage::Unknown => {
                let event = delivery.message().properties.message_id.clone().unwrap_or_default();
                self.ports.report(RouteReport::OrderLost { why: OrderLost::Unreadable, key: "", event: &event });
                self.settle_own_message(delivery);
            }
        }
    }

    pub(super) fn entry_completed(&mut self, completion: EntryCompletion<P::Delivery>) {
        match completion {
            EntryCompletion::Removed(waiter, result) => {
                let Some(leadership) = &mut self.leadership else { return };
                for Ending { item, outcome } in leadership.ending.remove(&waiter).unwrap_or_default() {
                    match &result {
                        Ok(()) => self.settle(item, &outcome),
                        Err(why) => self.ports.report(RouteReport::Left { item: &item, why }),
                    }
                }
            }
            EntryCompletion::Rewritten { old, result: Ok(()), .. } => {
                old.into_iter().for_each(|entry| self.settle_own_message(entry));
            }
            EntryCompletion::Rewritten { waiter, old, result: Err(why) } => {
                self.ports.report(RouteReport::EntryNotRewritten(&why));
                self.hold_entries(&waiter, old);
            }
            EntryCompletion::MarkerSent(Ok(())) => {}
            // A missing event is found by the time that it is away.
            EntryCompletion::MarkerSent(Err(why)) => self.ports.report(RouteReport::MarkerNotSent(&why)),
        }
    }

    /// Publishes the entries again that are held for long.
    pub(super) fn rewrite_entries(&mut self) {
        let (Some(leadership), Some(queue)) = (&mut self.leadership, &self.profile.settings.waiting) else { return };
        for (waiter, place, old) in leadership.list.old(self.now.since_start) {
            let publication = waiting::entry(queue, &waiter, place, self.profile.key.as_ref());
            self.requests.push(WorkRequest::Entry(EntryRequest::Rewrite { waiter, old, publication }));
        }
    }

    pub(super) fn resigned(&mut self) {
        let Some(leadership) = self.leadership.take() else { return };
        for Ending { item, .. } in leadership.ending.into_values().flatten() {
            self.ports.report(RouteReport::Left { item: &item, why: "another daemon manages the waiting list now" });
        }
    }
}
