//! Publishing, dedupe records and acknowledgements, in one transaction each.

use super::broker::EmbeddedBroker;
use crate::delivery::AckHandle;
use crate::embedded::plan::WriteRequest;
use crate::embedded::state::Destinations;
use crate::embedded::store::{DelayKind, DelayedRecord};
use crate::{
    Batch, Confirmed, DELAY_MAX, DedupeLookup, DedupeRecord, Deliveries, Delivery, Error, Passing, Permanent,
    Publication, Receipt, Refusal, Unpublished,
};
use trunkline_event::millis;

impl EmbeddedBroker {
    /// Publishes a batch whole or not at all; see [`Broker::publish`](crate::Broker::publish).
    ///
    /// # Errors
    /// [`Unpublished`]; nothing is stored then.
    pub async fn publish(&self, batch: Batch) -> Result<Receipt, Unpublished> {
        let (request, confirmed) = match self.compose(&batch) {
            Ok(composed) => composed,
            Err(refused) => return Err(Unpublished { batch, refused, lost: None }),
        };
        let has_messages = !request.delayed.is_empty() || request.routed.iter().any(|(_, queues)| !queues.is_empty());
        if has_messages && let Err(write_error) = self.shared.write(request).await {
            return Err(write_error.into_unpublished(batch));
        }
        complete(batch, &confirmed)
    }

    /// Publishes one message and writes its dedupe record in one transaction; see
    /// [`Broker::publish_recorded`](crate::Broker::publish_recorded).
    ///
    /// # Errors
    /// As [`EmbeddedBroker::publish`].
    pub async fn publish_recorded(
        &self,
        publication: Publication,
        dedupe_record: impl FnOnce(Confirmed) -> DedupeRecord,
    ) -> Result<Confirmed, Unpublished> {
        let batch = Batch::from(publication);
        let (request, confirmed) = match self.compose(&batch) {
            Ok(composed) => composed,
            Err(refused) => return Err(Unpublished { batch, refused, lost: None }),
        };
        let confirmed = confirmed.first().copied().unwrap_or(Confirmed::Unrouted);
        match self.shared.write(WriteRequest { dedupe_record: Some(dedupe_record(confirmed)), ..request }).await {
            Ok(()) => Ok(confirmed),
            Err(write_error) => Err(write_error.into_unpublished(batch)),
        }
    }

    /// Publishes, writes a dedupe record and acknowledges in one transaction; see [`Broker::commit`](crate::Broker::commit).
    ///
    /// # Errors
    /// As [`EmbeddedBroker::publish`], with the deliveries.
    pub async fn commit(
        &self,
        deliveries: Deliveries,
        batch: Batch,
        dedupe_record: Option<DedupeRecord>,
    ) -> Result<Vec<Confirmed>, Box<(Deliveries, Unpublished)>> {
        let id = |delivery: &Delivery| match &delivery.ack_handle {
            AckHandle::Embedded(handle) => Some(handle.id()),
            AckHandle::Amqp(_) => None,
        };
        let Some(settles) = deliveries.all().map(id).collect::<Option<Vec<_>>>() else {
            return Err(Box::new((deliveries, Unpublished::lost(batch, "the delivery belongs to another broker"))));
        };
        let (request, confirmed) = match self.compose(&batch) {
            Ok(composed) => composed,
            Err(refused) => return Err(Box::new((deliveries, Unpublished { batch, refused, lost: None }))),
        };
        if let Err(write_error) = self.shared.write(WriteRequest { settles, dedupe_record, ..request }).await {
            return Err(Box::new((deliveries, write_error.into_unpublished(batch))));
        }
        for Delivery { ack_handle, .. } in deliveries.into_all() {
            match ack_handle {
                AckHandle::Embedded(handle) => handle.committed(),
                AckHandle::Amqp(_) => {}
            }
        }
        Ok(confirmed)
    }

    /// Looks up whether an event was settled within its dedupe window.
    pub async fn look_up(&self, dedupe_record: &DedupeRecord) -> DedupeLookup {
        let (shared, dedupe_record) = (self.shared.clone(), dedupe_record.clone());
        let looked = tokio::task::spawn_blocking(move || match shared.store().as_ref() {
            Some(store) => store.look_up(&dedupe_record, shared.clock.now_ms()),
            None => Err("the store is not open".to_owned()),
        });
        looked.await.unwrap_or_else(|panicked| Err(panicked.to_string())).unwrap_or_else(|error| {
            tracing::error!(error, "a dedupe record cannot be read; the event counts as new");
            DedupeLookup::Unknown
        })
    }

    /// Writes the dedupe record of a settled event.
    ///
    /// # Errors
    /// [`Error::Lost`] when the store failed.
    pub async fn record(&self, dedupe_record: DedupeRecord) -> Result<(), Error> {
        let written =
            self.shared.write(WriteRequest { dedupe_record: Some(dedupe_record), ..WriteRequest::default() }).await;
        written.map_err(|write_error| Error::Lost(write_error.to_string()))
    }

    /// The request for a batch, and the confirm of each message after it is stored; or the messages that are refused.
    fn compose(&self, batch: &Batch) -> Result<(WriteRequest, Vec<Confirmed>), Refusals> {
        let mut refused = Vec::new();
        let mut confirmed = Vec::with_capacity(batch.open());
        let mut request = WriteRequest::default();
        for (index, publication) in batch.rest() {
            let destinations = match self.route(publication) {
                Ok(destinations) => destinations,
                Err(refusal) => {
                    refused.push((index, refusal));
                    continue;
                }
            };
            confirmed.push(if destinations.is_routable { Confirmed::Routed } else { Confirmed::Unrouted });
            let message = publication.message.clone();
            match publication.delay.filter(|delay| !delay.is_zero()) {
                Some(delay) => {
                    let kind = DelayKind::of(publication);
                    let due = self.shared.clock.now_ms().saturating_add(millis(delay));
                    request.delayed.push((due, DelayedRecord { kind, message }));
                }
                None => request.routed.push((message, destinations.queues)),
            }
        }
        if refused.is_empty() { Ok((request, confirmed)) } else { Err(refused) }
    }

    fn route(&self, publication: &Publication) -> Result<Destinations, Refusal> {
        let message = &publication.message;
        message.check().map_err(Permanent::Limit)?;
        if let Some(delay) = publication.delay.filter(|delay| *delay > DELAY_MAX) {
            return Err(Permanent::Delay(delay).into());
        }
        let destinations = self.shared.routing.load().route(message)?;
        if !destinations.is_routable && !publication.accept_unroutable {
            let (exchange, key) = (message.exchange.to_string(), message.routing_key.to_string());
            return Err(Passing::Unroutable { exchange, key }.into());
        }
        Ok(destinations)
    }
}

/// Refusals of messages of a batch by their index.
type Refusals = Vec<(usize, Refusal)>;

/// The receipt of a stored batch.
fn complete(mut batch: Batch, confirmed: &[Confirmed]) -> Result<Receipt, Unpublished> {
    let open: Vec<usize> = batch.rest().map(|(index, _)| index).collect();
    open.into_iter().zip(confirmed).for_each(|(index, confirmed)| batch.confirm(index, *confirmed));
    batch.receipt().map_err(|batch| Unpublished::lost(batch, "a message has no confirm"))
}
