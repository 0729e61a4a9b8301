//! A route with everything that the route needs to run.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use trunkline_broker::{Broker, BrokerStatus};
use trunkline_config::{self as config, Codec};
use trunkline_event::RouteName;
use trunkline_telemetry as telemetry;

use crate::profile::{BYTES_MAX, Profile};
use crate::rollout::{Handlers, Rollouts, RouteHandler};

/// Time within which every delivery that is handed out ahead begins: half of the time that a broker waits for an answer
/// (RabbitMQ's `consumer_timeout` is 30 minutes).
const BEGUN_WITHIN: Duration = Duration::from_secs(15 * 60);
/// Time whose events of a rate are handed out ahead.
const RATED_AHEAD: Duration = Duration::from_secs(5 * 60);

/// Deliveries that are handed out ahead: as configured, but bounded by memory for bodies of the largest size, by calls that
/// take their whole time limit, and by the rate.
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

/// A route with its settings, its plugins or archive, and its broker.
pub struct RouteRunner {
    pub(crate) profile: Arc<Profile>,
    pub(crate) codec_out: Codec,
    pub(crate) handler: RouteHandler,
    pub(crate) broker: Broker,
    pub(crate) status: watch::Receiver<BrokerStatus>,
    pub(crate) metrics: telemetry::RouteMetrics,
}

/// The two steps of a shutdown.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Take nothing new; finish the work in progress.
    pub drain: CancellationToken,
    /// Leave unfinished deliveries to the broker.
    pub now: CancellationToken,
}

impl RouteRunner {
    /// Makes a route from checked configuration, its plugins or archive, and a broker. None when the configuration has no such
    /// route.
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
        let metrics = telemetry::RouteMetrics::new(name, settings.runs(), exchange.as_str(), settings.concurrency);
        let handler = RouteHandler::new(name, &settings, handlers, rollouts);
        let profile = Profile {
            name: name.clone(),
            prefetch: prefetch(queue.prefetch, &settings, timeout),
            codec_in: queue.codec,
            is_atomic: broker.is_atomic(),
            key: broker.header_key(),
            runs: Arc::from(settings.runs()),
            settings,
        };
        Some(Arc::new(Self {
            // The nameless exchange has no codec. Emissions to a queue have the codec of the route's queue.
            codec_out: codec_out.unwrap_or(queue.codec),
            handler,
            status: broker.status(),
            profile: Arc::new(profile),
            broker,
            metrics,
        }))
    }
}
