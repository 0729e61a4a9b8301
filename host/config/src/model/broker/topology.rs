//! Exchanges, queues and bindings.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::broker::codec::Codec;
use trunkline_event::{ExchangeName, HeaderValue, QueueName, RoutingKey};

/// Exchanges, queues and bindings, which are declared in this order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Topology {
    /// Whether missing items are declared.
    pub mode: TopologyMode,
    /// Exchanges by name, without the nameless exchange.
    pub exchanges: BTreeMap<ExchangeName, Exchange>,
    /// Queues by name, with the dead-letter queues and waiting lists that follow from routes.
    pub queues: BTreeMap<QueueName, Queue>,
    /// The bindings.
    pub bindings: Vec<Binding>,
}

/// `broker.topology`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TopologyMode {
    /// Missing items are created.
    #[default]
    Declare,
    /// Exchanges and queues are looked up with a passive declare. Bindings are not looked up.
    Check,
}

/// `[exchanges.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// Type of the exchange.
    pub kind: ExchangeKind,
    /// Whether the daemon declares the exchange. An exchange of another program is only looked up.
    pub owned: bool,
    /// The form of messages in the exchange.
    pub codec: Codec,
    /// The exchange that gets unroutable messages.
    pub alternate: Option<ExchangeName>,
}

/// AMQP's exchange types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// Routing by topic patterns: `*` stands for one word, `#` for any number of words.
    Topic,
    /// Routing by equal keys.
    Direct,
    /// Every queue gets every message.
    Fanout,
    /// Routing by header values.
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

/// The purpose of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueuePurpose {
    /// A route consumes the queue.
    Consumed,
    /// No route consumes the queue: a dead-letter queue, or a queue that other programs read.
    #[default]
    Kept,
    /// A waiting list. The daemon that runs the ordered route holds its messages unacknowledged.
    List,
    /// A delay queue. Its TTL and its dead-letter target pass messages on. The broker's client declares these queues, and no
    /// topology has one.
    Holding,
}

/// `owned` of `[queues.NAME]`: the programs that declare a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueOwnership {
    /// The daemon declares the queue, with all arguments that keep messages safe.
    #[default]
    Daemon,
    /// The daemon declares the queue with the arguments that the file names, and no route consumes the queue. Other programs
    /// usually declare such a queue without arguments.
    Plain,
    /// Other programs declare the queue too. The daemon declares a missing queue with the arguments that the queue's table
    /// names, and uses an existing queue as it is.
    Shared,
    /// Only other programs declare and bind the queue.
    Others,
}

impl QueueOwnership {
    /// Whether other programs choose the arguments. The dead-letter target of the file is not an argument of such a queue.
    #[must_use]
    pub const fn is_of_other_programs(self) -> bool {
        matches!(self, Self::Shared | Self::Others)
    }
}

/// `[queues.NAME]`, or a queue that is derived from a route.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// The purpose.
    pub purpose: QueuePurpose,
    /// The programs that declare the queue.
    pub ownership: QueueOwnership,
    /// Quorum or classic; `None` leaves the type to the broker.
    pub kind: Option<QueueKind>,
    /// How long a message may wait.
    pub ttl: Option<Duration>,
    /// Largest number of messages that may wait.
    pub max_length: Option<u32>,
    /// The way a full queue handles one more message.
    pub overflow: Overflow,
    /// Whether the file has the key `overflow`.
    pub overflow_is_written: bool,
    /// The delivery limit; `None` where the broker may not give messages up.
    pub delivery_limit: Option<u32>,
    /// Whether the file has the key `delivery-limit`.
    pub limit_is_written: bool,
    /// The target of messages that expire, overflow or exceed the delivery limit.
    pub dead_letter: Option<DeadLetter>,
    /// Number of unacknowledged deliveries at a time.
    pub prefetch: u16,
    /// The form of messages in the queue.
    pub codec: Codec,
    /// The highest priority that a classic queue tells apart. A higher priority is delivered first.
    pub max_priority: Option<u8>,
    /// Whether the queue has one active consumer at a time. Several consumers would break the order of a key.
    pub single_consumer: bool,
    /// `arguments`: further arguments with which other programs declare the queue.
    pub arguments: BTreeMap<String, HeaderValue>,
}

impl Queue {
    /// A queue that keeps its messages: without a TTL, a length, a delivery limit and a dead-letter target.
    #[must_use]
    pub const fn unlimited(purpose: QueuePurpose, kind: QueueKind) -> Self {
        Self {
            purpose,
            ownership: QueueOwnership::Daemon,
            kind: Some(kind),
            ttl: None,
            max_length: None,
            overflow: Overflow::DropHead,
            overflow_is_written: false,
            delivery_limit: None,
            limit_is_written: false,
            dead_letter: None,
            prefetch: 1,
            codec: Codec::Raw,
            max_priority: None,
            single_consumer: false,
            arguments: BTreeMap::new(),
        }
    }

    /// Whether RabbitMQ repeats a dead letter until its target confirms it. RabbitMQ does so for quorum queues that refuse
    /// publishes when they are full. A queue without a length is never full. The arguments for it are the daemon's own choice,
    /// so a queue that the daemon does not declare with all its arguments does not have them.
    #[must_use]
    pub fn passes_on_at_least_once(&self) -> bool {
        let drops_nothing = self.overflow == Overflow::RejectPublish || self.max_length.is_none();
        let is_safe = self.ownership == QueueOwnership::Daemon && self.kind == Some(QueueKind::Quorum);
        is_safe && self.dead_letter.is_some() && drops_nothing
    }
}

/// Queue types of RabbitMQ. The embedded broker has one type and accepts both words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueKind {
    /// Replicated. It is also faster on RabbitMQ 3.10, and delivers fewer messages again after a crash.
    #[default]
    Quorum,
    /// On one node of a cluster.
    Classic,
}

/// The way a full queue handles one more message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The oldest message is moved to the dead-letter target, or dropped without one.
    #[default]
    DropHead,
    /// The publish is refused with a nack.
    RejectPublish,
}

/// A binding.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The exchange.
    pub exchange: ExchangeName,
    /// The queue.
    pub queue: QueueName,
    /// The condition that a message has to match.
    pub matches: Match,
}

/// The condition that a message has to match.
#[derive(Debug, Clone, PartialEq)]
pub enum Match {
    /// A routing key, or a topic pattern on a topic exchange. A fanout exchange ignores it.
    Key(RoutingKey),
    /// Header values, on a headers exchange.
    Headers {
        /// Whether all values have to be equal (`x-match: all`), or one is enough (`any`).
        all: bool,
        /// Names and values.
        values: Vec<(String, HeaderValue)>,
    },
}

/// A dead-letter target: an exchange and a key. The nameless exchange reaches a queue by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The exchange, which may be the nameless exchange.
    pub exchange: ExchangeName,
    /// The routing key.
    pub key: RoutingKey,
}
