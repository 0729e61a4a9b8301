//! Publishing: what is sent, what the broker answered for each message, and the proof that all of it is confirmed.
//!
//! Promises: a [`Receipt`] exists only for a [`Batch`] with at least one message, all of them confirmed. A message that
//! the broker has confirmed once is not published again, however often the rest of its batch is. Failures that repeat
//! ([`Permanent`]) and failures that may pass ([`Passing`]) are different types, so that no caller can retry the former.

use std::sync::Arc;
use std::time::Duration;

use trunkline_event::{LimitError, Message, Reason};

/// A message to publish, always persistent and mandatory.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The message.
    pub message: Arc<Message>,
    /// Whether it counts as done when no queue is bound for it.
    pub accept_unroutable: bool,
    /// Not before this time from now; the broker waits, not the daemon. At most [`DELAY_MAX`].
    pub delay: Option<Duration>,
    /// It waits to be tried again in the queue that it is addressed to, and is counted as that.
    pub is_retry: bool,
}

/// The longest delay of a publication: 30 days.
pub const DELAY_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

impl Publication {
    /// The message, to change it before it is published; copied if somebody else has it too.
    pub fn message_mut(&mut self) -> &mut Message {
        Arc::make_mut(&mut self.message)
    }

    /// Published at once.
    #[must_use]
    pub fn now(message: impl Into<Arc<Message>>, accept_unroutable: bool) -> Self {
        Self { message: message.into(), accept_unroutable, delay: None, is_retry: false }
    }
}

/// What the broker confirmed of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// It is in at least one queue.
    Routed,
    /// No queue is bound for it, and the caller accepts that.
    Unrouted,
}

/// Messages that are published together, and which of them the broker has confirmed so far.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    messages: Vec<(Publication, Option<Confirmed>)>,
}

impl Batch {
    /// Whether the last message is confirmed.
    #[must_use]
    pub fn has_last(&self) -> bool {
        self.messages.last().is_some_and(|(_, confirmed)| confirmed.is_some())
    }

    /// The messages in the order in which they were given.
    #[must_use]
    pub fn publications(&self) -> impl ExactSizeIterator<Item = &Publication> {
        self.messages.iter().map(|(publication, _)| publication)
    }

    /// Messages that are not confirmed.
    #[must_use]
    pub fn open(&self) -> usize {
        self.messages.iter().filter(|(_, confirmed)| confirmed.is_none()).count()
    }

    /// The messages that are still to be published, each with its index.
    pub fn rest(&self) -> impl Iterator<Item = (usize, &Publication)> {
        let open = self.messages.iter().enumerate().filter(|(_, (_, confirmed))| confirmed.is_none());
        open.map(|(index, (publication, _))| (index, publication))
    }

    /// The broker confirmed the message with that index.
    pub(crate) fn confirm(&mut self, index: usize, confirmed: Confirmed) {
        if let Some((_, known)) = self.messages.get_mut(index) {
            *known = Some(confirmed);
        }
    }

    /// The proof that all of it is confirmed; the batch itself when some of it is not, or when it is empty.
    pub(super) fn receipt(self) -> Result<Receipt, Self> {
        let confirmed: Option<Vec<Confirmed>> = self.messages.iter().map(|(_, confirmed)| *confirmed).collect();
        match confirmed {
            Some(confirmed) if !confirmed.is_empty() => Ok(Receipt { confirmed }),
            Some(_) | None => Err(self),
        }
    }
}

impl From<Vec<Publication>> for Batch {
    fn from(publications: Vec<Publication>) -> Self {
        Self { messages: publications.into_iter().map(|publication| (publication, None)).collect() }
    }
}

impl From<Publication> for Batch {
    fn from(publication: Publication) -> Self {
        Self::from(vec![publication])
    }
}

/// Proof that every message of a batch is confirmed. Only the module `broker` can make one.
#[derive(Debug)]
#[must_use = "a receipt is what allows an acknowledgement"]
pub struct Receipt {
    confirmed: Vec<Confirmed>,
}

impl Receipt {
    /// One answer for each message, in the order in which they were given.
    #[must_use]
    pub fn confirmed(&self) -> &[Confirmed] {
        &self.confirmed
    }
}

