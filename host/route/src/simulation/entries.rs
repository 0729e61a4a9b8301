//! The waiting list of the model's ordered route: how a new daemon reads it, and the executor's requests about it.

use super::faulty::Faulty;
use super::ports::{ModelDelivery, ModelQueue};
use super::schedule::{Due, Simulation};
use crate::executor::{EntryCompletion, EntryRequest, ExecutorInput};
use crate::order::list::{self as waiting, List, ListMessage};
use std::sync::Arc;

impl Simulation {
    /// No other daemon has the list, and this daemon has read all of it.
    pub(super) fn read_list(&mut self, incarnation: u64, session: u64) {
        if incarnation != self.incarnation || self.session != Some(session) {
            return;
        }
        let Some(daemon) = &mut self.daemon else { return };
        if daemon.session == Some(session) {
            return;
        }
        let mut list = List::default();
        if Faulty::ListUnread.is_planted() {
            self.entries_soon();
        } else {
            while let Some((tag, message)) = self.broker.next_entry() {
                if let ListMessage::Entry(waiter, place) = waiting::read(&message) {
                    list.read(waiter, place, entry(session, tag, message), self.now);
                }
            }
        }
        if let Some(daemon) = &mut self.daemon {
            daemon.session = Some(session);
        }
        self.step([ExecutorInput::Leading { list, began: self.now }, ExecutorInput::Subscribed { session }]);
    }

    /// An entry of the list comes while events are taken.
    pub(super) fn entry(&mut self, incarnation: u64) {
        let Some(daemon) = self.daemon.as_mut().filter(|_| incarnation == self.incarnation) else { return };
        let Some(session) = daemon.session.filter(|_| daemon.session == self.session) else { return };
        let Some((tag, message)) = self.broker.next_entry() else { return };
        self.step([ExecutorInput::EntryArrived(entry(session, tag, message))]);
    }

    /// Entries of the ordered route that are confirmed come soon.
    pub(super) fn entries_soon(&mut self) {
        for _ in 0..self.broker.entries.len() {
            self.soon(20, Due::Entry(self.incarnation));
        }
    }

    /// Begins a request about the waiting list.
    pub(super) fn work_on_entries(&mut self, request: EntryRequest<ModelDelivery>) {
        let Some(daemon) = &mut self.daemon else { return };
        daemon.entry_work_last += 1;
        let number = daemon.entry_work_last;
        let after = match &request {
            EntryRequest::SendMarker { after, .. } => self.now + *after,
            EntryRequest::Remove(..) | EntryRequest::Rewrite { .. } => self.now,
        };
        daemon.entry_work.insert(number, request);
        let wait = std::time::Duration::from_micros(self.random.u64(1..=5_000));
        self.at(after + wait, Due::EntryWork(self.incarnation, number));
    }

    /// Performs a request about the waiting list.
    pub(super) fn entry_work(&mut self, incarnation: u64, number: u64) {
        let Some(daemon) = self.daemon.as_mut().filter(|_| incarnation == self.incarnation) else { return };
        let is_current = daemon.session == self.session && self.session.is_some();
        let publishes = matches!(daemon.entry_work.get(&number), Some(EntryRequest::SendMarker { .. }));
        if publishes && is_current && self.broker.blocked {
            return self.soon(50, Due::EntryWork(incarnation, number));
        }
        let lost = || Err("the session is over".to_owned());
        let completion = match daemon.entry_work.remove(&number) {
            // It ended with the lead of the route.
            None => return,
            Some(EntryRequest::Remove(waiter, entries)) => {
                let removed = |entry: &ModelDelivery| self.broker.listed.remove(&entry.tag).is_some();
                let is_removed = Faulty::EntryOutlivesEvent.is_planted() || is_current && entries.iter().all(removed);
                EntryCompletion::Removed(waiter, if is_removed { Ok(()) } else { lost() })
            }
            Some(EntryRequest::Rewrite { waiter, old, .. }) => {
                EntryCompletion::Rewritten { waiter, old, result: lost() }
            }
            Some(EntryRequest::SendMarker { publication, .. }) => {
                let is_stored = is_current && self.broker.store(publication, self.now) == super::broker::Taken::Stored;
                EntryCompletion::MarkerSent(if is_stored { Ok(()) } else { lost() })
            }
        };
        self.await_release();
        self.step([ExecutorInput::EntryCompleted(completion)]);
    }
}

fn entry(session: u64, tag: u64, message: Arc<trunkline_event::Message>) -> ModelDelivery {
    ModelDelivery { queue: ModelQueue::List, session, tag, message, deliveries: 0 }
}
