//! Refusals, missing confirms and confirmed sizes of one session, and which messages are kept apart because of them.
//!
//! A message that the broker may refuse for good is published alone, on a channel without other messages in flight. A refusal
//! closes the channel, and every message on it would have to be published again. Messages for a queue that does not answer,
//! such as a quorum queue without a majority, share a channel of their own. RabbitMQ 3.10 stops a whole channel for up to 15 s
//! when the first message on it goes to such a queue.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::channel_address::{ChannelAddress, ChannelKind};
use crate::Permanent;
use crate::amqp::channel::refusal_text;
use trunkline_event::{ExchangeName, Message, RoutingKey};

/// Bodies up to this size count as harmless until the broker refuses one.
const HARMLESS_BYTES: usize = 64 << 10;
/// How long messages for an exchange and key are kept apart after a refusal or a missing confirm.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// A full queue refuses within this time. A later refusal comes from a queue that does not answer.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Exchanges and keys that are remembered. A refusal beyond the bound costs the other messages of its channel a second
/// publish.
const REMEMBERED_MAX: usize = 1024;

/// Observations about the broker of one session.
#[derive(Debug)]
pub(crate) struct PublishHistory {
    /// The largest body that was confirmed.
    proven_bytes: usize,
    /// The broker's `max_message_size`, once it has named it.
    max_bytes: Option<usize>,
    refused: Recent,
    unanswered: Recent,
    /// Keys whose messages were nacked twice, so that a removed queue is not the reason.
    full: Recent,
    /// Exchanges that did not exist when they were last published to.
    missing: HashSet<ExchangeName>,
}

/// Exchanges and keys, each with the time of its last event.
type Recent = HashMap<(ExchangeName, RoutingKey), Instant>;

impl Default for PublishHistory {
    fn default() -> Self {
        Self {
            proven_bytes: HARMLESS_BYTES,
            max_bytes: None,
            refused: Recent::new(),
            unanswered: Recent::new(),
            full: Recent::new(),
            missing: HashSet::new(),
        }
    }
}

impl PublishHistory {
    /// Checks a message against the broker's known limits.
    ///
    /// # Errors
    /// The refusal that the broker would certainly answer with.
    pub(crate) fn check(&self, message: &Message) -> Result<(), Permanent> {
        let bytes = message.body.len();
        match self.max_bytes {
            Some(max) if bytes > max => Err(Permanent::TooLarge { bytes, max }),
            Some(_) | None => Ok(()),
        }
    }

    /// The kind of channel that a message has to be published on.
    pub(crate) fn channel_kind(&mut self, message: &Message) -> ChannelKind {
        if message.body.len() > self.proven_bytes {
            return ChannelKind::Alone;
        }
        if self.refused.is_empty() && self.unanswered.is_empty() {
            return ChannelKind::Shared;
        }
        for known in [&mut self.refused, &mut self.unanswered] {
            known.retain(|_, at| at.elapsed() < REMEMBERED_FOR);
        }
        let key = (message.exchange.clone(), message.routing_key.clone());
        match (self.refused.contains_key(&key), self.unanswered.contains_key(&key)) {
            (true, _) => ChannelKind::Alone,
            (false, true) => ChannelKind::Unanswered,
            (false, false) => ChannelKind::Shared,
        }
    }

    /// Notes that the confirm of a message with this key did not come.
    pub(crate) fn unanswered(&mut self, exchange: &ExchangeName, key: &RoutingKey) {
        let place = (exchange.clone(), key.clone());
        if self.unanswered.len() < REMEMBERED_MAX || self.unanswered.contains_key(&place) {
            self.unanswered.insert(place, Instant::now());
        }
    }

    /// Notes a nack that came after this time. A late nack, and a nack on the channel of queues that do not answer, keep the
    /// key apart.
    pub(crate) fn full(&mut self, address: &ChannelAddress, key: &RoutingKey, took: Duration) {
        if address.kind == ChannelKind::Unanswered || took > AT_ONCE {
            self.unanswered(&address.exchange, key);
        }
    }

    /// Whether the first nack of a message may come from a queue during its removal. A second publish then finds the other
    /// queues of the key. Without the memory, each message for a full queue would be published twice, also into the other queues.
    pub(crate) fn may_be_a_removal(&mut self, message: &Message) -> bool {
        self.full.retain(|_, at| at.elapsed() < REMEMBERED_FOR);
        !self.full.contains_key(&(message.exchange.clone(), message.routing_key.clone()))
    }

    /// Notes that a message was nacked twice.
    pub(crate) fn stays_full(&mut self, message: &Message) {
        if self.full.len() < REMEMBERED_MAX {
            self.full.insert((message.exchange.clone(), message.routing_key.clone()), Instant::now());
        }
    }

    /// Notes that the broker confirmed a message with a body of this size.
    pub(crate) fn confirmed(&mut self, bytes: usize) {
        self.proven_bytes = self.proven_bytes.max(bytes);
    }

    /// Notes that the broker closed the channel because of this message, which was alone on it.
    pub(crate) fn refused(&mut self, message: &Message, error: &lapin::Error) -> Permanent {
        let bytes = message.body.len();
        let words = refusal_text(error).map_or_else(|| error.to_string(), str::to_owned);
        if let Some(max) = max_message_size(&words) {
            self.max_bytes = Some(max);
            self.proven_bytes = self.proven_bytes.min(max);
            return Permanent::TooLarge { bytes, max };
        }
        if self.refused.len() < REMEMBERED_MAX {
            self.refused.insert((message.exchange.clone(), message.routing_key.clone()), Instant::now());
        }
        Permanent::Forbidden(words)
    }

