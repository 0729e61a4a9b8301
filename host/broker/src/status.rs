//! The state of a broker as the daemon sees it.

use std::time::Duration;

use crate::BrokerServer;

/// The state of the connection to a broker. [`Broker::status`](crate::Broker::status) shows its changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrokerStatus {
    /// Whether the broker is usable now.
    pub connected: bool,
    /// The number of sessions so far; 0 before the first. Deliveries of an earlier session can no longer be answered.
    pub session: u64,
    /// Whether an alarm of the broker stops publishing.
    pub blocked: bool,
    /// The parts of the topology that the broker refused, as sentences.
    pub refused: Vec<String>,
    /// Why the broker is not usable.
    pub error: Option<String>,
    /// Product and version of the broker that answered last; none for the embedded broker.
    pub server: Option<BrokerServer>,
}

/// The depth of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// Messages that can be delivered.
    pub ready: u64,
    /// Messages that are delivered and not acknowledged.
    pub unacknowledged: u64,
    /// Messages that the broker holds back until their retry.
    pub retrying: u64,
    /// Consumers.
    pub consumers: u64,
    /// The time since the first ready message was published.
    pub oldest_age: Option<Duration>,
}
