//! The end of a delivery: its settlement and its acknowledgement.

use super::ports::{Ports, RouteReport, WorkRequest};
use super::state::Executor;
use crate::core::DeliveryOutcome;
use crate::inbound::Item;
use trunkline_broker::{NothingPublished, Settlement};

impl<P: Ports> Executor<P> {
    /// Reports that a delivery is settled.
    pub(super) fn settled(&mut self, item: &Item<P::Delivery>, outcome: &DeliveryOutcome) {
        let took = self.now.since_start.saturating_sub(item.started);
        self.ports.report(RouteReport::Settled { item, outcome, took });
    }

    /// Acknowledges a delivery. A delivery without a settlement, which would be a defect, stays unacknowledged. The broker
    /// then delivers the message again.
    pub(super) fn settle(&mut self, mut item: Item<P::Delivery>, outcome: &DeliveryOutcome) {
        self.settled(&item, outcome);
        let settlement = match (outcome, item.settlement.take()) {
            (DeliveryOutcome::Repeat, _) => Settlement::Nothing(NothingPublished::Duplicate),
            (_, Some(published @ Settlement::Published(_))) => published,
            (DeliveryOutcome::Emitted, Some(nothing @ Settlement::Nothing(_))) => nothing,
            (_, Some(Settlement::Nothing(_)) | None) => {
                return self.ports.report(RouteReport::Unproven { item: &item, outcome });
            }
        };
        if let Some(delivery) = item.delivery.take() {
            self.requests.push(WorkRequest::Settle(delivery, settlement));
        }
    }
}
