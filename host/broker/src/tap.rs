//! A reader's own queue: bound by patterns for as long as somebody reads it, and for a while longer, so that who comes
//! back goes on where they were.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Broker, Error, Subscription};
use trunkline_config::{Binding, Codec, DeadLetter, Match, Overflow, Queue, QueueKind, QueuePurpose};
use trunkline_event::{ExchangeName, QueueName, RoutingKey};

/// What a reader listens to, and how long its queue outlives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tap {
    /// The queue, the reader's alone.
    pub queue: QueueName,
    /// A queue for what did not fit into the other one. It keeps one message, the last: a trace that there is a gap.
    pub overflow: QueueName,
    /// Where the events come from.
    pub exchange: ExchangeName,
    /// Keys or, on a topic exchange, patterns.
    pub keys: Vec<RoutingKey>,
    /// Without a reader for so long, the queue is gone.
    pub expires: Duration,
    /// Messages that wait at most; the oldest goes when there are more.
    pub max_length: u32,
}

impl Tap {
    /// The bindings of its queue.
    pub(super) fn bindings(&self) -> impl Iterator<Item = Binding> {
        self.keys.iter().map(|key| Binding {
            exchange: self.exchange.clone(),
            queue: self.queue.clone(),
            matches: Match::Key(key.clone()),
        })
    }

    /// Both queues with the time that each outlives its reader: a dead letter must not find its queue gone.
    pub(super) fn queues(&self) -> [(&QueueName, Queue, Duration); 2] {
        let key = self.overflow.as_key();
        let dead_letter = DeadLetter { exchange: ExchangeName::default_exchange(), key };
        [
            (&self.overflow, settings(1, None), self.expires * 2),
            (&self.queue, settings(self.max_length, Some(dead_letter)), self.expires),
        ]
    }
}

/// Classic: what comes back is in its old place there, which a quorum queue without a delivery limit does not promise.
fn settings(max_length: u32, dead_letter: Option<DeadLetter>) -> Queue {
    Queue {
        purpose: QueuePurpose::Kept,
        kind: QueueKind::Classic,
        ttl: None,
        max_length: Some(max_length),
        overflow: Overflow::DropHead,
        delivery_limit: None,
        limit_is_written: false,
        dead_letter,
        prefetch: 1,
        codec: Codec::Raw,
        max_priority: None,
        single_consumer: false,
    }
}

impl Broker {
    /// Makes a reader's queues and bindings. From then on nothing that matches is missed.
    ///
    /// # Errors
    /// [`Error::Queue`] when the broker does not allow it, [`Error::Lost`] when there is no session now.
    pub async fn open_tap(&self, tap: &Tap) -> Result<(), Error> {
        match self {
            Self::Amqp(broker) => broker.open_tap(tap).await,
            Self::Embedded(broker) => broker.open_tap(tap).await,
        }
    }

    /// How many consumers a reader's queue has; none when it is gone.
    ///
    /// # Errors
    /// [`Error::Lost`] when there is no session now.
    pub async fn tap_consumers(&self, tap: &Tap) -> Result<Option<u32>, Error> {
        match self {
            Self::Amqp(broker) => broker.tap_consumers(tap).await,
            Self::Embedded(broker) => broker.tap_consumers(tap),
        }
    }

    /// Begins to consume what did not fit, as the only one: who holds this may read the other queue. Two readers, of which
    /// the older one has lost its client, would share what both must see.
    ///
    /// # Errors
    /// [`Error::Queue`] while another holds it, [`Error::Lost`] when there is no session now.
    pub async fn hold_tap(&self, tap: &Tap, tag: &str) -> Result<Subscription, Error> {
        match self {
            Self::Amqp(broker) => Ok(Subscription::Amqp(Box::new(broker.hold_tap(tap, tag).await?))),
            Self::Embedded(broker) => Ok(Subscription::Embedded(broker.hold_tap(tap)?)),
        }
    }

    /// Removes what was without a reader for too long, where the broker does not do it by itself. Called now and then.
    pub async fn expire_taps(&self) {
        match self {
            Self::Amqp(_) => {}
            Self::Embedded(broker) => broker.expire_taps().await,
        }
    }
}
