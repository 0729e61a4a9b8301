//! The core loop: one queue, one plugin, and what is done with each outcome.
//!
//! The delivery guarantee is kept here. A delivery is acknowledged only with a [`Receipt`](trunkline_broker::Receipt): when
//! every emission of its event, or its copy in a retry or dead-letter queue, is confirmed by the broker. In every other
//! case, shutdown and lost sessions included, it is left unanswered, and the broker delivers it again: at least once,
//! with the same emission ids.

#![deny(unsafe_code)]

pub mod archive;
mod call;
pub mod codec;
pub(crate) mod copies;
pub(crate) mod core;
pub(crate) mod decide;
pub(crate) mod emit;
mod handle;
mod listed;
mod order;
pub(crate) mod plan;
mod rollout;
mod rollouts;
mod run;
mod settlement;
mod shadow;
#[cfg(test)]
mod simulation;
pub(crate) mod waiting;
mod work;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use trunkline_broker::{Broker, Status};
use trunkline_config::{self as config, Codec};
use trunkline_event::{HeaderKey, RouteName};
use trunkline_telemetry as telemetry;

use call::Handler;
pub use call::{Handlers, Plugins};
pub use rollout::{Phase, Trial};
pub use rollouts::Rollouts;

/// Bodies that a route holds at a time, whatever its prefetch says.
const BYTES_MAX: usize = 128 << 20;
/// How often an unroutable type is mentioned in the log.
const UNROUTABLE_NOTICE: Duration = Duration::from_secs(60);
/// Types that are remembered for it; event types are few, and what comes beyond is counted but not mentioned.
const UNROUTABLE_TYPES_MAX: usize = 256;

/// What is handed out ahead has begun after so long: half of the time that a broker waits for an answer (RabbitMQ's
/// `consumer_timeout` is 30 minutes).
const BEGUN_WITHIN: Duration = Duration::from_secs(15 * 60);
/// What a rate lets through in so long is handed out ahead.
const RATED_AHEAD: Duration = Duration::from_secs(5 * 60);

/// How many deliveries are handed out ahead: as configured, but no more than bodies of the largest size that fit the
/// memory, than calls that take all their time begin soon, and than the rate lets through soon.
fn prefetch(configured: u16, settings: &config::Route, timeout: Option<Duration>) -> u16 {
    let by_memory = BYTES_MAX / settings.body_max_bytes.max(1);
    let rounds = timeout.map_or(u128::MAX, |timeout| (BEGUN_WITHIN.as_millis() / timeout.as_millis().max(1)).max(1));
    let by_time = rounds.saturating_mul(u128::from(settings.concurrency.max(1)));
    let by_rate = settings.rate.map_or(u128::MAX, |rate| {
        (u128::from(rate.events) * RATED_AHEAD.as_millis()).div_ceil(rate.per.as_millis().max(1))
    });
    let most = by_time.min(by_rate).min(by_memory as u128);
    configured.min(u16::try_from(most).unwrap_or(u16::MAX)).max(1)
}

/// A route with all that it needs to run.
pub struct Route {
    name: RouteName,
    settings: config::Route,
    prefetch: u16,
    codec_in: Codec,
    codec_out: Codec,
    handler: Handler,
    broker: Broker,
    key: Option<HeaderKey>,
    status: watch::Receiver<Status>,
    metrics: telemetry::Route,
    mentioned: Mutex<HashMap<String, Instant>>,
}

/// The two steps of a shutdown.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Take nothing new, finish what is in work.
    pub drain: CancellationToken,
    /// Leave what is not finished to the broker.
    pub now: CancellationToken,
}

impl Route {
    /// Puts a route together from checked configuration, the places of plugins that can run, and a broker.
    #[must_use]
    pub fn new(
        name: &RouteName,
        config: &config::Config,
        handlers: Handlers,
        rollouts: &Arc<Rollouts>,
        broker: Broker,
    ) -> Option<Arc<Self>> {
        let settings = config.routes.get(name)?.clone();
        let queue = config.topology.queues.get(&settings.queue)?;
        let exchange = &settings.emit.exchange;
        let codec_out = config.topology.exchanges.get(exchange).map(|exchange| exchange.codec);
        let timeout =
            settings.plugin().and_then(|plugin| config.plugins.get(plugin)).map(|plugin| plugin.limits.timeout);
        let metrics = telemetry::Route::new(name, settings.runs(), exchange.as_str(), settings.concurrency);
        Some(Arc::new(Self {
            name: name.clone(),
            prefetch: prefetch(queue.prefetch, &settings, timeout),
            codec_in: queue.codec,
            // The default exchange has no codec of its own: emissions to a queue look like the route's input.
            codec_out: codec_out.unwrap_or(queue.codec),
            handler: Handler::new(name, &settings, handlers, rollouts),
            status: broker.status(),
            key: broker.header_key(),
            broker,
            metrics,
            mentioned: Mutex::default(),
            settings,
        }))
    }

    /// What the core has to know of the route.
    fn rules(&self) -> core::Rules {
        let concurrency = usize::from(self.settings.concurrency);
        // Where order matters, what waits for its key must not hide what could run.
        let is_ordered = self.settings.order_by.is_some();
        core::Rules {
            concurrency,
            held_max: if is_ordered { usize::from(self.prefetch).max(concurrency) } else { concurrency },
            bytes_max: BYTES_MAX,
            retry: self.settings.retry.clone(),
            unroutable: self.settings.emit.unroutable,
            dedupe: self.settings.dedupe.is_some(),
            atomic: self.broker.is_atomic(),
            circuit: self.settings.circuit,
            rate: self.settings.rate,
            tenant_rate: self.settings.tenant.as_ref().and_then(|tenant| tenant.rate),
        }
    }

    /// Says that nobody is bound for a type, at most once a minute.
    fn mention_unroutable(&self, kind: &str) {
        let mut mentioned = self.mentioned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        let is_due = match mentioned.get(kind) {
            Some(last) => now.duration_since(*last) >= UNROUTABLE_NOTICE,
            None => mentioned.len() < UNROUTABLE_TYPES_MAX,
        };
        if !is_due {
            return;
        }
        mentioned.insert(kind.to_owned(), now);
        drop(mentioned);
        self.metrics.nobody_subscribed(&self.handler.clean(kind));
    }
}