/// Why one message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The broker would refuse it again.
    #[error(transparent)]
    Permanent(#[from] Permanent),
    /// Another try may end otherwise.
    #[error(transparent)]
    Passing(#[from] Passing),
}

/// A refusal that every further try would get again. It is never published a second time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Permanent {
    /// The message breaks a bound of the wire and was not sent.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The message is to wait for longer than [`DELAY_MAX`].
    #[error("a delay of {0:?} is longer than 30 days")]
    Delay(Duration),
    /// The broker does not take a body of this size.
    #[error("the body takes {bytes} bytes, and the broker takes at most {max}")]
    TooLarge {
        /// Of the body.
        bytes: usize,
        /// RabbitMQ's `max_message_size`.
        max: usize,
    },
    /// The broker's words: the user may not publish this, or one of its properties is not allowed.
    #[error("the broker refuses the message: {0}")]
    Forbidden(String),
}

impl Permanent {
    /// The reason of the dead letter that follows.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Limit(LimitError::Body(_)) | Self::TooLarge { .. } => Reason::TooLarge,
            Self::Limit(_) | Self::Delay(_) => Reason::Invalid,
            Self::Forbidden(_) => Reason::Refused,
        }
    }
}

/// A refusal that may pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Passing {
    /// No queue is bound, and the caller does not accept that.
    #[error("no queue is bound to exchange {exchange:?} for key {key:?}")]
    Unroutable {
        /// The exchange.
        exchange: String,
        /// The routing key.
        key: String,
    },
    /// The exchange does not exist.
    #[error("exchange {0:?} does not exist")]
    NoExchange(String),
    /// A queue that the message goes to has no room (`overflow = "reject-publish"`); other queues may have it.
    #[error("a queue that the message goes to is full (the broker answered with nack)")]
    Full,
    /// The disk of the embedded broker has no room.
    #[error("the disk of the store is full: {0}")]
    NoRoom(String),
}

/// A publish that is not complete: what is confirmed of it, and why the rest is not.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.why())]
pub struct Unpublished {
    /// The same messages. Publishing it again publishes only what is not confirmed.
    pub batch: Batch,
    /// Messages that are certainly not taken completely, by their index.
    pub refused: Vec<(usize, Refusal)>,
    /// Why the outcome of the other open messages is unknown, if there are any.
    pub lost: Option<String>,
}

impl Unpublished {
    /// Nobody knows what became of the open messages.
    pub(super) fn lost(batch: Batch, reason: impl Into<String>) -> Self {
        Self { batch, refused: Vec::new(), lost: Some(reason.into()) }
    }

    /// The first refusal that no further try would change.
    #[must_use]
    pub fn permanent(&self) -> Option<&Permanent> {
        self.refused.iter().find_map(|(_, refusal)| match refusal {
            Refusal::Permanent(permanent) => Some(permanent),
            Refusal::Passing(_) => None,
        })
    }

    /// The reasons as one sentence.
    #[must_use]
    pub fn why(&self) -> String {
        let permanent = self.permanent().map(ToString::to_string);
        let refusal = || self.refused.first().map(|(_, refusal)| refusal.to_string());
        let lost = || self.lost.as_ref().map(|lost| format!("the broker session was lost: {lost}"));
        permanent.or_else(lost).or_else(refusal).unwrap_or_else(|| "there is nothing to publish".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_event::{ExchangeName, Properties, RoutingKey};

    fn publication() -> Publication {
        let message = Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("q").expect("valid"),
            properties: Properties::default(),
            body: bytes::Bytes::new(),
        };
        Publication::now(message, false)
    }

    #[test]
    fn only_a_completely_confirmed_batch_gives_a_receipt() {
        assert!(Batch::default().receipt().is_err(), "nothing was published, so nothing is confirmed");
        let mut batch = Batch::from(vec![publication(), publication()]);
        batch.confirm(1, Confirmed::Unrouted);
        let batch = batch.receipt().expect_err("one message is open");
        assert_eq!(
            batch.rest().map(|(index, _)| index).collect::<Vec<_>>(),
            [0],
            "what is confirmed is not sent again"
        );
        let mut batch = batch;
        batch.confirm(0, Confirmed::Routed);
        assert_eq!(batch.receipt().expect("complete").confirmed(), [Confirmed::Routed, Confirmed::Unrouted]);
    }
}
