//! The end of a delivery: the proof that allows its acknowledgement, and what log and metrics say of it.

use super::Route;
use super::core::Settled;
use super::decide::Decision;
use super::handle::{Item, Proof};
use trunkline_broker::{Confirmed, NothingPublished, Publication, Settlement};
use trunkline_event::Reason;
use trunkline_telemetry::{self as telemetry, EmittedTrace, PublishResult, SettledTrace};

impl Route {
    /// A delivery is done with; it is acknowledged here unless a transaction did so.
    pub(super) fn settle(&self, item: Item, settled: &Settled, acknowledge: bool) {
        let (outcome, reason) = match settled {
            Settled::Emitted => (telemetry::Settled::Ack, None),
            Settled::Copied(Decision::Retry { .. }) => (telemetry::Settled::Retry, None),
            Settled::Copied(Decision::DeadLetter { reason, .. }) => (telemetry::Settled::DeadLetter, Some(*reason)),
            Settled::Parked => (telemetry::Settled::Parked, None),
            Settled::Repeat => (telemetry::Settled::Dropped, None),
        };
        if *settled == Settled::Emitted {
            self.count_confirmed(&item);
        }
        let took = item.started.elapsed();
        self.tell(&item, settled);
        self.trace(&item, outcome, reason);
        if acknowledge {
            self.acknowledge(item, settled);
        }
        self.metrics.settled(outcome, took);
    }

    /// Nothing but a proof acknowledges. A delivery without one, which would be our bug, comes again.
    fn acknowledge(&self, mut item: Item, settled: &Settled) {
        let settlement = match (settled, item.proof.take()) {
            (Settled::Repeat, _) => Settlement::Nothing(NothingPublished::Duplicate),
            (_, Some(Proof::Receipt(receipt))) => Settlement::Published(receipt),
            (Settled::Emitted, Some(Proof::Nothing(why))) => Settlement::Nothing(why),
            (_, Some(Proof::Nothing(_)) | None) => {
                let (route, event) = (&self.name, &item.seen.id);
                return tracing::error!(%route, event, ?settled, "nothing proves that this was published; report this");
            }
        };
        if let Some(delivery) = item.delivery.take() {
            delivery.settle(settlement);
        }
    }

    fn tell(&self, item: &Item, settled: &Settled) {
        let (metrics, seen) = (&self.metrics, &item.seen);
        match settled {
            Settled::Copied(Decision::Retry { step, error }) => {
                metrics.retry_scheduled(&seen.id, seen.attempt + 1, step.delay, error);
            }
            Settled::Copied(Decision::DeadLetter { reason, error }) => metrics.dead_lettered(&seen.id, *reason, error),
            Settled::Emitted | Settled::Parked | Settled::Repeat => {}
        }
    }

    /// Counts what the broker confirmed of the emissions.
    fn count_confirmed(&self, item: &Item) {
        let mut confirmed = 0;
        for (answer, publication) in item.confirmed.iter().zip(&item.emissions) {
            match answer {
                Confirmed::Routed => confirmed += 1,
                Confirmed::Unrouted => {
                    self.metrics.publish_result(PublishResult::Unroutable, 1);
                    self.mention_unroutable(publication.message.properties.kind.as_deref().unwrap_or_default());
                }
            }
        }
        self.metrics.publish_result(PublishResult::Confirmed, confirmed);
    }

    fn trace(&self, item: &Item, settled: telemetry::Settled, reason: Option<Reason>) {
        if !SettledTrace::is_wanted() {
            return;
        }
        let message = &item.message;
        let kind = message.properties.kind.as_deref().unwrap_or(message.routing_key.as_str());
        let emitted = if settled == telemetry::Settled::Ack {
            traces(&item.emissions, &item.confirmed, |text| self.handler.clean(text))
        } else {
            Vec::new()
        };
        SettledTrace { route: &self.name, event: &item.seen.id, kind, settled, reason }.write(&emitted);
    }
}

/// What was emitted, for the log: without the plugin's secrets, which it may well send to where they belong.
fn traces(emissions: &[Publication], confirmed: &[Confirmed], clean: impl Fn(&str) -> String) -> Vec<EmittedTrace> {
    let trace = |(answer, publication): (&Confirmed, &Publication)| {
        let message = &publication.message;
        EmittedTrace {
            id: message.properties.message_id.clone().unwrap_or_default(),
            r#type: clean(message.properties.kind.as_deref().unwrap_or_default()),
            exchange: message.exchange.to_string(),
            routing_key: clean(message.routing_key.as_str()),
            routed: *answer == Confirmed::Routed,
            data: clean(&String::from_utf8_lossy(&message.body)),
        }
    };
    confirmed.iter().zip(emissions).map(trace).collect()
}
