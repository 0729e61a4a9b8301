//! One delivery in work, as the executor holds it.

use std::sync::Arc;
use std::time::Duration;

use super::provenance::Provenance;
use crate::core::Ticket;
use crate::order::list::{ListPlace, Waiter};
use trunkline_broker::{Batch, Confirmed, DedupeRecord, Publication, Settlement};
use trunkline_event::{Event, Message};

/// One delivery in work, as the executor holds it: the message, the event and the answers so far. The core knows the same
/// delivery as a `Job`.
#[derive(Debug)]
pub(crate) struct Item<D> {
    pub(crate) ticket: Ticket,
    /// Taken when the delivery is answered or handed to a transaction.
    pub(crate) delivery: Option<D>,
    pub(crate) message: Arc<Message>,
    pub(crate) event: Option<Arc<Event>>,
    pub(crate) provenance: Provenance,
    /// Time of arrival, since the executor began.
    pub(crate) started: Duration,
    /// Dedupe record of the event, on a route with `dedupe`.
    pub(crate) record: Option<DedupeRecord>,
    /// Emissions of the plugin, as messages.
    pub(crate) emissions: Vec<Publication>,
    /// Messages that are to be published and are not confirmed completely, while none of them is on its way.
    pub(crate) open: Option<Batch>,
    /// Answer to the delivery, once every message of the last plan is confirmed.
    pub(crate) settlement: Option<Settlement>,
    /// The broker's answer for each message that was published last.
    pub(crate) confirmed: Vec<Confirmed>,
    /// Number of the subscription that the delivery came from.
    pub(crate) subscription: u64,
    /// Name of the event on the waiting list, on an ordered route.
    pub(crate) waiter: Option<Waiter>,
    /// Place of the event on the waiting list, while the entry is not confirmed.
    pub(crate) place: Option<ListPlace>,
}
