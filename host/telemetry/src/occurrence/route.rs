//! The messages of one route. The series are looked up once, when the route is loaded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::Mutex;
use tracing::{debug, info, warn};

use trunkline_event::{QueueName, Reason, RouteName};

use super::counters::{count, zero};
use crate::conditions::Condition;
use crate::line_limit::LineLimit;
use crate::series_owner::SeriesOwner;

/// Conditions whose subject is a route. These conditions end with the route.
const OF_ROUTES: [Condition; 5] = [
    Condition::RouteDown,
    Condition::RouteStuck,
    Condition::RouteEnded,
    Condition::PermanentRefusals,
    Condition::ArchiveFailed,
];

/// The time of the last received message of each route, by the message's timestamp in seconds since the Unix epoch. 0 before the
/// first message with a timestamp.
static LAST_SENT: Mutex<BTreeMap<RouteName, Arc<AtomicU64>>> = Mutex::new(BTreeMap::new());

/// Time after the last permanent refusal for which `/health` shows the condition.
const REFUSALS_SHOWN_FOR: Duration = Duration::from_secs(300);

/// The outcome of a delivery, the `outcome` label of `trunkline_messages_settled_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The emissions are published.
    Ack,
    /// A copy waits for a retry.
    Retry,
    /// A copy is in the dead-letter queue.
    DeadLetter,
    /// A copy waits behind an unsettled event of its ordering key, or for the turn of its tenant.
    Parked,
    /// The event was settled before.
    Dropped,
}

impl Settled {
    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Retry => "retry",
            Self::DeadLetter => "dead_letter",
            Self::Parked => "parked",
            Self::Dropped => "dropped",
        }
    }
}

/// The broker's answer to a published event, the `result` label of `trunkline_events_published_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishResult {
    /// A queue has the event.
    Confirmed,
    /// No queue is bound for the event.
    Unroutable,
    /// The broker refused the event.
    Nacked,
    /// The session was lost before the confirm.
    Lost,
}

impl PublishResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Unroutable => "unroutable",
            Self::Nacked => "nacked",
            Self::Lost => "lost",
        }
    }
}

/// The reason why the order of a key may not have been kept, the `why` label of `trunkline_order_lost_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderLost {
    /// An event in retry did not come back. The events behind it wait no longer.
    Missing,
    /// The waiting list is full: another daemon that takes the route over will not know of this event.
    Unlisted,
    /// The waiting list has an entry without the signature of a daemon that has this header key.
    Unreadable,
    /// The event began to wait when the route had another `order-by`.
    OtherKey,
}

impl OrderLost {
    const ALL: [Self; 4] = [Self::Missing, Self::Unlisted, Self::Unreadable, Self::OtherKey];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unlisted => "unlisted",
            Self::Unreadable => "unreadable",
            Self::OtherKey => "other_key",
        }
    }
}

/// The metrics of one route. [`CallMetrics`](super::CallMetrics) has the metrics of its plugins' calls.
pub struct RouteMetrics {
    name: RouteName,
    plugin: String,
    exchange: String,
    received: Counter,
    body_bytes: Histogram,
    wait: Histogram,
    total: Histogram,
    in_flight: Gauge,
    up: Gauge,
    circuit: Gauge,
    settled: [Counter; 5],
    retries: Counter,
    dead_letters: Vec<(Reason, Counter)>,
    redriven: Counter,
    last_sent: Arc<AtomicU64>,
    published: Vec<(PublishResult, Counter)>,
    publish_duration: Histogram,
    unconfirmed: Gauge,
    deaths: LineLimit,
    stops: LineLimit,
    unmarked: LineLimit,
    order_lost: Vec<(OrderLost, Counter)>,
    disorders: LineLimit,
    keyless: Counter,
}

