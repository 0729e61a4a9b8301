//! What a consumer gets, and how it is answered: once, and only with a receipt.

use std::sync::Arc;
use std::time::Duration;

use super::{Error, Receipt, amqp, embedded};
use trunkline_event::{Message, QueueName};

/// How often a subscription is looked at while no delivery is wanted. A wake for each arrival costs a busy route a sixth of its
/// processor time.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// What [`Subscription::next`] gives.
#[derive(Debug)]
pub enum Next {
    /// A message to answer.
    Delivery(Delivery),
    /// The broker sends no more, with the reason, because the queue was deleted or moved. What was handed out is still
    /// ours to settle; [`Broker::renew`](super::Broker::renew) consumes again.
    Cancelled(String),
    /// The subscription is over, with the reason; subscribe again when the broker is connected. What was handed out and
    /// is not answered comes again.
    Ended(String),
}

/// A consumer of one queue.
pub enum Subscription {
    /// On a channel of its own.
    Amqp(Box<amqp::Subscription>),
    /// On a queue of ours.
    Embedded(embedded::Subscription),
}

impl Subscription {
    /// The next delivery. Safe to drop while waiting (as an arm of `select!`).
    pub async fn next(&mut self) -> Next {
        match self {
            Self::Amqp(subscription) => subscription.next().await,
            Self::Embedded(subscription) => subscription.next().await,
        }
    }

    /// The next delivery, or, unless one is wanted, only the end of the subscription, which is seen within 100 ms
    /// then. Safe to drop while waiting.
    pub async fn next_or_end(&mut self, wanted: bool) -> Next {
        if wanted {
            return self.next().await;
        }
        match self {
            Self::Amqp(subscription) => subscription.ended().await,
            Self::Embedded(subscription) => Next::Ended(subscription.ended().await),
        }
    }

    /// Whether what was handed out can still be settled.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Self::Amqp(subscription) => subscription.is_open(),
            Self::Embedded(_) => true,
        }
    }

    /// Changes how many deliveries may be unanswered; what was handed out stays handed out.
    ///
    /// # Errors
    /// [`Error::Lost`] when the subscription is over.
    pub async fn resize(&mut self, prefetch: u16) -> Result<(), Error> {
        match self {
            Self::Amqp(subscription) => subscription.resize(prefetch).await,
            Self::Embedded(subscription) => {
                subscription.resize(prefetch);
                Ok(())
            }
        }
    }

    /// Stops new deliveries at the broker and gives back those that were not handed out by `next`. What was handed
    /// out can still be settled. Called before [`Subscription::close`] when draining.
    pub async fn cancel(&mut self) {
        match self {
            Self::Amqp(subscription) => subscription.cancel().await,
            Self::Embedded(subscription) => subscription.cancel().await,
        }
    }

    /// Sends every acknowledgement that is still buffered, waits until the broker has taken them, and gives what is
    /// unanswered back to the queue.
    ///
    /// # Errors
    /// [`Error::Lost`] when acknowledgements may not have arrived: those messages come again.
    pub async fn close(self) -> Result<(), Error> {
        match self {
            Self::Amqp(subscription) => subscription.close().await,
            Self::Embedded(subscription) => subscription.close().await,
        }
    }
}

/// Deliveries before this one that make a message a suspect: it may be what ended the daemon. The embedded broker counts so
/// many at least for what was in work when a run ended badly, since nobody knows how often it was handed out.
pub(super) const SUSPECT_DELIVERIES: u32 = 2;

/// A message to be answered once. Dropped without an answer it stays unacknowledged until its subscription ends.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// The queue it came from.
    pub queue: QueueName,
    /// False only when the broker knows that it was never delivered before.
    pub redelivered: bool,
    /// Deliveries before this one, as far as the broker counts them.
    pub delivery_count: u32,
    /// What is wrong with a message that could not be read as it came. What could be read is in the message, and the rest as
    /// bytes in its `trunkline-kept-` headers, as far as there is room.
    pub unreadable: Option<String>,
    pub(super) answer: Answer,
}

/// The way back.
#[derive(Debug)]
pub(super) enum Answer {
    Amqp(amqp::Answer),
    Embedded(embedded::Answer),
}

/// How a delivery is answered. There is no reject: a dead letter is a confirmed publish of ours and then an ack.
#[derive(Debug)]
pub enum Settlement {
    /// Everything that follows from it is confirmed.
    Published(Receipt),
    /// Nothing was published for it, for this reason.
    Nothing(NothingPublished),
}

/// Why a delivery may be acknowledged although nothing was published for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NothingPublished {
    /// The plugin handled the event and emitted nothing.
    NoEmissions,
    /// The event was settled before, within the dedupe window of its route.
    Duplicate,
    /// The route's filter does not let the event in.
    Filtered,
    /// The event is stored in an archive.
    Archived,
    /// The event was sent to the client of a stream.
    Streamed,
    /// It is no event, but an entry or a mark of the daemon's own, and its time is over.
    Noted,
}

/// Deliveries that one transaction acknowledges: one, and what goes with it.
#[derive(Debug)]
pub struct Deliveries {
    /// The event's.
    pub first: Delivery,
    /// Those that are over when the event is.
    pub with_it: Vec<Delivery>,
}

impl From<Delivery> for Deliveries {
    fn from(first: Delivery) -> Self {
        Self { first, with_it: Vec::new() }
    }
}

impl Deliveries {
    pub(super) fn all(&self) -> impl Iterator<Item = &Delivery> {
        std::iter::once(&self.first).chain(&self.with_it)
    }

    pub(super) fn into_all(self) -> impl Iterator<Item = Delivery> {
        std::iter::once(self.first).chain(self.with_it)
    }
}

impl Delivery {
    /// Whether it came back so often that it may be what ended a daemon.
    #[must_use]
    pub const fn is_suspect(&self) -> bool {
        self.delivery_count >= SUSPECT_DELIVERIES
    }

    /// Answers, and returns when the acknowledgement is on its way to RabbitMQ, ahead of all that are made from then on, or
    /// on the disk of the embedded broker.
    ///
    /// # Errors
    /// [`Error::Lost`] when its subscription is over: the message comes again.
    pub async fn settle_now(self, settlement: Settlement) -> Result<(), Error> {
        match settlement {
            Settlement::Published(_) | Settlement::Nothing(_) => {}
        }
        match self.answer {
            Answer::Amqp(answer) => answer.ack_now().await,
            Answer::Embedded(answer) => answer.ack_now().await,
        }
    }

    /// Answers. Acknowledgements are sent in batches; one that belongs to a lost session is dropped, and the broker
    /// delivers the message again.
    pub fn settle(self, settlement: Settlement) {
        match settlement {
            Settlement::Published(_) | Settlement::Nothing(_) => {}
        }
        match self.answer {
            Answer::Amqp(answer) => answer.ack(),
            Answer::Embedded(answer) => answer.ack(),
        }
    }
}
