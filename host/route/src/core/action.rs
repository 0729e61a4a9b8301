//! Actions of the core.

use std::time::Duration;

use super::decision::Decision;
use super::facts::Ticket;
use crate::order::list::Waiter;
use trunkline_broker::SettledAs;
use trunkline_event::Reason;

/// The messages that are published for a delivery.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PublishPlan {
    /// The emissions of the plugin.
    Emissions,
    /// A copy for a retry or for the dead-letter queue.
    Copy(Decision),
    /// A copy into the dead-letter queue without most of its body, because the broker does not take a body of this size.
    Cut(Reason, String),
    /// A copy that comes back after a round, with the same attempt: an earlier event of its key is not settled.
    Park,
    /// A copy that comes back after this time, with the same attempt: its tenant has used its rate.
    AwaitTurn(Duration),
}

impl PublishPlan {
    /// Whether the event waits in the broker and comes back in its order.
    pub(crate) fn waits(&self) -> bool {
        matches!(self, Self::Park | Self::Copy(Decision::Retry { .. }))
    }
}

/// An action that the executor begins at once, in order.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// Look the dedupe record up.
    LookUp(Ticket),
    /// Run the plugin.
    Invoke(Ticket),
    /// Publish and wait for every confirm.
    Publish(Ticket, PublishPlan),
    /// Publish the messages of the last plan that are not confirmed.
    PublishRest(Ticket),
    /// Publish, write a dedupe record with this end, and acknowledge, in one transaction. Success ends the ticket.
    Commit(Ticket, PublishPlan, Option<SettledAs>),
    /// Write the dedupe record with the end of the event.
    WriteRecord(Ticket, SettledAs),
    /// Acknowledge. This ends the ticket.
    Acknowledge(Ticket, DeliveryOutcome),
    /// The transaction acknowledged the delivery. This ends the ticket.
    Committed(Ticket, DeliveryOutcome),
    /// Report that the broker does not take a message. The core publishes it again, and the route waits.
    ReportHeld(Ticket, String),
    /// Report that no message waits for the broker any more.
    ReportReleased,
    /// Give no answer; the broker delivers the message again. This ends the ticket.
    LeaveToBroker(Ticket, String),
    /// Report that an event of the waiting list did not come back for long. Later events of its key wait no longer.
    ReportMissing(Waiter),
    /// Report that the circuit breaker opened or closed.
    ReportCircuit(CircuitState),
}

/// Outcome of an acknowledged delivery.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DeliveryOutcome {
    /// The emissions are published.
    Emitted,
    /// A copy is published, as the decision says.
    Copied(Decision),
    /// A copy waits behind earlier events of its key or its tenant.
    Parked,
    /// The event was settled before.
    Repeat,
}

impl DeliveryOutcome {
    /// Whether the event waits in the broker and comes back in its order.
    pub(crate) fn waits(&self) -> bool {
        matches!(self, Self::Parked | Self::Copied(Decision::Retry { .. }))
    }
}

/// State of the circuit breaker that its reports give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CircuitState {
    /// The route consumes nothing.
    Open,
    /// The route consumes as usual.
    Closed,
}
