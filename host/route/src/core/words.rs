//! What goes into the core, and what comes out.

use std::time::Duration;

use crate::decide::Decision;
use crate::waiting::Waiter;
use trunkline_broker::{Ended, Known, Passing, Permanent};
use trunkline_config::{CircuitBreaker, Rate, Retry, Unroutable};
use trunkline_event::{Failure, Reason};

/// Names a delivery for as long as it is in work; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// What holds for every delivery of a route.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Plugins that run at a time.
    pub(crate) concurrency: usize,
    /// Deliveries that are held at a time; more than `concurrency` when order matters, so that a key that waits does
    /// not hide the others.
    pub(crate) held_max: usize,
    /// Bytes of deliveries that are held at a time.
    pub(crate) bytes_max: usize,
    pub(crate) retry: Retry,
    pub(crate) unroutable: Unroutable,
    /// Events that were settled before are dropped.
    pub(crate) dedupe: bool,
    /// The broker takes publishes, mark and acknowledgement in one transaction.
    pub(crate) atomic: bool,
    pub(crate) circuit: Option<CircuitBreaker>,
    pub(crate) rate: Option<Rate>,
    /// For each tenant by itself.
    pub(crate) tenant_rate: Option<Rate>,
}

/// What the core needs to know of a delivery.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Identity of the event.
    pub(crate) id: String,
    /// The producer gave the id. Without one the daemon gives each message a new one, which no other can repeat.
    pub(crate) own_id: bool,
    /// The broker session it belongs to.
    pub(crate) session: u64,
    /// From 1.
    pub(crate) attempt: u32,
    /// Somebody put it back out of a dead-letter queue, or it is a later attempt of such a one.
    pub(crate) redriven: bool,
    /// It came back twice or more, and may be what ended the daemon.
    pub(crate) suspect: bool,
    /// The key within which order holds.
    pub(crate) lane: Option<String>,
    /// On an ordered route: not before this time.
    pub(crate) due: Option<Duration>,
    /// Whose event it is, on a route that limits each tenant.
    pub(crate) tenant: Option<String>,
    /// Its turn among those of its tenant, if it has waited for one.
    pub(crate) turn: Option<Duration>,
    /// Of its body.
    pub(crate) bytes: usize,
    /// It is no event, or none that is let in: what becomes of it.
    pub(crate) refused: Option<Decision>,
}

/// Why a publish was not confirmed, by what follows. What was confirmed of it stays confirmed.
#[derive(Debug, Clone)]
pub(crate) enum Incomplete {
    /// Nobody knows what became of some messages.
    Lost(String),
    /// The broker may take what it refused later; the refusals of all messages that it refused.
    Passing(Vec<Passing>),
    /// The broker will never take one of the messages.
    Permanent(Permanent),
}

/// What happens to a route.
#[derive(Debug)]
pub(crate) enum Input {
    /// A delivery was taken from the queue.
    Arrived(Ticket, Facts),
    /// Answer to [`Action::Look`].
    Looked(Ticket, Known),
    /// Answer to [`Action::Invoke`]: its emissions can be published, or what went wrong.
    Invoked(Ticket, Result<(), Failure>),
    /// Answer to [`Action::Publish`], [`Action::PublishRest`] and [`Action::Commit`].
    Published(Ticket, Result<(), Incomplete>),
    /// Answer to [`Action::Mark`].
    Marked(Ticket),
    /// Whatever was begun for it came to nothing, and why.
    Abandoned(Ticket, &'static str),
    /// The broker's session now, if there is one, and whether it takes publishes.
    Session { now: Option<u64>, blocked: bool },
    /// These events wait in the broker, each key in its order, and no others do. Ahead of a new session.
    Waiting(Vec<Waiter>),
    /// An event that was thought to wait in the broker does not.
    Missing(Waiter),
    /// Take nothing new; finish what runs.
    Drain,
    /// Time has passed.
    Tick,
}

/// What is published for a delivery.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plan {
    /// What the plugin emitted.
    Emissions,
    /// A copy into a retry or dead-letter queue.
    Copy(Decision),
    /// A copy into the dead-letter queue without most of its body: the broker does not take a body of this size.
    Cut(Reason, String),
    /// A copy to the end of the order queue, attempts unchanged: one before it with its key is not settled.
    Park,
    /// A copy that comes back after this time, attempts unchanged: its tenant has had its share.
    Queue(Duration),
}

impl Plan {
    /// Whether the event comes back in its order.
    pub(crate) fn waits(&self) -> bool {
        matches!(self, Self::Park | Self::Copy(Decision::Retry { .. }))
    }
}

/// What is to be done. Each is begun at once, in order.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// Ask the dedupe window.
    Look(Ticket),
    /// Run the plugin.
    Invoke(Ticket),
    /// Publish and wait for every confirm.
    Publish(Ticket, Plan),
    /// Publish again what of the last plan is not confirmed.
    PublishRest(Ticket),
    /// Publish, mark (when told how) and acknowledge in one transaction. It ends the ticket when it succeeds.
    Commit(Ticket, Plan, Option<Ended>),
    /// Note in the dedupe window how the event ended.
    Mark(Ticket, Ended),
    /// Acknowledge. It ends the ticket.
    Ack(Ticket, Settled),
    /// It is acknowledged, by the transaction. It ends the ticket.
    Settled(Ticket, Settled),
    /// The broker does not take what is published; the rest of it is tried again, and the route waits.
    Stuck(Ticket, String),
    /// Nothing waits for the broker to take it any more.
    Unstuck,
    /// Give no answer; the broker delivers it again. It ends the ticket.
    Leave(Ticket, String),
    /// An event that waits in the broker did not come back for long; those behind it wait for it no more.
    Missing(Waiter),
    /// The circuit opened, or closed.
    Circuit(bool),
}

/// What an acknowledged delivery came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Settled {
    /// Its emissions are published.
    Emitted,
    /// A copy is where the decision says.
    Copied(Decision),
    /// A copy waits behind others of its key or its tenant.
    Parked,
    /// It was settled before.
    Repeat,
}

impl Settled {
    /// Whether the event comes back in its order.
    pub(crate) fn waits(&self) -> bool {
        matches!(self, Self::Parked | Self::Copied(Decision::Retry { .. }))
    }
}
