//! Deliveries: each is answered once, and acknowledged only with a receipt or a named reason.

use std::sync::Arc;
use std::time::Duration;

use crate::{Error, Receipt, amqp, embedded};
use trunkline_event::{Message, QueueName};

/// Time between checks for the end of a subscription while no delivery is wanted. A wake-up for each arrival would take a sixth
/// of a busy route's processor time.
pub(super) const END_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The result of [`Subscription::next`](crate::Subscription::next).
#[derive(Debug)]
pub enum Next {
    /// A delivery that has to be answered.
    Delivery(Delivery),
    /// The broker sends no more deliveries, with the reason, because the queue was deleted or moved. Earlier deliveries can still
    /// be settled. [`Broker::renew`](crate::Broker::renew) consumes again.
    Cancelled(String),
    /// The subscription is over, with the reason. Unacknowledged messages are delivered again to the next subscription.
    Ended(String),
}

/// Earlier deliveries that make a message a suspect, because it may have ended the daemon. The embedded broker counts at least
/// this many for messages that were unacknowledged when a run ended badly, because their exact number is unknown.
pub(super) const SUSPECT_DELIVERIES: u32 = 2;

/// A delivery, which is answered once. A delivery that is dropped stays unacknowledged until its subscription ends.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// The queue of the message.
    pub queue: QueueName,
    /// Whether the message may have been delivered before.
    pub redelivered: bool,
    /// Earlier deliveries of the message, as far as the broker counts them.
    pub delivery_count: u32,
    /// Time that the message waited in its queue. Zero for RabbitMQ, which does not report the time.
    pub waited: Duration,
    /// Why the message could not be read as it was sent. The readable parts are in the message. The rest is kept as bytes in its
    /// `trunkline-kept-` headers, cut to the space that a frame has.
    pub unreadable: Option<String>,
    pub(super) ack_handle: AckHandle,
}

/// The handle that acknowledges a delivery at its broker.
#[derive(Debug)]
pub(super) enum AckHandle {
    Amqp(amqp::AmqpAckHandle),
    Embedded(embedded::EmbeddedAckHandle),
}

/// The answer to a delivery. There is no reject: a dead letter is a confirmed publish and then an acknowledgement.
#[derive(Debug)]
pub enum Settlement {
    /// Everything that follows from the delivery is confirmed.
    Published(Receipt),
    /// Nothing was published for the delivery, for this reason.
    Nothing(NothingPublished),
}

/// Why a delivery may be acknowledged although nothing was published for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NothingPublished {
    /// The plugin handled the event and emitted nothing.
    NoEmissions,
    /// The event was settled before, within the dedupe window of its route.
    Duplicate,
    /// The event is stored in an archive.
    Archived,
    /// The event was sent to the client of a stream.
    Streamed,
    /// The message is one of the daemon's own, which carries no event and is no longer needed.
    OwnMessage,
}

/// Deliveries that one transaction acknowledges together.
#[derive(Debug)]
pub struct Deliveries {
    /// The delivery of the event.
    pub first: Delivery,
    /// Deliveries that end with the event.
    pub others: Vec<Delivery>,
}

impl From<Delivery> for Deliveries {
    fn from(first: Delivery) -> Self {
        Self { first, others: Vec::new() }
    }
}

impl Deliveries {
    pub(super) fn all(&self) -> impl Iterator<Item = &Delivery> {
        std::iter::once(&self.first).chain(&self.others)
    }

    pub(super) fn into_all(self) -> impl Iterator<Item = Delivery> {
        std::iter::once(self.first).chain(self.others)
    }
}

impl Delivery {
    /// Whether the message came back so often that it may have ended a daemon.
    #[must_use]
    pub const fn is_suspect(&self) -> bool {
        self.delivery_count >= SUSPECT_DELIVERIES
    }

    /// Answers the delivery. Returns when the acknowledgement is on its way to RabbitMQ, ahead of all later ones, or on the disk of
    /// the embedded broker.
    ///
    /// # Errors
    /// [`Error::Lost`] when the subscription is over. The broker delivers the message again.
    pub async fn settle_now(self, settlement: Settlement) -> Result<(), Error> {
        match settlement {
            Settlement::Published(_) | Settlement::Nothing(_) => {}
        }
        match self.ack_handle {
            AckHandle::Amqp(handle) => handle.ack_now(),
            AckHandle::Embedded(handle) => handle.ack_now().await,
        }
    }

    /// Answers the delivery. Acknowledgements are sent in batches. An acknowledgement of a lost session is dropped, and the broker
    /// delivers the message again.
    pub fn settle(self, settlement: Settlement) {
        match settlement {
            Settlement::Published(_) | Settlement::Nothing(_) => {}
        }
        match self.ack_handle {
            AckHandle::Amqp(handle) => handle.ack(),
            AckHandle::Embedded(handle) => handle.ack(),
        }
    }
}
