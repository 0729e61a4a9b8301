//! The ports of a real route: its clock, its plugin, and its log and metrics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::ports::{Ports, RouteReport};
use crate::codec::header;
use crate::core::{CircuitState, Decision, DeliveryOutcome};
use crate::inbound::{ExecutorTime, Item};
use crate::route_runner::RouteRunner;
use trunkline_broker::{Confirmed, Delivery, NothingPublished, Publication};
use trunkline_event::{Message, Reason, timestamp_since_epoch};
use trunkline_telemetry::{self as telemetry, Condition, EmittedTrace, PublishResult, SettledTrace};

/// Time between two log lines about one unroutable type, about events without an ordering key, and about lost replies.
const NOTICE: Duration = Duration::from_secs(60);
/// Types whose last log line is remembered. Event types are few, and further types are counted but not logged.
const UNROUTABLE_TYPES_MAX: usize = 256;

/// The surroundings of a real route.
pub(super) struct RoutePorts {
    route: Arc<RouteRunner>,
    began: Instant,
    /// Unroutable types, with the time of the last log line about each.
    mentioned: HashMap<String, Instant>,
    /// Time of the last log line about an event without an ordering key.
    keyless: Option<Instant>,
    /// Time of the last log line about a reply without a queue.
    lost_reply: Option<Instant>,
}

impl Ports for RoutePorts {
    type Delivery = Delivery;

    fn clock(&self) -> ExecutorTime {
        ExecutorTime { since_start: self.began.elapsed(), wall: jiff::Timestamp::now() }
    }

    fn plugin_digest(&self) -> Arc<str> {
        self.route.handler.digest()
    }

    fn nothing_published(&self) -> NothingPublished {
        self.route.handler.nothing_published()
    }

    fn report(&mut self, report: RouteReport<'_, Delivery>) {
        let (name, metrics) = (&self.route.profile.name, &self.route.metrics);
        match report {
            RouteReport::Received(item) => {
                metrics.received(item.message.body.len(), waited(&item.message));
                let queue = &self.route.profile.settings.queue;
                if header::came_back(&item.message.properties.headers, name.as_str(), queue.as_str()) {
                    metrics.redriven();
                }
            }
            RouteReport::Settled { item, outcome, took } => self.settled(item, outcome, took),
            RouteReport::Unproven { item, outcome } => {
                let (event, ticket) = (&item.provenance.id, item.ticket.0);
                tracing::error!(route = %name, event, ticket, settled = ?outcome,
                    "a delivery without proof of its confirms stays unacknowledged; report this bug");
            }
            RouteReport::Left { item, why } => metrics.left(&item.provenance.id, why),
            RouteReport::Held { event, why } => {
                if !event.is_empty() {
                    metrics.stuck(event, why);
                }
                Condition::RouteStuck.raise(name.as_str(), why);
            }
            RouteReport::Released => Condition::RouteStuck.clear(name.as_str()),
            RouteReport::Circuit(CircuitState::Open) => metrics.circuit_opened(),
            RouteReport::Circuit(CircuitState::Closed) => metrics.circuit_closed(),
            RouteReport::OrderLost { why, key, event } => metrics.order_lost(why, key, event),
            RouteReport::NoOrderingKey { event } => self.no_ordering_key(event),
            RouteReport::RefusedForGood(why) => metrics.refused_for_good(why),
            RouteReport::Unconfirmed { result, messages } => metrics.publish_result(result, messages),
            RouteReport::EntryNotRewritten(why) => {
                tracing::warn!(route = %name, why, "a waiting-list entry could not be published again; the daemon tries again within a minute");
            }
            RouteReport::MarkerNotSent(why) => {
                tracing::warn!(route = %name, why, "the marker of the waiting list could not be published; if an event is missing, later events of its ordering key may wait for 15 minutes");
            }
        }
    }
}

impl RoutePorts {
    /// The ports of a route whose executor began at this time.
    pub(super) fn new(route: Arc<RouteRunner>, began: Instant) -> Self {
        Self { route, began, mentioned: HashMap::new(), keyless: None, lost_reply: None }
    }

    fn settled(&mut self, item: &Item<Delivery>, settled: &DeliveryOutcome, took: Duration) {
        let (outcome, reason) = match settled {
            DeliveryOutcome::Emitted => (telemetry::Settled::Ack, None),
            DeliveryOutcome::Copied(Decision::Retry { .. }) => (telemetry::Settled::Retry, None),
            DeliveryOutcome::Copied(Decision::DeadLetter { reason, .. }) => {
                (telemetry::Settled::DeadLetter, Some(*reason))
            }
            DeliveryOutcome::Parked => (telemetry::Settled::Parked, None),
            DeliveryOutcome::Repeat => (telemetry::Settled::Dropped, None),
        };
        let (metrics, provenance) = (&self.route.metrics, &item.provenance);
        match settled {
            DeliveryOutcome::Copied(Decision::Retry { step, error }) => {
                metrics.retry_scheduled(&provenance.id, provenance.attempt + 1, step.delay, error);
            }
            DeliveryOutcome::Copied(Decision::DeadLetter { reason, error }) => {
                metrics.dead_lettered(&provenance.id, *reason, error);
            }
            DeliveryOutcome::Emitted => self.count_confirmed(item),
            DeliveryOutcome::Parked | DeliveryOutcome::Repeat => {}
        }
        self.trace(item, outcome, reason);
        self.route.metrics.settled(outcome, took);
    }