    /// Notes that an exchange does not exist.
    pub(crate) fn exchange_is_missing(&mut self, exchange: &ExchangeName) {
        self.missing.insert(exchange.clone());
    }

    /// Notes that an exchange exists.
    pub(crate) fn exchange_exists(&mut self, exchange: &ExchangeName) {
        self.missing.remove(exchange);
    }

    /// Whether an exchange did not exist when it was last published to.
    pub(crate) fn was_missing(&self, exchange: &ExchangeName) -> bool {
        self.missing.contains(exchange)
    }
}

/// The bound in `PRECONDITION_FAILED - message size 20 is larger than configured max size 10` (RabbitMQ 3.8 to 4.3).
fn max_message_size(words: &str) -> Option<usize> {
    let (_, rest) = words.split_once("message size ")?;
    let (_, rest) = rest.split_once(" max size ")?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use lapin::ErrorKind;
    use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPSoftError};

    use super::*;
    use trunkline_event::Properties;

    fn message(key: &str, bytes: usize) -> Message {
        Message {
            exchange: ExchangeName::new("e").expect("valid"),
            routing_key: RoutingKey::new(key).expect("valid"),
            properties: Properties::default(),
            body: vec![0; bytes].into(),
        }
    }

    fn error(soft: AMQPSoftError, words: &str) -> lapin::Error {
        ErrorKind::ProtocolError(AMQPError::new(AMQPErrorKind::Soft(soft), words.into())).into()
    }

    #[test]
    fn a_size_is_proven_alone_and_a_bound_is_learnt() {
        let mut history = PublishHistory::default();
        assert_eq!(history.channel_kind(&message("k", HARMLESS_BYTES)), ChannelKind::Shared);
        assert_eq!(history.channel_kind(&message("k", 200_000)), ChannelKind::Alone);
        history.confirmed(200_000);
        assert_eq!(history.channel_kind(&message("k", 200_000)), ChannelKind::Shared);
        let words = "PRECONDITION_FAILED - message size 400000 is larger than configured max size 300000";
        let refused = history.refused(&message("k", 400_000), &error(AMQPSoftError::PRECONDITIONFAILED, words));
        assert_eq!(refused, Permanent::TooLarge { bytes: 400_000, max: 300_000 });
        assert_eq!(history.check(&message("k", 300_001)), Err(Permanent::TooLarge { bytes: 300_001, max: 300_000 }));
        assert_eq!(history.check(&message("k", 300_000)), Ok(()));
    }

    #[test]
    fn a_key_that_is_not_answered_is_kept_apart() {
        let mut history = PublishHistory::default();
        let exchange = ExchangeName::new("e").expect("valid");
        let key = |key| RoutingKey::new(key).expect("valid");
        let shared = ChannelAddress { exchange: exchange.clone(), kind: ChannelKind::Shared };
        history.full(&shared, &key("full"), Duration::from_millis(5));
        assert_eq!(history.channel_kind(&message("full", 1)), ChannelKind::Shared);
        history.full(&shared, &key("late"), AT_ONCE * 5);
        history.unanswered(&exchange, &key("never"));
        let kinds = ["late", "never", "good"].map(|key| history.channel_kind(&message(key, 1)));
        assert_eq!(kinds, [ChannelKind::Unanswered, ChannelKind::Unanswered, ChannelKind::Shared]);
    }

    #[test]
    fn a_key_that_is_nacked_twice_has_a_full_queue() {
        let mut history = PublishHistory::default();
        assert!(history.may_be_a_removal(&message("k", 1)), "a first nack says nothing about the queue");
        history.stays_full(&message("k", 1));
        assert!(!history.may_be_a_removal(&message("k", 1)) && history.may_be_a_removal(&message("l", 1)));
        for number in 0..2 * REMEMBERED_MAX {
            history.stays_full(&message(&number.to_string(), 1));
        }
        assert!(history.full.len() <= REMEMBERED_MAX);
        history.full.values_mut().for_each(|at| *at = at.checked_sub(REMEMBERED_FOR).expect("a machine that is up"));
        assert!(history.may_be_a_removal(&message("k", 1)), "a queue may have room after a while");
    }

    #[test]
    fn a_key_that_was_refused_is_published_alone() {
        let mut history = PublishHistory::default();
        let words = "ACCESS_REFUSED - write access to topic 'k' in exchange 'e' in vhost '/' refused for user 'u'";
        let refused = history.refused(&message("k", 1), &error(AMQPSoftError::ACCESSREFUSED, words));
        assert_eq!(refused, Permanent::Forbidden(words.to_owned()));
        assert_eq!(
            (history.channel_kind(&message("k", 1)), history.channel_kind(&message("l", 1))),
            (ChannelKind::Alone, ChannelKind::Shared)
        );
        for number in 0..2 * REMEMBERED_MAX {
            history.refused(&message(&number.to_string(), 1), &error(AMQPSoftError::ACCESSREFUSED, words));
        }
        assert!(history.refused.len() <= REMEMBERED_MAX);
    }
}
