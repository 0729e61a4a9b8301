//! The waiting list of an ordered route, while this daemon leads the route.

use std::collections::HashMap;
use std::time::Duration;

use crate::core::DeliveryOutcome;
use crate::inbound::Item;
use crate::order::list::{List, Waiter};

/// The waiting list in the keeping of this daemon.
pub(crate) struct Leadership<D> {
    pub(super) list: List<D>,
    /// When the reading of the list began, since the executor began.
    pub(super) began: Duration,
    /// Settled events that wait for the end of their entry.
    pub(super) ending: HashMap<Waiter, Vec<Ending<D>>>,
    pub(super) marker: Option<SentMarker>,
}

/// An event that is settled and waits for the end of its entry.
pub(super) struct Ending<D> {
    pub(super) item: Item<D>,
    pub(super) outcome: DeliveryOutcome,
}

/// A marker that is held back like the copies.
pub(super) struct SentMarker {
    pub(super) token: String,
    pub(super) round: MarkerRound,
}

/// Two markers travel before an event counts as missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkerRound {
    First,
    Second,
}

impl<D> Leadership<D> {
    pub(super) fn new(list: List<D>, began: Duration) -> Self {
        Self { list, began, ending: HashMap::new(), marker: None }
    }

    /// All events on the list, each key in its order.
    pub(super) fn waiters(&self) -> Vec<Waiter> {
        self.list.waiters()
    }

    /// Events that are settled and not acknowledged.
    pub(super) fn ending(&self) -> usize {
        self.ending.values().map(Vec::len).sum()
    }
}
