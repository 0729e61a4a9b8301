//! Publishing: the messages, the broker's answer to each of them, and the proof that all of them are confirmed.
//!
//! Promises: a [`Receipt`] exists only for a [`Batch`] with at least one message, all of them confirmed. A message that the
//! broker confirmed once is not published again with the rest of its batch. Refusals that repeat ([`Permanent`]) and refusals
//! that may pass ([`Passing`]) are different types, so that no caller can retry the former.

use std::sync::Arc;
use std::time::Duration;

use trunkline_event::{LimitError, Message, Reason};

/// A message to publish, always persistent. The message is mandatory, except for a message to an address of RabbitMQ's direct
/// reply-to.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The message.
    pub message: Arc<Message>,
    /// Whether the message counts as confirmed when no queue is bound for it.
    pub accept_unroutable: bool,
    /// The time that the broker holds the message back, at most [`DELAY_MAX`].
    pub delay: Option<Duration>,
    /// Whether the message is addressed to a queue and waits for a retry there. The embedded broker counts such messages.
    /// RabbitMQ may hold such a message back for up to a quarter longer.
    pub is_retry: bool,
}

/// The longest delay of a publication: 30 days.
pub const DELAY_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

impl Publication {
    /// A message that is published at once and refused when no queue is bound for it.
    #[must_use]
    pub fn now(message: impl Into<Arc<Message>>) -> Self {
        Self { message: message.into(), accept_unroutable: false, delay: None, is_retry: false }
    }

    /// The message, for a change before it is published. A message that is shared is copied first.
    pub fn message_mut(&mut self) -> &mut Message {
        Message::make_mut(&mut self.message)
    }
}

/// The broker's confirm of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// The message is in at least one queue. The embedded broker does not count the queues of streams, which are temporary.
    Routed,
    /// No queue is bound for the message, and the caller accepts that.
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

    /// The number of messages without a confirm.
    #[must_use]
    pub fn open(&self) -> usize {
        self.messages.iter().filter(|(_, confirmed)| confirmed.is_none()).count()
    }

    /// The messages without a confirm, each with its index.
    pub fn rest(&self) -> impl Iterator<Item = (usize, &Publication)> {
        let open = self.messages.iter().enumerate().filter(|(_, (_, confirmed))| confirmed.is_none());
        open.map(|(index, (publication, _))| (index, publication))
    }

    /// Notes the confirm of the message with this index.
    pub(crate) fn confirm(&mut self, index: usize, confirmed: Confirmed) {
        if let Some((_, known)) = self.messages.get_mut(index) {
            *known = Some(confirmed);
        }
    }

    /// The proof that every message is confirmed.
    ///
    /// # Errors
    /// The batch itself, when a message is not confirmed or the batch is empty.
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

/// Proof that every message of a batch is confirmed. Only this crate can make a receipt.
#[derive(Debug)]
#[must_use = "only a receipt allows an acknowledgement"]
pub struct Receipt {
    confirmed: Vec<Confirmed>,
}

impl Receipt {
    /// One confirm for each message, in the order of the batch.
    #[must_use]
    pub fn confirmed(&self) -> &[Confirmed] {
        &self.confirmed
    }
}

/// Why one message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The broker would refuse the message again.
    #[error(transparent)]
    Permanent(#[from] Permanent),
    /// Another try may succeed.
    #[error(transparent)]
    Passing(#[from] Passing),
}

/// A refusal that every further try would repeat. The message is never published a second time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Permanent {
    /// The message breaks a bound of the wire and was not sent.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The delay is longer than [`DELAY_MAX`].
    #[error("a delay of {0:?} is longer than 30 days")]
    Delay(Duration),
    /// The broker does not take a body of this size.
    #[error("the body has {bytes} bytes, but the broker accepts at most {max} bytes")]
    TooLarge {
        /// The size of the body.
        bytes: usize,
        /// RabbitMQ's `max_message_size`.
        max: usize,
    },
    /// The routing key is a malformed address of RabbitMQ's direct reply-to.
    #[error("{0:?} is not an address of direct reply-to that RabbitMQ made")]
    Address(String),
    /// The user may not publish the message, or a property is not allowed. The text is the broker's own.
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
            Self::Address(_) | Self::Forbidden(_) => Reason::Refused,
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
    /// A queue that the message goes to has no room (`overflow = "reject-publish"`). Other queues may have the message.
    #[error("a queue of the message is full, so the broker refused the message (nack)")]
    Full,
    /// The disk of the embedded broker has no room.
    #[error("the disk of the store is full: {0}")]
    NoRoom(String),
}

/// A publish that is not complete: the confirmed messages, and why the others are not confirmed.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.why())]
pub struct Unpublished {
    /// The same messages. Another publish sends only those without a confirm.
    pub batch: Batch,
    /// Messages that the broker certainly refused, with their index in the batch, in the order of the batch.
    pub refused: Vec<(usize, Refusal)>,
    /// Why the outcome of the other open messages is unknown, if there are any.
    pub lost: Option<String>,
}

impl Unpublished {
    /// The outcome of every open message is unknown, for this reason.
    pub(super) fn lost(batch: Batch, reason: impl Into<String>) -> Self {
        Self { batch, refused: Vec::new(), lost: Some(reason.into()) }
    }

    /// The first permanent refusal.
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
        permanent.or_else(lost).or_else(refusal).unwrap_or_else(|| "the batch has no message".to_owned())
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
        Publication::now(message)
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
