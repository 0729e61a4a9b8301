//! Routes.

use std::time::Duration;

use crate::model::broker::topology::DeadLetter;
use crate::model::routes::archive::Archive;
use crate::model::routes::flow::{CircuitBreaker, DedupeWindow, OrderBy, Rate, Tenant};
use crate::model::routes::rollout::{Canary, Shadow};
use crate::model::schema::Schema;
use trunkline_event::{ExchangeName, PluginName, QueueName};

/// `[routes.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The queue to consume; a key of `Topology::queues`.
    pub queue: QueueName,
    /// The plugin or the archive that handles events.
    pub handler: Handler,
    /// The schema that the data has to fit.
    pub schema: Option<SchemaRule>,
    /// The exchange and the routing key of emissions.
    pub emit: Emit,
    /// The retries of a failed event.
    pub retry: Retry,
    /// The target of dead letters.
    pub dead_letter: DeadLetter,
    /// Number of events that run at a time.
    pub concurrency: u16,
    /// Largest number of hops of an event that is still handled.
    pub hops_max: u32,
    /// Largest message body that the plugin receives, in bytes.
    pub body_max_bytes: usize,
    /// The dedupe window; repeats within it are dropped.
    pub dedupe: Option<DedupeWindow>,
    /// The ordering key; events with the same key run one after the other, in the order of the queue.
    pub order_by: Option<OrderBy>,
    /// The waiting list `<queue>.waiting` of a route with `order_by`, which the next daemon reads.
    pub waiting: Option<QueueName>,
    /// The rate at which events may start.
    pub rate: Option<Rate>,
    /// The tenant of an event, and the rate of each tenant.
    pub tenant: Option<Tenant>,
    /// The circuit breaker.
    pub circuit: Option<CircuitBreaker>,
    /// The canary, which handles a share of the events.
    pub canary: Option<Canary>,
    /// The shadow, which gets copies of events.
    pub shadow: Option<Shadow>,
}

impl Route {
    /// The stable plugin; `None` for an archive.
    #[must_use]
    pub fn plugin(&self) -> Option<&PluginName> {
        match &self.handler {
            Handler::Plugin(plugin) => Some(plugin),
            Handler::Archive(_) => None,
        }
    }

    /// Name of the stable plugin, or `archive`; for logs, labels and headers.
    #[must_use]
    pub fn runs(&self) -> &str {
        match &self.handler {
            Handler::Plugin(plugin) => plugin.as_str(),
            Handler::Archive(_) => "archive",
        }
    }
}

/// `routes.NAME.schema`
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaRule {
    /// The schema of the data.
    pub schema: Schema,
    /// The first number of the event's attribute `version`; every version when absent.
    pub version: Option<u32>,
}

/// The plugin or the archive that handles events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handler {
    /// A plugin runs; a key of `Config::plugins`.
    Plugin(PluginName),
    /// The event is archived.
    Archive(Archive),
}

/// `routes.NAME.emit`
#[derive(Debug, Clone, PartialEq)]
pub struct Emit {
    /// The exchange; a key of `Topology::exchanges`, or the nameless exchange.
    pub exchange: ExchangeName,
    /// The routing key, with `{type}` for the emission's type.
    pub key: String,
    /// The only types that may be emitted; every type when absent.
    pub types: Option<Vec<String>>,
    /// The meaning of a returned emission for its event.
    pub unroutable: Unroutable,
    /// Whether emissions without a routing key of their own answer an event that has a reply address.
    pub reply: bool,
}

/// The meaning of a returned (unroutable) emission for its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unroutable {
    /// The event is settled: on an event bus no queue may be bound for a type.
    Accept,
    /// The event is tried again: the emission addressed a queue that is missing.
    Retry,
    /// The event is dead-lettered at once.
    DeadLetter,
}

/// `routes.NAME.retry`: retry n waits `delay * multiplier^(n-1)`, at most `max-delay`.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Retries after the first attempt; 0 for none.
    pub max: u32,
    /// The steps, one for each retry.
    pub steps: Vec<RetryStep>,
}

/// The wait before one retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryStep {
    /// The shortest wait.
    pub delay: Duration,
    /// The largest random addition; zero without jitter.
    pub spread: Duration,
}
