//! The checked form: past `config` nobody meets a name, key or number that could still be wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::checked_hooks::Hook;
use super::checked_http::Http;
use super::checked_routes::{DeadLetter, EventType, Route};
use super::grants::{Allow, Secret};
use super::lock::Entry;
use trunkline_event::{ExchangeName, HeaderValue, PluginName, QueueName, RouteName, RoutingKey};

/// Everything that `routes.toml`, the environment and the flags say, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// That file, those it includes, the directories that they are looked for in, and the files of secrets. Absolute.
    pub files: Vec<PathBuf>,
    /// sha-256 over the texts of all files, lower-case hexadecimal.
    pub digest: String,
    /// Where the state of the daemon lives (embedded broker, compile cache). Absolute.
    pub state_dir: PathBuf,
    /// Where it would live by the default of earlier versions, if it is the default now.
    pub earlier_state_dir: Option<PathBuf>,
    /// The broker.
    pub broker: Broker,
    /// The HTTP listener.
    pub http: Http,
    /// What is declared on the broker.
    pub topology: Topology,
    /// Every plugin that a route names.
    pub plugins: BTreeMap<PluginName, Plugin>,
    /// The routes.
    pub routes: BTreeMap<RouteName, Route>,
    /// What `POST /api/v1/events` knows of event types, by type.
    pub event_types: BTreeMap<String, EventType>,
    /// What comes in by HTTP and becomes an event, by name.
    pub hooks: BTreeMap<String, Hook>,
    /// Where `POST /api/v1/events` publishes when the request names no exchange.
    pub default_exchange: ExchangeName,
}

/// Which broker, and how it is reached.
#[derive(Clone, PartialEq, Eq)]
pub enum Broker {
    /// Ours, in `state_dir`.
    Embedded,
    /// A RabbitMQ.
    Amqp {
        /// `amqp://` or `amqps://` URL with credentials; never shown. Use [`Broker::display`].
        url: String,
        /// For an `amqps://` URL.
        tls: Tls,
        /// Where its management API is.
        management: Option<Management>,
        /// What the daemon signs its headers with; made and kept in the state directory when absent.
        header_key: Option<Token>,
    },
}

/// `broker.management-url`, without its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Management {
    /// `http://HOST:PORT` and the path before `/api`, without a stroke at the end.
    pub url: String,
    /// Who asks.
    pub user: String,
    /// Their password.
    pub password: Secret,
}

impl std::fmt::Debug for Management {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url)
    }
}

/// `broker.tls`: PEM files, read anew for every session, so that renewed ones are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Who may have signed the broker's certificate; the system's roots when absent. Absolute.
    pub ca: Option<PathBuf>,
    /// What the daemon shows of itself when the broker asks.
    pub identity: Option<Identity>,
}

/// A certificate of ours and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and its CA. Absolute.
    pub cert: PathBuf,
    /// The private key. Absolute.
    pub key: PathBuf,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.display())
    }
}

impl Broker {
    /// The broker without credentials, for logs: `embedded` or `amqp://host:port/vhost`.
    #[must_use]
    pub fn display(&self) -> String {
        match self {
            Self::Embedded => "embedded".to_owned(),
            Self::Amqp { url, tls: _, management: _, header_key: _ } => redact(url),
        }
    }
}

/// `scheme://user:password@host/path?query` without the part before `@` and without the query.
fn redact(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("amqp", url));
    let rest = rest.split('?').next().unwrap_or_default();
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (rest, String::new()),
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// A bearer token or the like, which never shows in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

/// What is declared on the broker, in the order exchanges, queues, bindings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Topology {
    /// Declare what is missing, or only look whether it is there.
    pub mode: TopologyMode,
    /// By name; the default exchange is never listed.
    pub exchanges: BTreeMap<ExchangeName, Exchange>,
    /// By name, with the dead-letter and retry queues that follow from routes.
    pub queues: BTreeMap<QueueName, Queue>,
    /// Which exchange feeds which queue.
    pub bindings: Vec<Binding>,
}

/// `broker.topology`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TopologyMode {
    /// Create what is missing.
    #[default]
    Declare,
    /// Only look (passive declare); bindings are taken on trust.
    Check,
}

/// `[exchanges.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// Type.
    pub kind: ExchangeKind,
    /// True: we declare it. False: it belongs to others and we only look.
    pub owned: bool,
    /// How messages published here look.
    pub codec: Codec,
    /// Where the broker sends what it cannot route.
    pub alternate: Option<ExchangeName>,
}

/// AMQP's exchange types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// Patterns of dot-separated words, `*` one word, `#` any number.
    Topic,
    /// The key itself.
    Direct,
    /// Everything.
    Fanout,
    /// By header values.
    Headers,
}

impl ExchangeKind {
    /// AMQP's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Headers => "headers",
        }
    }
}

