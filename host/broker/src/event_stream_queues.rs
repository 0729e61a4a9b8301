//! The queue of a stream of the HTTP API, which is not a RabbitMQ stream queue. The queue outlives its reader for a while, so
//! that a client that reconnects resumes where it was.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use trunkline_config::{Binding, DeadLetter, Match, Queue, QueueKind, QueuePurpose};
use trunkline_event::{ExchangeName, QueueName, RoutingKey};

/// The queues of a stream: the events that it gets, and how long the queues outlive their reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventStreamQueues {
    /// The queue of the stream. No other stream uses it.
    pub queue: QueueName,
    /// The queue for events that did not fit into the first one. It keeps the last event only, as a sign of the gap.
    pub overflow: QueueName,
    /// The exchange of the events.
    pub exchange: ExchangeName,
    /// Routing keys, or patterns on a topic exchange.
    pub keys: Vec<RoutingKey>,
    /// The time without a reader after which the queue is removed.
    pub expires: Duration,
    /// The largest number of waiting messages. The oldest goes to the overflow queue when there are more.
    pub max_length: u32,
}

impl EventStreamQueues {
    /// The bindings of the stream's queue.
    pub(super) fn bindings(&self) -> impl Iterator<Item = Binding> {
        self.keys.iter().map(|key| Binding {
            exchange: self.exchange.clone(),
            queue: self.queue.clone(),
            matches: Match::Key(key.clone()),
        })
    }

    /// Both queues, each with the time that it outlives its reader. The overflow queue is removed last, so that a dead letter
    /// always finds it.
    pub(super) fn queues(&self) -> [(&QueueName, Queue, Duration); 2] {
        let key = self.overflow.as_key();
        let dead_letter = DeadLetter { exchange: ExchangeName::default_exchange(), key };
        [
            (&self.overflow, settings(1, None), self.expires * 2),
            (&self.queue, settings(self.max_length, Some(dead_letter)), self.expires),
        ]
    }
}

/// The settings of a classic queue. A message that goes back keeps its place there, which a quorum queue without a delivery
/// limit does not promise.
fn settings(max_length: u32, dead_letter: Option<DeadLetter>) -> Queue {
    Queue { max_length: Some(max_length), dead_letter, ..Queue::unlimited(QueuePurpose::Kept, QueueKind::Classic) }
}
