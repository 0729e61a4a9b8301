//! The checked form of routes and event types.

use std::path::PathBuf;
use std::time::Duration;

use super::grants::Secret;
use super::values;
use crate::schema::Schema;
use trunkline_event::{ExchangeName, PluginName, QueueName, RoutingKey};

/// `[routes.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The queue that is consumed; a key of `topology.queues`.
    pub queue: QueueName,
    /// What is done with an event.
    pub handler: Handler,
    /// What the data has to look like.
    pub schema: Option<SchemaRule>,
    /// Where emissions go.
    pub emit: Emit,
    /// How often and when a failed event is tried again.
    pub retry: Retry,
    /// Where events go that cannot be handled.
    pub dead_letter: DeadLetter,
    /// Events in work at a time.
    pub concurrency: u16,
    /// Emissions between a root event and the last one that is still handled.
    pub hops_max: u32,
    /// Largest message body that is handed to the plugin, in bytes.
    pub body_max_bytes: usize,
    /// Repeats of an event that was settled within the window are dropped.
    pub dedupe: Option<DedupeWindow>,
    /// Events with the same key run one after the other, in the order of the queue.
    pub order_by: Option<OrderBy>,
    /// With `order_by`: `<queue>.waiting`, which lists the events that wait, for the next daemon that runs the route.
    pub waiting: Option<QueueName>,
    /// Events that may start in a time.
    pub rate: Option<Rate>,
    /// Whose event it is, and how many events of one may start in a time.
    pub tenant: Option<Tenant>,
    /// When to stop consuming for a while.
    pub circuit: Option<CircuitBreaker>,
    /// Another plugin that gets a share of the events.
    pub canary: Option<Canary>,
    /// Another plugin that gets copies, and whose answers are only compared.
    pub shadow: Option<Shadow>,
}

impl Route {
    /// The plugin that runs, if one does.
    #[must_use]
    pub fn plugin(&self) -> Option<&PluginName> {
        match &self.handler {
            Handler::Plugin(plugin) => Some(plugin),
            Handler::Archive(_) => None,
        }
    }

    /// What runs, for people, labels and headers.
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
    /// Of the data.
    pub schema: Schema,
    /// The first number of the event's attribute `version`; any when absent.
    pub version: Option<u32>,
}

/// What is done with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handler {
    /// A plugin runs; a key of `plugins`.
    Plugin(PluginName),
    /// It is kept.
    Archive(Archive),
}

/// `routes.NAME.archive`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Where.
    pub place: ArchivePlace,
    /// How long a batch waits for more events.
    pub wait: Duration,
    /// Of a folder: a file is ended when it is this long.
    pub file_max_bytes: u64,
}

/// Where an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchivePlace {
    /// Absolute, if the current directory is known.
    Folder(PathBuf),
    /// S3, or what speaks its protocol.
    Objects(ObjectStore),
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectStore {
    /// Its name.
    pub bucket: String,
    /// What keys begin with, without slashes around it.
    pub prefix: String,
    /// Where the store is; Amazon's when absent.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// The id of the key, or why it cannot be read.
    pub access_key: Option<Result<Secret, String>>,
    /// The key, or why it cannot be read.
    pub secret_key: Option<Result<Secret, String>>,
}

/// An exchange and a key; the default exchange and a queue's name to address a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Exchange, which may be the default one.
    pub exchange: ExchangeName,
    /// Key.
    pub key: RoutingKey,
}

/// `routes.NAME.dedupe`: ids of settled events are remembered for so long, and at most so many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupeWindow {
    /// Since the event was settled.
    pub window: Duration,
    /// The oldest are forgotten beyond this.
    pub max: u32,
}

/// `routes.NAME.order-by`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderBy {
    /// The organisation.
    Tenant,
    /// The user.
    User,
    /// What the event is about.
    Subject,
    /// The event's type.
    Type,
    /// Who made it.
    Source,
    /// The key it was published with.
    RoutingKey,
    /// An attribute, by name.
    Attribute(String),
    /// A field of JSON data, by the names on the way to it.
    Data(Vec<String>),
}

/// `routes.NAME.rate`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many events
    pub events: u32,
    /// in so long.
    pub per: Duration,
}

impl std::str::FromStr for Rate {
    type Err = String;

    /// `100/s`, `600/m`, `10/h`
    fn from_str(text: &str) -> Result<Self, String> {
        values::rate(text).map(|(events, per)| Self { events, per })
    }
}

/// `routes.NAME.tenant`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// What of an event names its tenant.
    pub by: OrderBy,
    /// Events of one tenant that may start in a time; what is above waits in the broker.
    pub rate: Option<Rate>,
}

/// `routes.NAME.circuit`: after so many passing failures within the window nothing is consumed for the pause; then one
/// event is tried, and its outcome decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Failures
    pub failures: u32,
    /// within this time
    pub window: Duration,
    /// stop consuming for so long.
    pub pause: Duration,
}

/// `routes.NAME.canary`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// A key of `plugins`.
    pub plugin: PluginName,
    /// Hundredths of a percent of the keys.
    pub share: u16,
    /// What a key is; the route's `order-by`, else the event's id, when absent.
    pub by: Option<OrderBy>,
    /// Whether it is promoted and rolled back without being told.
    pub auto: bool,
}

/// `routes.NAME.shadow`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// A key of `plugins`.
    pub plugin: PluginName,
    /// Hundredths of a percent of the events.
    pub share: u16,
}

/// `routes.NAME.emit`
#[derive(Debug, Clone, PartialEq)]
pub struct Emit {
    /// Exchange; a key of `topology.exchanges` or the default one.
    pub exchange: ExchangeName,
    /// Key, with `{type}` for the emission's type.
    pub key: String,
    /// When given, the only types that may be emitted.
    pub types: Option<Vec<String>>,
    /// What a returned emission means.
    pub unroutable: Unroutable,
}

/// What a returned (unroutable) emission means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unroutable {
    /// Nobody has subscribed, which is normal on an event bus.
    Accept,
    /// Somebody was addressed who is not there: try again.
    Retry,
    /// Dead-letter at once.
    DeadLetter,
}

/// `routes.NAME.retry`: attempt n+1 waits `delay * multiplier^(n-1)`, at most `delay_max`.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Retries after the first attempt; 0 for none.
    pub max: u32,
    /// One step a retry, `max` of them. Equal delays share their queues.
    pub steps: Vec<RetryStep>,
}

/// One wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryStep {
    /// How long at least.
    pub delay: Duration,
    /// By how much longer, at random; zero without jitter.
    pub spread: Duration,
    /// The queues that hold a message for so long on a broker without delayed delivery: `<queue>.retry.<ms>`, with a
    /// TTL, dead-lettered back to the source. One of them is taken at random. Empty when the broker delays by itself.
    pub queues: Vec<QueueName>,
}

/// `[event-types.NAME]`
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EventType {
    /// Routing key; the type itself when absent.
    pub key: Option<RoutingKey>,
    /// What the data has to be.
    pub schema: Option<Schema>,
    /// Default AMQP priority.
    pub priority: Option<u8>,
    /// For people.
    pub description: Option<String>,
}
