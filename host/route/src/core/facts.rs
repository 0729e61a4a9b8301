//! Values that the core decides by: the settings of a route, and the values of a delivery.

use std::time::Duration;

use super::decision::Decision;
use trunkline_config::{CircuitBreaker, Rate, Retry, Unroutable};

/// Name of a delivery while it is in work; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// Settings of a route that hold for every delivery.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Calls that may run at a time. A delivery whose messages wait for their confirms takes no place.
    pub(crate) concurrency: usize,
    /// Deliveries that may be held at a time.
    pub(crate) held_max: usize,
    /// Deliveries that may wait for the place of a call. More deliveries stay with the client of the broker.
    pub(crate) waiting_max: usize,
    /// Bytes of bodies that may be held at a time.
    pub(crate) bytes_max: usize,
    pub(crate) retry: Retry,
    pub(crate) unroutable: Unroutable,
    /// Whether events that were settled before are dropped.
    pub(crate) dedupe: bool,
    /// Whether the broker takes publishes, dedupe record and acknowledgement in one transaction.
    pub(crate) atomic: bool,
    pub(crate) circuit: Option<CircuitBreaker>,
    pub(crate) rate: Option<Rate>,
    /// Rate of each tenant.
    pub(crate) tenant_rate: Option<Rate>,
}

/// Values of a delivery that the core decides by.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryFacts {
    /// Id of the event.
    pub(crate) id: String,
    /// Whether the producer gave the id. Otherwise the daemon made a new id for the message.
    pub(crate) own_id: bool,
    /// Number of the subscription that the delivery came from.
    pub(crate) subscription: u64,
    /// Number of the attempt, from 1.
    pub(crate) attempt: u32,
    /// Whether the event was redriven, or is a later attempt of a redriven event.
    pub(crate) redriven: bool,
    /// Whether the message came back twice or more, and may have ended the daemon.
    pub(crate) suspect: bool,
    /// Ordering key, on an ordered route.
    pub(crate) ordering_key: Option<String>,
    /// Earliest time of the attempt, on an ordered route.
    pub(crate) due: Option<Duration>,
    /// Tenant of the event, on a route with a rate for each tenant.
    pub(crate) tenant: Option<String>,
    /// Turn of the event among the events of its tenant, if the event has waited for one.
    pub(crate) turn: Option<Duration>,
    /// Time at which the message's own TTL ends, if the message has one.
    pub(crate) expires: Option<Duration>,
    /// Size of the body.
    pub(crate) bytes: usize,
    /// Decision about a message that is not an event, or about an event that is not let in.
    pub(crate) refused: Option<Decision>,
}

impl DeliveryFacts {
    /// Whether the message's own TTL is over.
    pub(crate) fn has_expired(&self, now: Duration) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}
