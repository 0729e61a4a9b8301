//! The ports of the executor: requests, answers, reports and the clock. A route has the broker, the plugin and the clock
//! behind these ports; the simulator has a model behind the same ports.

use std::sync::Arc;
use std::time::Duration;

use crate::core::{CircuitState, DeliveryOutcome, Ticket};
use crate::inbound::{ExecutorTime, IncomingDelivery, Item};
use crate::order::list::{List, Waiter};
use trunkline_broker::{
    Batch, Confirmed, DedupeLookup, DedupeRecord, NothingPublished, Publication, Receipt, Settlement, Unpublished,
};
use trunkline_event::{CallFailure, Event};
use trunkline_telemetry::{OrderLost, PublishResult};

/// Questions that the surroundings answer at once, and reports that need no answer.
pub(crate) trait Ports {
    type Delivery: IncomingDelivery;

    fn clock(&self) -> ExecutorTime;

    /// SHA-256 digest of the plugin that runs now, in hexadecimal; empty on an archive route.
    fn plugin_digest(&self) -> Arc<str>;

    /// Reason why an event without emissions may be acknowledged.
    fn nothing_published(&self) -> NothingPublished;

    /// Reports an occurrence for log and metrics.
    fn report(&mut self, report: RouteReport<'_, Self::Delivery>);
}

/// An occurrence that log and metrics show.
pub(crate) enum RouteReport<'a, D> {
    /// A delivery was read.
    Received(&'a Item<D>),
    /// A delivery is settled, `took` after it arrived.
    Settled { item: &'a Item<D>, outcome: &'a DeliveryOutcome, took: Duration },
    /// A delivery has no settlement, although the core acknowledges it. The delivery stays unacknowledged.
    Unproven { item: &'a Item<D>, outcome: &'a DeliveryOutcome },
    /// A delivery gets no answer; the broker delivers the message again.
    Left { item: &'a Item<D>, why: &'a str },
    /// The broker does not take the messages of an event, and the route waits.
    Held { event: &'a str, why: &'a str },
    /// No event waits for the broker to take its messages any more.
    Released,
    /// The circuit breaker opened or closed.
    Circuit(CircuitState),
    /// The order of an event may not have been kept.
    OrderLost { why: OrderLost, key: &'a str, event: &'a str },
    /// An event of a route with `order-by` has no value for the ordering key.
    NoOrderingKey { event: &'a str },
    /// The broker refused a message for good.
    RefusedForGood(&'a str),
    /// Messages that a publish did not get confirmed.
    Unconfirmed { result: PublishResult, messages: u64 },
    /// A waiting-list entry could not be published again.
    EntryNotRewritten(&'a str),
    /// The marker that finds missing events could not be published.
    MarkerNotSent(&'a str),
}

/// Work that takes time. The surroundings begin it at once, in order, and answer each request that has a completion.
pub(crate) enum WorkRequest<D> {
    /// Look the dedupe record of an event up. Answer: [`Completion::LookedUp`].
    LookUp(Ticket, DedupeRecord),
    /// Run the plugin on an event that was received at the RFC 3339 time. Answer: [`Completion::Invoked`].
    Invoke { ticket: Ticket, event: Arc<Event>, received_at: String },
    /// Publish the unconfirmed messages of a batch. Answer: [`Completion::Published`].
    Publish(Ticket, Batch),
    /// Publish, write the dedupe record and acknowledge in one transaction. Answer: [`Completion::Committed`].
    Commit { ticket: Ticket, deliveries: DeliveryGroup<D>, batch: Batch, record: Option<DedupeRecord> },
    /// Write a dedupe record. Answer: [`Completion::RecordWritten`].
    WriteRecord(Ticket, DedupeRecord),
    /// Acknowledge a delivery. There is no answer.
    Settle(D, Settlement),
    /// Work on the waiting list, for as long as this daemon leads its ordered route.
    Entry(EntryRequest<D>),
}

/// Deliveries that one transaction acknowledges: the event's, and the waiting-list entries that end with the event.
#[derive(Debug)]
pub(crate) struct DeliveryGroup<D> {
    pub(crate) first: D,
    pub(crate) entries: Vec<D>,
}

/// Work on the waiting list.
pub(crate) enum EntryRequest<D> {
    /// Acknowledge entries one after the other, and answer when the acknowledgements are on their way. Answer:
    /// [`EntryCompletion::Removed`].
    Remove(Waiter, Vec<D>),
    /// Publish an entry again, because its deliveries are held for long. Answer: [`EntryCompletion::Rewritten`].
    Rewrite { waiter: Waiter, old: Vec<D>, publication: Publication },
    /// Publish a marker after a pause. Answer: [`EntryCompletion::MarkerSent`].
    SendMarker { publication: Publication, after: Duration },
}

/// Answer to a request about one delivery.
pub(crate) enum Completion<D> {
    LookedUp(DedupeLookup),
    Invoked(CallResult),
    Published(Result<Receipt, Unpublished>),
    Committed(Result<Vec<Confirmed>, Box<FailedCommit<D>>>),
    RecordWritten,
    /// The work ended without a result, for this reason. The broker delivers the message again.
    Abandoned(&'static str),
}

/// A transaction that changed nothing.
pub(crate) struct FailedCommit<D> {
    pub(crate) deliveries: DeliveryGroup<D>,
    pub(crate) unpublished: Unpublished,
}

/// Answer to a request about the waiting list; errors are texts.
pub(crate) enum EntryCompletion<D> {
    Removed(Waiter, Result<(), String>),
    Rewritten { waiter: Waiter, old: Vec<D>, result: Result<(), String> },
    MarkerSent(Result<(), String>),
}

/// An input of the executor.
pub(crate) enum ExecutorInput<D> {
    /// A delivery was taken from the route's queue.
    Arrived(D),
    /// A request is answered.
    Completed(Ticket, Completion<D>),
    /// A request about the waiting list is answered.
    EntryCompleted(EntryCompletion<D>),
    /// A message of the waiting list's queue arrived.
    EntryArrived(D),
    /// It is time to publish old waiting-list entries again.
    RewriteDue,
    /// The broker's state: the session while there is one, and whether publishing is blocked by an alarm.
    Broker { session: Option<u64>, blocked: bool },
    /// Deliveries come from a new subscription in this session of the broker.
    Subscribed { session: u64 },
    /// The subscription is over: the broker delivers its messages again.
    Unsubscribed,
    /// This daemon leads its ordered route from now on. `began` is when the reading of the list began.
    Leading { list: List<D>, began: Duration },
    /// This daemon leads its ordered route no longer.
    Resigned,
    /// Begin nothing new; finish the work in progress.
    Drain,
    /// Time has passed.
    Tick,
}

/// Result of a plugin's call.
pub(crate) struct CallResult {
    pub(crate) result: Result<Vec<Publication>, CallFailure>,
    /// Last lines that the plugin logged or printed.
    pub(crate) log: String,
    /// Name of the plugin that ran, which may be another one than at the arrival of the delivery.
    pub(crate) plugin: Arc<str>,
    pub(crate) digest: Arc<str>,
}
