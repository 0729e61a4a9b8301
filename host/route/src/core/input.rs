//! Inputs of the core.

use super::facts::{DeliveryFacts, Ticket};
use crate::order::list::Waiter;
use trunkline_broker::{DedupeLookup, Passing, Permanent};
use trunkline_event::CallFailure;

/// Why a publish is not complete, by what follows. Confirmed messages stay confirmed.
#[derive(Debug, Clone)]
pub(crate) enum Incomplete {
    /// The outcome of some messages is unknown.
    Lost(String),
    /// The broker may take the refused messages later; the refusals of all refused messages.
    Passing(Vec<Passing>),
    /// The broker refused a message for good.
    Permanent(Permanent),
}

/// An input of the core.
#[derive(Debug)]
pub(crate) enum CoreInput {
    /// A delivery was taken from the queue.
    Arrived(Ticket, DeliveryFacts),
    /// Answer to `Action::LookUp`.
    LookedUp(Ticket, DedupeLookup),
    /// Answer to `Action::Invoke`: the emissions can be published, or the call failed.
    Invoked(Ticket, Result<(), CallFailure>),
    /// Answer to `Action::Publish`, `Action::PublishRest` and `Action::Commit`.
    Published(Ticket, Result<(), Incomplete>),
    /// Answer to `Action::WriteRecord`.
    RecordWritten(Ticket),
    /// The work on a delivery ended without a result, for this reason.
    Abandoned(Ticket, &'static str),
    /// The subscription now, if there is one, and whether an alarm blocks publishing.
    Subscription { now: Option<u64>, blocked: bool },
    /// All events that wait in the broker, each key in its order. This input comes before a new subscription.
    Waiting(Vec<Waiter>),
    /// An event of the waiting list does not wait in the broker.
    Missing(Waiter),
    /// Take nothing new; finish the work in progress.
    Drain,
    /// Time has passed.
    Tick,
}
