//! Order within a key, on a route with `order-by`.
//!
//! The deliveries of one key are a *lane*: one is in work at a time, in the order in which they came. When one of them
//! has to be tried again it waits in the broker, as on any route, and everything with its key that comes meanwhile is
//! sent after it into the same queue ([`Plan::Park`](super::Plan)). That queue is first-in, first-out, so they come back
//! in order; the lane remembers which of them are out, and none of the key runs before the first of these has come back
//! and is settled. Other keys go on, and no waiting delivery takes a place in the prefetch.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::Ticket;
use crate::waiting::Waiter;

/// The first of a lane that does not come back for so long was settled by others or is lost to us: order is given up
/// rather than progress.
const MISSING_AFTER: Duration = Duration::from_secs(900);

#[derive(Debug, Default)]
struct Lane {
    /// Held here, in order of arrival.
    waiting: VecDeque<Ticket>,
    /// The one in work.
    busy: Option<Ticket>,
    /// Ids that wait in the broker, in order, and when that of the first was last seen.
    out: VecDeque<String>,
    seen: Duration,
}

/// What the first of a lane may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is none, or one of its key is in work.
    Nobody,
    Run(Ticket),
    /// It goes behind those that are out.
    Park(Ticket),
    /// One that is out did not come back, and is not waited for any more.
    Missing(Waiter),
}

#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<String, Lane>,
    woken: VecDeque<String>,
}

impl Lanes {
    pub(super) fn join(&mut self, key: &str, ticket: Ticket) {
        self.lanes.entry(key.to_owned()).or_default().waiting.push_back(ticket);
    }

    /// Takes the next one of a lane into work.
    pub(super) fn next<'j>(
        &mut self,
        key: &str,
        now: Duration,
        facts: impl Fn(Ticket) -> Option<(&'j str, Option<Duration>)>,
    ) -> Turn {
        let Some(lane) = self.lanes.get_mut(key) else { return Turn::Nobody };
        if lane.busy.is_some() {
            return Turn::Nobody;
        }
        let Some(ticket) = lane.waiting.front().copied() else {
            if lane.out.is_empty() {
                self.lanes.remove(key);
            }
            return Turn::Nobody;
        };
        let Some((id, due)) = facts(ticket) else {
            lane.waiting.pop_front();
            return Turn::Nobody;
        };
        if lane.seen + MISSING_AFTER < now
            && let Some(first) = lane.out.pop_front_if(|first| first != id)
        {
            lane.seen = now;
            return Turn::Missing(Waiter { key: key.to_owned(), id: first });
        }
        lane.waiting.pop_front();
        lane.busy = Some(ticket);
        let is_first = lane.out.front().is_none_or(|first| first == id);
        if is_first {
            lane.seen = now;
        }
        if is_first && due.is_none_or(|due| due <= now) { Turn::Run(ticket) } else { Turn::Park(ticket) }
    }

    /// These wait in the broker, each key in its order, and nobody else does.
    pub(super) fn learn(&mut self, waiting: Vec<Waiter>, now: Duration) {
        self.lanes.values_mut().for_each(|lane| lane.out.clear());
        for Waiter { key, id } in waiting {
            let lane = self.lanes.entry(key).or_default();
            lane.seen = now;
            lane.out.push_back(id);
        }
        self.lanes.retain(|_, lane| lane.busy.is_some() || !lane.waiting.is_empty() || !lane.out.is_empty());
    }

    /// A copy waits in the broker: as the first of its key when it was tried, else behind those that are out already.
    pub(super) fn park(&mut self, key: &str, id: &str, was_tried: bool, now: Duration) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        if lane.out.is_empty() {
            lane.seen = now;
        }
        if lane.out.iter().any(|known| known == id) {
            return;
        }
        if was_tried {
            lane.out.push_front(id.to_owned());
        } else {
            lane.out.push_back(id.to_owned());
        }
    }

    /// An event is settled for good.
    pub(super) fn settle(&mut self, key: &str, id: &str) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.out.retain(|known| known != id);
        }
    }

    /// A ticket is gone.
    pub(super) fn leave(&mut self, key: &str, ticket: Ticket) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.waiting.retain(|known| *known != ticket);
            if lane.busy == Some(ticket) {
                lane.busy = None;
            }
        }
    }

    /// The lane is to be looked at.
    pub(super) fn wake(&mut self, key: String) {
        self.woken.push_back(key);
    }

    pub(super) fn woken(&mut self) -> Option<String> {
        self.woken.pop_front()
    }
}