    /// Counts what the broker confirmed of the emissions.
    fn count_confirmed(&mut self, item: &Item<Delivery>) {
        let mut confirmed = 0;
        for (answer, publication) in item.confirmed.iter().zip(&item.emissions) {
            match answer {
                Confirmed::Routed => confirmed += 1,
                Confirmed::Unrouted => {
                    self.route.metrics.publish_result(PublishResult::Unroutable, 1);
                    match reply_address(item, publication) {
                        Some(address) => self.mention_lost_reply(&item.provenance.id, address),
                        None => {
                            let kind = publication.message.properties.kind.as_deref();
                            self.mention_unroutable(kind.unwrap_or_default());
                        }
                    }
                }
            }
        }
        self.route.metrics.publish_result(PublishResult::Confirmed, confirmed);
    }

    /// Logs that no queue is bound for a type, at most once a minute.
    fn mention_unroutable(&mut self, kind: &str) {
        let now = Instant::now();
        let is_due = match self.mentioned.get(kind) {
            Some(last) => now.duration_since(*last) >= NOTICE,
            None => self.mentioned.len() < UNROUTABLE_TYPES_MAX,
        };
        if is_due {
            self.mentioned.insert(kind.to_owned(), now);
            self.route.metrics.unroutable(&self.route.handler.clean(kind));
        }
    }

    /// Logs that the queue for a reply does not exist, at most once a minute.
    fn mention_lost_reply(&mut self, event: &str, address: &str) {
        let now = Instant::now();
        if self.lost_reply.is_none_or(|last| now.duration_since(last) >= NOTICE) {
            self.lost_reply = Some(now);
            self.route.metrics.reply_lost(event, address);
        }
    }

    /// Counts an event without an ordering key, and logs one such event a minute.
    fn no_ordering_key(&mut self, event: &str) {
        let RouteRunner { metrics, profile, .. } = &*self.route;
        metrics.no_ordering_key();
        let now = Instant::now();
        if self.keyless.is_none_or(|last| now.duration_since(last) >= NOTICE) {
            self.keyless = Some(now);
            let field = profile.settings.order_by.as_ref().map(ToString::to_string).unwrap_or_default();
            metrics.ordering_key_missing(&field, event);
        }
    }

    fn trace(&self, item: &Item<Delivery>, settled: telemetry::Settled, reason: Option<Reason>) {
        if !SettledTrace::is_wanted() {
            return;
        }
        let message = &item.message;
        let kind = message.properties.kind.as_deref().unwrap_or(message.routing_key.as_str());
        let emitted = if settled == telemetry::Settled::Ack {
            traces(&item.emissions, &item.confirmed, |text| self.route.handler.clean(text))
        } else {
            Vec::new()
        };
        let (route, event) = (&self.route.profile.name, &item.provenance.id);
        SettledTrace { route, event, kind, settled, reason }.write(&emitted);
    }
}

/// The reply address of the event, if the publication is the reply.
fn reply_address<'a>(item: &'a Item<Delivery>, publication: &Publication) -> Option<&'a str> {
    let message = &publication.message;
    let address = item.event.as_ref()?.reply_to.as_deref()?;
    (message.exchange.is_default() && message.routing_key.as_str() == address).then_some(address)
}

/// Time from the message's own timestamp to now.
fn waited(message: &Message) -> Option<Duration> {
    let sent = UNIX_EPOCH.checked_add(timestamp_since_epoch(message.properties.timestamp?))?;
    SystemTime::now().duration_since(sent).ok()
}

/// The emissions for the log, without the plugin's secrets. A plugin may send its secrets to where they belong.
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

#[cfg(test)]
mod tests {
    use trunkline_event::{ExchangeName, Properties, RoutingKey, now_ms};

    use super::*;

    fn message(timestamp: Option<u64>) -> Message {
        Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("q").expect("valid"),
            properties: Properties { timestamp, ..Properties::default() },
            body: bytes::Bytes::new(),
        }
    }

    /// JavaScript producers commonly write `Date.now()`, which counts milliseconds.
    #[test]
    fn the_age_of_a_message_does_not_depend_on_the_unit_of_the_timestamp() {
        let sent_ms = now_ms() - 600_000;
        for timestamp in [sent_ms / 1000, sent_ms] {
            let age = waited(&message(Some(timestamp))).map(|age| age.as_secs());
            assert!(age.is_some_and(|seconds| (600..660).contains(&seconds)), "{timestamp}: {age:?}");
        }
        for timestamp in [None, Some(now_ms() + 600_000), Some(u64::MAX)] {
            assert_eq!(waited(&message(timestamp)), None, "{timestamp:?}");
        }
    }
}