impl RouteMetrics {
    /// Registers every series of the route at 0, because `rate()` misses the first increment of a new one.
    #[must_use]
    pub fn new(name: &RouteName, plugin: &str, exchange: &str, concurrency: u16) -> Self {
        let route = || ("route", name.to_string());
        SeriesOwner::Route.enters(name.as_str());
        gauge!("trunkline_route_concurrency_limit", &[route()]).set(f64::from(concurrency));
        use Settled::{Ack, DeadLetter, Dropped, Parked, Retry};
        let settled = [Ack, Retry, DeadLetter, Parked, Dropped].map(|outcome| {
            zero(counter!("trunkline_messages_settled_total", "route" => name.to_string(), "outcome" => outcome.as_str()))
        });
        let published = |result: PublishResult| {
            let labels = [route(), ("exchange", exchange.to_owned()), ("result", result.as_str().to_owned())];
            (result, zero(counter!("trunkline_events_published_total", &labels)))
        };
        let dead_letter = |reason: Reason| {
            let labels = [route(), ("reason", reason.as_str().to_owned())];
            (reason, zero(counter!("trunkline_dead_letters_total", &labels)))
        };
        let order_lost = |why: OrderLost| {
            (why, zero(counter!("trunkline_order_lost_total", &[route(), ("why", why.as_str().to_owned())])))
        };
        use PublishResult::{Confirmed, Lost, Nacked, Unroutable};
        Self {
            name: name.clone(),
            plugin: plugin.to_owned(),
            exchange: exchange.to_owned(),
            received: zero(counter!("trunkline_messages_received_total", &[route()])),
            body_bytes: histogram!("trunkline_message_body_bytes", &[route()]),
            wait: histogram!("trunkline_message_wait_seconds", &[route()]),
            total: histogram!("trunkline_message_total_seconds", &[route()]),
            in_flight: gauge!("trunkline_messages_in_flight", &[route()]),
            up: gauge!("trunkline_route_up", &[route()]),
            circuit: gauge!("trunkline_circuit_state", &[route()]),
            settled,
            retries: zero(counter!("trunkline_retries_scheduled_total", &[route()])),
            dead_letters: Reason::ALL.into_iter().map(dead_letter).collect(),
            redriven: zero(counter!("trunkline_redriven_total", &[route()])),
            last_sent: LAST_SENT.lock().entry(name.clone()).or_default().clone(),
            published: [Confirmed, Unroutable, Nacked, Lost].into_iter().map(published).collect(),
            publish_duration: histogram!("trunkline_publish_duration_seconds", &[route()]),
            unconfirmed: gauge!("trunkline_publish_unconfirmed"),
            deaths: LineLimit::default(),
            stops: LineLimit::default(),
            unmarked: LineLimit::default(),
            order_lost: OrderLost::ALL.into_iter().map(order_lost).collect(),
            disorders: LineLimit::default(),
            keyless: zero(counter!("trunkline_ordering_key_missing_total", &[route()])),
        }
    }

    /// The route consumes its queue from now on.
    pub fn consumes(&self) {
        self.up.set(1.0);
    }

    /// The route does not consume its queue any more.
    pub fn stopped_consuming(&self) {
        self.up.set(0.0);
    }

    /// A delivery came. `waited` is the time since the message's timestamp.
    pub fn received(&self, body_bytes: usize, waited: Option<Duration>) {
        self.received.increment(1);
        #[expect(clippy::cast_precision_loss, reason = "bodies are far below 2^52 bytes")]
        self.body_bytes.record(body_bytes as f64);
        if let Some(waited) = waited {
            self.wait.record(waited.as_secs_f64());
            let sent = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().saturating_sub(waited);
            self.last_sent.store(sent.as_secs(), Ordering::Relaxed);
        }
        self.in_flight.increment(1.0);
    }

    /// A dead letter of the route came back.
    pub fn redriven(&self) {
        self.redriven.increment(1);
    }

    /// A publish of the route begins.
    pub fn publishing(&self) {
        self.unconfirmed.increment(1.0);
    }

    /// A publish of the route ended.
    pub fn published(&self, took: Duration) {
        self.unconfirmed.decrement(1.0);
        self.publish_duration.record(took.as_secs_f64());
    }

    /// `events` events got this answer of the broker.
    pub fn publish_result(&self, result: PublishResult, events: u64) {
        count(&self.published, result, events);
    }