/// How a message becomes an event and an emission a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// Body is data; the rest comes from AMQP properties.
    #[default]
    Raw,
    /// CloudEvents 1.0, binary and structured.
    Cloudevents,
    /// The JSON envelope of voice-by-kraliki.
    Ocelot,
}

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueuePurpose {
    /// A route consumes it.
    Consumed,
    /// No route consumes it: a dead-letter queue, or one that other programs read.
    #[default]
    Kept,
    /// It lists the events of an ordered route that wait. The daemon that runs the route holds its messages for as long.
    List,
    /// Messages wait in it for the next attempt. Its TTL and its dead-letter target are what makes them come back.
    Holding,
}

/// `[queues.NAME]`, or one that we derive.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// What it is for.
    pub purpose: QueuePurpose,
    /// Replicated or not.
    pub kind: QueueKind,
    /// How long a message may wait.
    pub ttl: Option<Duration>,
    /// How many messages may wait.
    pub max_length: Option<u32>,
    /// What happens to one more.
    pub overflow: Overflow,
    /// Deliveries before the broker dead-letters a message; none where none may be given up.
    pub delivery_limit: Option<u32>,
    /// Whether the file says `delivery-limit`, rather than nothing.
    pub limit_is_written: bool,
    /// Where the broker sends what expires, overflows or goes over the delivery limit.
    pub dead_letter: Option<DeadLetter>,
    /// Unacknowledged deliveries at a time.
    pub prefetch: u16,
    /// How messages in it look.
    pub codec: Codec,
    /// Priorities 0 to this are told apart, on a classic queue; a higher one is delivered first.
    pub max_priority: Option<u8>,
    /// One consumer at a time, the others stand by: without it several daemons would break the order of a key.
    pub single_consumer: bool,
}

impl Queue {
    /// Whether RabbitMQ can pass on what this queue gives up until its target has confirmed it. It has that for quorum queues
    /// which refuse publishes when they are full; one without a length is never full.
    #[must_use]
    pub fn passes_on_at_least_once(&self) -> bool {
        let drops_nothing = self.overflow == Overflow::RejectPublish || self.max_length.is_none();
        self.kind == QueueKind::Quorum && self.dead_letter.is_some() && drops_nothing
    }
}

/// Queue types of RabbitMQ. The embedded broker has one kind and takes both words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueKind {
    /// Replicated, faster on RabbitMQ 3.10 as well, and gives back fewer messages after a crash.
    #[default]
    Quorum,
    /// On one node.
    Classic,
}

/// What a full queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// Drop the oldest (to the dead-letter target, if there is one).
    #[default]
    DropHead,
    /// Refuse the publish with a nack.
    RejectPublish,
}

/// One binding.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// From this exchange,
    pub exchange: ExchangeName,
    /// to this queue,
    pub queue: QueueName,
    /// what matches this.
    pub matches: Match,
}

/// What a binding lets through.
#[derive(Debug, Clone, PartialEq)]
pub enum Match {
    /// A key, or a pattern of one on a topic exchange; ignored by fanout.
    Key(RoutingKey),
    /// Header values, on a headers exchange.
    Headers {
        /// True: all must be equal (`x-match: all`); false: one is enough (`any`).
        all: bool,
        /// Names and values.
        values: Vec<(String, HeaderValue)>,
    },
}

/// `[plugins.NAME]`, or the defaults for one that a route names.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// The component. Absolute.
    pub file: PathBuf,
    /// Only a file with this sha-256 (lower-case hexadecimal) is loaded.
    pub digest: Option<String>,
    /// What the plugin reads through `wasi:config/store`.
    pub config: BTreeMap<String, String>,
    /// What it reads in the same way and nobody else does, or why that is not there.
    pub secrets: BTreeMap<String, Result<Secret, String>>,
    /// What it may do beyond its call.
    pub allow: Allow,
    /// Public keys, one of which must have signed the file; none for a file that needs no signature.
    pub signers: Vec<String>,
    /// What `plugins.lock` says of it, or why it may not run; none where there is no lock.
    pub locked: Option<Result<Entry, String>>,
    /// What a call may take.
    pub limits: Limits,
}

impl Plugin {
    /// A file of which nothing else is said.
    #[must_use]
    pub fn of(file: PathBuf) -> Self {
        Self {
            file,
            digest: None,
            config: BTreeMap::new(),
            secrets: BTreeMap::new(),
            allow: Allow::default(),
            signers: Vec::new(),
            locked: None,
            limits: Limits::default(),
        }
    }
}

/// What one call of a plugin may take. No field is unset: who forgets one would hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Linear memories of the instance together, in bytes.
    pub memory_max_bytes: u64,
    /// Wall clock of the whole call, host calls included.
    pub timeout: Duration,
    /// Emissions per event.
    pub emissions_max: u32,
    /// Data and strings of all emissions together, in bytes.
    pub output_max_bytes: u64,
    /// Log text per event, in bytes.
    pub log_max_bytes: u64,
    /// Body of a request and of a response over `allow.http`, in bytes.
    pub http_body_max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_max_bytes: 64 * 1024 * 1024,
            timeout: Duration::from_secs(1),
            emissions_max: 1000,
            output_max_bytes: 8 * 1024 * 1024,
            log_max_bytes: 64 * 1024,
            http_body_max_bytes: 1024 * 1024,
        }
    }
}
