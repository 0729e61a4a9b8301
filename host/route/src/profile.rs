//! The settings of a route that reading deliveries and making messages need.

use std::sync::Arc;
use std::time::Duration;

use crate::core::Rules;
use crate::order::list as waiting;
use trunkline_broker::Publication;
use trunkline_config::{self as config, Codec};
use trunkline_event::{HeaderKey, RouteName};

/// Bytes of message bodies that a route holds at a time, whatever its prefetch is.
pub(crate) const BYTES_MAX: usize = 256 << 20;

/// Deliveries that may wait for the place of a call, on a route with a low `concurrency`. As many are taken at once.
const WAITING_MIN: usize = 64;

/// The settings of a route, without a connection to its broker or its plugin.
pub(crate) struct Profile {
    pub(crate) name: RouteName,
    pub(crate) settings: config::Route,
    /// The plugin of the route, or `archive`.
    pub(crate) runs: Arc<str>,
    /// Deliveries that the broker may hand out ahead.
    pub(crate) prefetch: u16,
    pub(crate) codec_in: Codec,
    /// Whether the broker takes publishes, dedupe record and acknowledgement in one transaction.
    pub(crate) is_atomic: bool,
    /// Signs copies and waiting-list entries; none on a broker where only the daemon writes headers.
    pub(crate) key: Option<HeaderKey>,
}

impl Profile {
    /// Time for which a copy is held before it comes back, on an ordered route.
    pub(crate) fn retry_round(&self) -> Duration {
        self.settings.retry.steps.first().map(|step| step.delay).unwrap_or_default()
    }

    /// A marker that is held back as long as the copies and comes back into the route's queue after them.
    pub(crate) fn retry_marker(&self, token: &str) -> Publication {
        let delay = self.settings.retry.steps.first().map(|step| step.delay);
        // RabbitMQ rounds the delay of a retry in a way of its own. The embedded broker counts retries, which a marker is not.
        let is_retry = !self.is_atomic;
        Publication { delay, is_retry, ..waiting::marker(&self.settings.queue, token, self.key.as_ref()) }
    }

    /// The settings of the route that the core decides by.
    pub(crate) fn rules(&self) -> Rules {
        let concurrency = usize::from(self.settings.concurrency);
        let held_max = usize::from(self.prefetch).max(concurrency);
        // On an ordered route, events that wait for their key must not hide events that could run.
        let waiting_max = if self.settings.order_by.is_some() { held_max } else { concurrency.max(WAITING_MIN) };
        Rules {
            concurrency,
            held_max,
            waiting_max,
            bytes_max: BYTES_MAX,
            retry: self.settings.retry.clone(),
            unroutable: self.settings.emit.unroutable,
            dedupe: self.settings.dedupe.is_some(),
            atomic: self.is_atomic,
            circuit: self.settings.circuit,
            rate: self.settings.rate,
            tenant_rate: self.settings.tenant.as_ref().and_then(|tenant| tenant.rate),
        }
    }
}
