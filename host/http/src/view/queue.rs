//! The queues of routes.toml as the broker reports them.

use serde::Serialize;
use utoipa::ToSchema;

/// The queues of routes.toml, with figures of the broker.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct QueuesView {
    /// Source of the figures: `embedded`, `amqp` or `management`. The source `amqp` reports only ready messages and consumers.
    /// The source `management` also reports unacknowledged messages and rates, which are some seconds old.
    #[schema(value_type = String)]
    pub source: &'static str,
    /// Number of messages in the delay queues of RabbitMQ's virtual host. Retries and delayed emissions of all daemons wait in
    /// these queues. Null for the embedded broker.
    pub delayed: Option<u64>,
    /// Sentences about figures that the broker did not report.
    pub problems: Vec<String>,
    /// Queues in the order of their names.
    pub queues: Vec<QueueView>,
    /// Retry queues of earlier builds on RabbitMQ. The daemon does not use these queues.
    pub removable: Vec<RemovableQueueView>,
}

/// A retry queue of an earlier build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RemovableQueueView {
    /// Name of the queue.
    pub name: String,
    /// Number of events that still wait in the queue. RabbitMQ moves these events to the queue of their route.
    pub ready: u64,
    /// Command that deletes the queue. Run the command when no event waits and no daemon of an earlier build runs.
    pub command: String,
}

/// A queue of routes.toml, with figures of the broker.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct QueueView {
    /// Name of the queue.
    pub name: String,
    /// Role of the queue.
    pub role: Role,
    /// Number of messages that wait for delivery.
    pub ready: u64,
    /// Number of messages that are delivered and not acknowledged. Null if the broker reports no figure.
    pub unacknowledged: Option<u64>,
    /// Number of events that wait in the broker for a retry. Null for RabbitMQ, where the events wait in the delay queues.
    pub retrying: Option<u64>,
    /// Number of consumers, including the consumers of other programs.
    pub consumers: u64,
    /// Age of the first ready message in seconds. Null if the broker reports no figure.
    pub oldest_age_seconds: Option<f64>,
    /// Rates of the queue. Null if the broker reports no rates.
    pub rates: Option<RatesView>,
    /// Dead-letter queue of this queue.
    pub dead_letter_queue: Option<String>,
    /// Number of messages in the dead-letter queue. Several queues may share a dead-letter queue.
    pub dead_letters: Option<u64>,
}

/// The role of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The queue has messages for routes or other consumers.
    Work,
    /// The queue has dead letters.
    DeadLetter,
}

impl Role {
    /// The word of the role, which is also the value of the label `role`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::DeadLetter => "dead-letter",
        }
    }
}

/// The rates of a queue in messages per second, as the mean of the last seconds. A rate that the broker does not report is null.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, ToSchema)]
pub struct RatesView {
    /// Rate of the messages that are published into the queue.
    pub publish: Option<f64>,
    /// Rate of the messages that are delivered to consumers.
    pub deliver: Option<f64>,
    /// Rate of the messages that consumers acknowledge.
    pub acknowledge: Option<f64>,
}

impl QueueView {
    /// Number of messages that wait for delivery, or are delivered and not acknowledged.
    pub(crate) fn messages(&self) -> u64 {
        self.ready + self.unacknowledged.unwrap_or_default()
    }
}

impl RatesView {
    /// The sums of the reported rates. A rate that neither queue has stays unknown.
    pub(crate) fn plus(self, other: Self) -> Self {
        let sum = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        Self {
            publish: sum(self.publish, other.publish),
            deliver: sum(self.deliver, other.deliver),
            acknowledge: sum(self.acknowledge, other.acknowledge),
        }
    }
}
