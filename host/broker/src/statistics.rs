//! What a broker tells of its queues.

use std::time::Duration;

use trunkline_event::QueueName;

/// What a broker tells of the queues of a topology.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// Where the figures come from.
    pub source: Source,
    /// The queues that are there.
    pub queues: Vec<QueueStatistics>,
    /// What could not be told, as sentences.
    pub problems: Vec<String>,
}

/// Where figures come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The store in this process.
    Embedded,
    /// RabbitMQ over AMQP, which tells ready messages and consumers only.
    Amqp,
    /// That, and RabbitMQ's management API, whose figures are some seconds old.
    Management,
}

impl Source {
    /// For people and programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Amqp => "amqp",
            Self::Management => "management",
        }
    }
}

/// One queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueStatistics {
    /// Its name.
    pub queue: QueueName,
    /// Messages that can be delivered.
    pub ready: u64,
    /// Messages that are delivered and not answered.
    pub unacknowledged: Option<u64>,
    /// Messages that the broker holds back until they are tried again; none where they wait in queues of their own.
    pub retrying: Option<u64>,
    /// Consumers, those of other programs too.
    pub consumers: u64,
    /// Since the first ready message was published.
    pub oldest_age: Option<Duration>,
    /// How fast things happen.
    pub rates: Option<Rates>,
}

/// Messages a second, the mean of the last seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    /// Into the queue.
    pub published: f64,
    /// To consumers.
    pub delivered: f64,
    /// Acknowledged by consumers.
    pub acknowledged: f64,
}