    /// No queue is bound for events of this type. The caller reports each type once a minute.
    pub fn unroutable(&self, kind: &str) {
        let (route, exchange) = (&self.name, &self.exchange);
        warn!(%route, exchange, r#type = kind, "no queue is bound for this event type; the event was accepted and discarded");
    }

    /// The queue for the reply to an event does not exist. The caller reports at most one event a minute.
    pub fn reply_lost(&self, event_id: &str, address: &str) {
        let route = &self.name;
        warn!(%route, event = event_id, reply_to = address, "the queue for a reply does not exist; the reply was discarded");
    }

    /// A copy waits in the broker for a retry.
    pub fn retry_scheduled(&self, event_id: &str, attempt: u32, delay: Duration, error: &str) {
        self.retries.increment(1);
        let route = &self.name;
        debug!(%route, event = event_id, attempt, delay_ms = delay.as_millis(), error, "retry scheduled");
    }

    /// A copy is in the dead-letter queue.
    pub fn dead_lettered(&self, event_id: &str, reason: Reason, error: &str) {
        count(&self.dead_letters, reason, 1);
        if let Some(left_out) = self.deaths.allows() {
            let (route, plugin) = (&self.name, &self.plugin);
            warn!(%route, %plugin, event = event_id, %reason, error, left_out, "an event is dead-lettered; the broker confirmed the dead letter");
        }
    }

    /// The circuit breaker opened.
    pub fn circuit_opened(&self) {
        self.circuit.set(1.0);
        let route = &self.name;
        warn!(%route, "the circuit breaker opened after too many failures; the route consumes no event until the pause ends");
    }

    /// The circuit breaker closed.
    pub fn circuit_closed(&self) {
        self.circuit.set(0.0);
        let route = &self.name;
        info!(%route, "the probe of the circuit breaker succeeded; the route consumes events again");
    }

    /// The broker does not take a message of the route.
    pub fn stuck(&self, event_id: &str, why: &str) {
        let (route, Some(left_out)) = (&self.name, self.stops.allows()) else { return };
        warn!(%route, event = event_id, why, left_out, "the broker did not accept a message of the event; the daemon keeps the event and publishes the message again");
    }

    /// The order of an event's key may not have been kept, for one of the reasons of [`OrderLost`].
    pub fn order_lost(&self, why: OrderLost, key: &str, event_id: &str) {
        count(&self.order_lost, why, 1);
        if let Some(left_out) = self.disorders.allows() {
            let (route, why) = (&self.name, why.as_str());
            warn!(%route, key, event = event_id, why, left_out, "the route may have handled events of this ordering key in the wrong order");
        }
    }

    /// An event of a route with `order-by` has no value for its ordering key.
    pub fn no_ordering_key(&self) {
        self.keyless.increment(1);
    }

    /// Writes the log line about an event without an ordering key. `field` is the route's `order-by`. The caller reports at most
    /// one event a minute.
    pub fn ordering_key_missing(&self, field: &str, event_id: &str) {
        let route = &self.name;
        warn!(%route, event = event_id, order_by = field, "an event has no ordering key; events without an ordering key run one after another");
    }

    /// An event is settled without a dedupe record.
    pub fn unmarked(&self, event_id: &str, why: &str) {
        let (route, Some(left_out)) = (&self.name, self.unmarked.allows()) else { return };
        warn!(%route, event = event_id, why, left_out, "an event was settled without a dedupe record; the route would handle a repeat of the event again");
    }

    /// The broker refused a message of the route permanently.
    pub fn refused_for_good(&self, why: &str) {
        Condition::PermanentRefusals.raise_for(self.name.as_str(), why, REFUSALS_SHOWN_FOR);
    }

    /// A delivery is acknowledged.
    pub fn settled(&self, settled: Settled, took: Duration) {
        self.settled[settled as usize].increment(1);
        self.total.record(took.as_secs_f64());
        self.in_flight.decrement(1.0);
    }

    /// A delivery gets no answer; the broker delivers the message again.
    pub fn left(&self, event_id: &str, why: &str) {
        self.in_flight.decrement(1.0);
        let route = &self.name;
        debug!(%route, event = event_id, why, "a delivery is left unacknowledged; the broker delivers the message again");
    }
}

/// A route consumes its queue.
pub fn route_up(route: &RouteName, queue: &QueueName) {
    info!(%route, %queue, "the route consumes its queue");
}

/// A route lost its subscription and will subscribe again. `left_out` is the number of earlier failures with the same reason and
/// without a line.
pub fn route_down(route: &RouteName, queue: &QueueName, reason: &str, left_out: u64) {
    let code = Condition::RouteDown.as_str();
    warn!(code, %route, %queue, reason, left_out, "the route does not consume its queue; the daemon subscribes again");
}

/// The task of a route ended without being asked to.
pub fn route_ended(route: &RouteName) {
    gauge!("trunkline_route_up", "route" => route.to_string()).set(0.0);
    // The ended task has no deliveries in flight any more.
    gauge!("trunkline_messages_in_flight", "route" => route.to_string()).set(0.0);
}

/// A route is not in routes.toml any more, and its task has ended. The series and conditions of the route leave too.
pub fn route_removed(route: &RouteName) {
    for condition in OF_ROUTES {
        condition.clear(route.as_str());
    }
    LAST_SENT.lock().remove(route);
    SeriesOwner::Route.leaves(route.as_str());
}

/// The time since the timestamp of the last message that a route received. `None` before the first message with a timestamp.
#[must_use]
pub fn last_message_sent(route: &RouteName) -> Option<Duration> {
    let sent = LAST_SENT.lock().get(route)?.load(Ordering::Relaxed);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    (sent > 0).then(|| now.saturating_sub(Duration::from_secs(sent)))
}
