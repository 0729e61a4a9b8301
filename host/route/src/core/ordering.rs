//! Order within an ordering key, on a route with `order-by`.
//!
//! Of the deliveries of one key, one is in work at a time, in the order of arrival. An event that has to be tried again waits
//! in the broker, as on any route. Every delivery of the key that arrives meanwhile waits there too
//! ([`PublishPlan::Park`](super::action::PublishPlan)). RabbitMQ's relay works on many messages at a time, so the events may
//! come back in another order. The core remembers which events of a key wait in the broker, and runs none of the key before
//! the first of these events has come back and is settled. Other keys go on, and no waiting delivery takes a place in the
//! prefetch.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::facts::Ticket;
use crate::order::list::Waiter;

/// Time after which the first waiting event of a key counts as missing. Order is given up rather than progress.
const MISSING_AFTER: Duration = Duration::from_secs(900);

#[derive(Debug, Default)]
struct KeyQueue {
    /// Deliveries of the key, in order of arrival.
    waiting: VecDeque<Ticket>,
    /// The delivery in work.
    busy: Option<Ticket>,
    /// Ids of the events that wait in the broker, in order.
    out: VecDeque<String>,
    /// Time at which the first of these events was last seen.
    seen: Duration,
}

/// Place of a copy among the events of its key that wait in the broker.
#[derive(Debug, Clone, Copy)]
pub(super) enum CopyPlace {
    /// The event was tried, so it was the first of its key and stays the first.
    First,
    /// The event was not tried: it waits behind the events that wait already.
    Last,
}

/// Next step of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextEvent {
    /// No delivery of the key waits, or one is in work.
    None,
    Run(Ticket),
    /// The delivery goes behind the events that wait in the broker.
    Park(Ticket),
    /// An event in the broker did not come back, and the key waits for it no longer.
    Missing(Waiter),
}

#[derive(Debug, Default)]
pub(super) struct OrderingKeys {
    keys: HashMap<String, KeyQueue>,
    woken: VecDeque<String>,
}

impl OrderingKeys {
    pub(super) fn join(&mut self, key: &str, ticket: Ticket) {
        self.keys.entry(key.to_owned()).or_default().waiting.push_back(ticket);
    }

    /// Takes the next delivery of a key into work.
    pub(super) fn next<'j>(
        &mut self,
        key: &str,
        now: Duration,
        facts: impl Fn(Ticket) -> Option<(&'j str, Option<Duration>)>,
    ) -> NextEvent {
        let Some(queue) = self.keys.get_mut(key) else { return NextEvent::None };
        if queue.busy.is_some() {
            return NextEvent::None;
        }
        let Some(ticket) = queue.waiting.front().copied() else {
            if queue.out.is_empty() {
                self.keys.remove(key);
            }
            return NextEvent::None;
        };
        let Some((id, due)) = facts(ticket) else {
            queue.waiting.pop_front();
            return NextEvent::None;
        };
        if queue.seen + MISSING_AFTER < now
            && let Some(first) = queue.out.pop_front_if(|first| first != id)
        {
            queue.seen = now;
            return NextEvent::Missing(Waiter { key: key.to_owned(), id: first });
        }
        queue.waiting.pop_front();
        queue.busy = Some(ticket);
        let is_first = queue.out.front().is_none_or(|first| first == id);
        if is_first {
            queue.seen = now;
        }
        if is_first && due.is_none_or(|due| due <= now) { NextEvent::Run(ticket) } else { NextEvent::Park(ticket) }
    }

    /// Learns all events that wait in the broker, each key in its order.
    pub(super) fn learn(&mut self, waiting: Vec<Waiter>, now: Duration) {
        self.keys.values_mut().for_each(|queue| queue.out.clear());
        for Waiter { key, id } in waiting {
            let queue = self.keys.entry(key).or_default();
            queue.seen = now;
            queue.out.push_back(id);
        }
        self.keys.retain(|_, queue| queue.busy.is_some() || !queue.waiting.is_empty() || !queue.out.is_empty());
    }

    /// Notes that a copy waits in the broker.
    pub(super) fn park(&mut self, key: &str, id: &str, place: CopyPlace, now: Duration) {
        let Some(queue) = self.keys.get_mut(key) else { return };
        if queue.out.is_empty() {
            queue.seen = now;
        }
        if queue.out.iter().any(|known| known == id) {
            return;
        }
        match place {
            CopyPlace::First => queue.out.push_front(id.to_owned()),
            CopyPlace::Last => queue.out.push_back(id.to_owned()),
        }
    }

    /// Notes that an event is settled for good.
    pub(super) fn settle(&mut self, key: &str, id: &str) {
        if let Some(queue) = self.keys.get_mut(key) {
            queue.out.retain(|known| known != id);
        }
    }

    /// Forgets a ticket.
    pub(super) fn leave(&mut self, key: &str, ticket: Ticket) {
        if let Some(queue) = self.keys.get_mut(key) {
            queue.waiting.retain(|known| *known != ticket);
            if queue.busy == Some(ticket) {
                queue.busy = None;
            }
        }
    }

    /// Notes that the key may go on.
    pub(super) fn wake(&mut self, key: String) {
        self.woken.push_back(key);
    }

    pub(super) fn woken(&mut self) -> Option<String> {
        self.woken.pop_front()
    }
}
