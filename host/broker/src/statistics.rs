//! Statistics of queues.

use std::time::Duration;

use trunkline_event::QueueName;

/// Statistics of the queues of a topology.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// The source of the figures.
    pub source: StatisticsSource,
    /// The queues that exist.
    pub queues: Vec<QueueStatistics>,
    /// Messages in the delay queues that all daemons of RabbitMQ's virtual host share: retries and delayed emissions. None for
    /// the embedded broker, which counts the retries of each queue.
    pub delayed: Option<u64>,
    /// Why figures are missing, as sentences.
    pub problems: Vec<String>,
}

/// The source of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatisticsSource {
    /// The store of the embedded broker.
    Embedded,
    /// RabbitMQ over AMQP, which reports ready messages and consumers only.
    Amqp,
    /// RabbitMQ over AMQP and its management API, whose figures are some seconds old.
    Management,
}

impl StatisticsSource {
    /// The word in the HTTP API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Amqp => "amqp",
            Self::Management => "management",
        }
    }
}

/// The figures of one queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueStatistics {
    /// The name of the queue.
    pub queue: QueueName,
    /// Messages that can be delivered.
    pub ready: u64,
    /// Messages that are delivered and not acknowledged.
    pub unacknowledged: Option<u64>,
    /// Messages that the broker holds back until their retry; none on RabbitMQ, where they wait in shared queues.
    pub retrying: Option<u64>,
    /// Consumers, including those of other programs.
    pub consumers: u64,
    /// The time since the first ready message was published.
    pub oldest_age: Option<Duration>,
    /// Messages a second.
    pub rates: Option<Rates>,
}

/// Messages a second, as the mean of the last seconds. A rate that the broker does not report is none, never 0: RabbitMQ
/// reports no rate of the messages that reach a queue as dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    /// Published into the queue.
    pub published: Option<f64>,
    /// Delivered to consumers.
    pub delivered: Option<f64>,
    /// Acknowledged by consumers.
    pub acknowledged: Option<f64>,
}
