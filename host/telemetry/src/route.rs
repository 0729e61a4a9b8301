//! What happens to the messages of one route. Handles are looked up once when the route is loaded.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tracing::{debug, info, warn};

use super::conditions::Condition;
use super::limit::Limit;
use trunkline_event::{Reason, RouteName};

/// How long a refusal for good is shown in `/health` after the last one.
const REFUSALS_SHOWN_FOR: Duration = Duration::from_secs(300);

/// How a delivery was settled, the `outcome` label of `trunkline_messages_settled_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Its emissions are published.
    Ack,
    /// A copy waits in a retry queue.
    Retry,
    /// A copy is in the dead-letter queue.
    DeadLetter,
    /// A copy waits behind an event of its key that is not settled, or for the turn of its tenant.
    Parked,
    /// It was settled before.
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

/// What the broker said of a published event, the `result` label of `trunkline_events_published_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishResult {
    /// In a queue.
    Confirmed,
    /// Nobody has subscribed.
    Unroutable,
    /// Refused.
    Nacked,
    /// The session was lost before the answer came.
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

/// Why the order of a key may not have been kept, the `why` label of `trunkline_order_lost_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderLost {
    /// An event that was to be tried again did not come back; those behind it wait for it no more.
    Missing,
    /// More events wait than can be listed: another daemon that takes the route over will not know of this one.
    Unlisted,
    /// The list of those that wait has an entry that no daemon with this key wrote.
    Unreadable,
    /// The event began to wait when the route was ordered by something else.
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

/// The metrics of one route; those of its plugins' calls are [`Calls`](super::Calls).
pub struct Route {
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
    published: Vec<(PublishResult, Counter)>,
    publish_duration: Histogram,
    unconfirmed: Gauge,
    deaths: Limit,
    stops: Limit,
    unmarked: Limit,
    order_lost: Vec<(OrderLost, Counter)>,
    disorders: Limit,
}

impl Route {
    /// Registers every series of the route at 0, because `rate()` misses the first increment of a new one.
    #[must_use]
    pub fn new(name: &RouteName, plugin: &str, exchange: &str, concurrency: u16) -> Self {
        let route = || ("route", name.to_string());
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
            published: [Confirmed, Unroutable, Nacked, Lost].into_iter().map(published).collect(),
            publish_duration: histogram!("trunkline_publish_duration_seconds", &[route()]),
            unconfirmed: gauge!("trunkline_publish_unconfirmed"),
            deaths: Limit::default(),
            stops: Limit::default(),
            unmarked: Limit::default(),
            order_lost: OrderLost::ALL.into_iter().map(order_lost).collect(),
            disorders: Limit::default(),
        }
    }

    /// The route consumes, or does not.
    pub fn consuming(&self, up: bool) {
        self.up.set(if up { 1.0 } else { 0.0 });
    }

    /// A delivery came. `waited` is counted from the message's own timestamp.
    pub fn received(&self, body_bytes: usize, waited: Option<Duration>) {
        self.received.increment(1);
        #[expect(clippy::cast_precision_loss, reason = "bodies are far below 2^52 bytes")]
        self.body_bytes.record(body_bytes as f64);
        if let Some(waited) = waited {
            self.wait.record(waited.as_secs_f64());
        }
        self.in_flight.increment(1.0);
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

    /// So many events got this answer of the broker.
    pub fn publish_result(&self, result: PublishResult, events: u64) {
        count(&self.published, result, events);
    }

    /// Nobody is bound for an event of this type; said once a minute a type by the caller.
    pub fn nobody_subscribed(&self, kind: &str) {
        let (route, exchange) = (&self.name, &self.exchange);
        warn!(%route, exchange, r#type = kind, "nobody is bound for events of this type: accepted, and gone");
    }

    /// A copy is in a retry queue.
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
            warn!(%route, %plugin, event = event_id, %reason, error, left_out, "event dead-lettered; nothing is lost");
        }
    }

    /// The circuit opened, or closed.
    pub fn circuit(&self, open: bool) {
        self.circuit.set(if open { 1.0 } else { 0.0 });
        let route = &self.name;
        if open {
            warn!(%route, "too many failures: the route stops consuming for a while, and then tries one event");
        } else {
            info!(%route, "the event that was tried succeeded: the route consumes again");
        }
    }

    /// The broker does not take what the route publishes.
    pub fn stuck(&self, event_id: &str, why: &str) {
        let (route, Some(left_out)) = (&self.name, self.stops.allows()) else { return };
        warn!(%route, event = event_id, why, left_out, "the broker does not take it; the event is kept and tried again");
    }

    /// The order of an event's key may not have been kept, for one of the reasons of [`OrderLost`].
    pub fn order_lost(&self, why: OrderLost, key: &str, event_id: &str) {
        count(&self.order_lost, why, 1);
        if let Some(left_out) = self.disorders.allows() {
            let (route, why) = (&self.name, why.as_str());
            warn!(%route, key, event = event_id, why, left_out, "the order of this key may not have been kept");
        }
    }

    /// An event is settled, and the dedupe records do not know it.
    pub fn unmarked(&self, event_id: &str, why: &str) {
        let (route, Some(left_out)) = (&self.name, self.unmarked.allows()) else { return };
        warn!(%route, event = event_id, why, left_out, "an event is settled without a dedupe record: a repeat of it is handled again");
    }

    /// The broker will never take a message of the route.
    pub fn refused_for_good(&self, why: &str) {
        Condition::PermanentRefusals.raise_for(self.name.as_str(), why, REFUSALS_SHOWN_FOR);
    }

    /// A delivery is acknowledged.
    pub fn settled(&self, settled: Settled, took: Duration) {
        self.settled[settled as usize].increment(1);
        self.total.record(took.as_secs_f64());
        self.in_flight.decrement(1.0);
    }

    /// A delivery is left to the broker, which delivers it again.
    pub fn left(&self, event_id: &str, why: &str) {
        self.in_flight.decrement(1.0);
        let route = &self.name;
        debug!(%route, event = event_id, why, "left unacknowledged; the broker delivers it again");
    }
}

fn zero(counter: Counter) -> Counter {
    counter.absolute(0);
    counter
}

pub(super) fn count<K: PartialEq>(counters: &[(K, Counter)], key: K, by: u64) {
    if let Some((_, counter)) = counters.iter().find(|(known, _)| *known == key) {
        counter.increment(by);
    }
}
