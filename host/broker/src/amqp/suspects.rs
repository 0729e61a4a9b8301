//! Messages that would harm what is on their channel.
//!
//! A message that the broker may refuse for good is published alone, on a channel on which nothing else is in flight: a
//! refusal closes the channel, and everything on it would have to be published again. A message for a queue that does
//! not answer, as a quorum queue without a majority, has a channel together with others of its kind: RabbitMQ 3.10
//! stops a whole channel for up to 15 s when the first message on it goes to such a queue.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};

use crate::Permanent;
use trunkline_event::{ExchangeName, Message, RoutingKey};

/// Bodies up to this size are taken by every broker until one is seen that is not.
const HARMLESS_BYTES: usize = 64 << 10;
/// How long an exchange and key that were refused once, or were not answered, are kept apart.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// A full queue refuses at once. A refusal that takes longer comes from a queue that could not be asked.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Exchanges and keys that are remembered; what comes beyond costs its neighbours a second publish.
const REMEMBERED_MAX: usize = 1024;

/// On which channel of its exchange a message is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// With many others in flight.
    Shared,
    /// One message at a time.
    Alone,
    /// With others whose queues did not answer.
    Unanswered,
}

/// What is known of a session's broker.
#[derive(Debug)]
pub(super) struct Suspects {
    /// The largest body that was confirmed.
    proven_bytes: usize,
    /// The broker's `max_message_size`, once it has named it.
    max_bytes: Option<usize>,
    refused: Recent,
    unanswered: Recent,
}

/// Exchanges and keys, and when something was last seen of them.
type Recent = HashMap<(ExchangeName, RoutingKey), Instant>;

impl Default for Suspects {
    fn default() -> Self {
        Self { proven_bytes: HARMLESS_BYTES, max_bytes: None, refused: Recent::new(), unanswered: Recent::new() }
    }
}

impl Suspects {
    /// Whether the broker would certainly refuse the message.
    pub(super) fn check(&self, message: &Message) -> Result<(), Permanent> {
        let bytes = message.body.len();
        match self.max_bytes {
            Some(max) if bytes > max => Err(Permanent::TooLarge { bytes, max }),
            Some(_) | None => Ok(()),
        }
    }

    /// The lane of a message.
    pub(super) fn lane(&mut self, message: &Message) -> Lane {
        if message.body.len() > self.proven_bytes {
            return Lane::Alone;
        }
        if self.refused.is_empty() && self.unanswered.is_empty() {
            return Lane::Shared;
        }
        for known in [&mut self.refused, &mut self.unanswered] {
            known.retain(|_, at| at.elapsed() < REMEMBERED_FOR);
        }
        let key = (message.exchange.clone(), message.routing_key.clone());
        match (self.refused.contains_key(&key), self.unanswered.contains_key(&key)) {
            (true, _) => Lane::Alone,
            (false, true) => Lane::Unanswered,
            (false, false) => Lane::Shared,
        }
    }

    /// The confirm of a message with this key did not come.
    pub(super) fn unanswered(&mut self, exchange: &ExchangeName, key: &str) {
        let Ok(key) = RoutingKey::new(key) else { return };
        let place = (exchange.clone(), key);
        if self.unanswered.len() < REMEMBERED_MAX || self.unanswered.contains_key(&place) {
            self.unanswered.insert(place, Instant::now());
        }
    }

    /// A queue would not have a message. When it said so late, or on the lane of those that do not answer, it stays apart.
    pub(super) fn full(&mut self, lane: Lane, exchange: &ExchangeName, key: &str, took: Duration) {
        if lane == Lane::Unanswered || took > AT_ONCE {
            self.unanswered(exchange, key);
        }
    }

    /// The broker confirmed a message with a body of this size.
    pub(super) fn confirmed(&mut self, bytes: usize) {
        self.proven_bytes = self.proven_bytes.max(bytes);
    }

    /// The broker closed the channel because of this message, which was alone on it.
    pub(super) fn refused(&mut self, message: &Message, error: &lapin::Error) -> Permanent {
        let bytes = message.body.len();
        let words = words(error);
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
}

/// Whether the broker closed a channel because of something that was asked on it, and not the whole connection.
pub(super) fn is_of_channel(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(error.kind(), AMQPErrorKind::Soft(_))
}

/// Whether the broker closed a channel because something is not there (404).
pub(super) fn says_missing(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}

/// The broker's own words, for example `ACCESS_REFUSED - write access to ... refused for user 'x'`.
pub(super) fn words(error: &lapin::Error) -> String {
    let ErrorKind::ProtocolError(refusal) = error.kind() else { return error.to_string() };
    refusal.get_message().as_str().to_owned()
}

/// The bound in `PRECONDITION_FAILED - message size 20 is larger than configured max size 10` (RabbitMQ 3.8 to 4.3).
fn max_message_size(words: &str) -> Option<usize> {
    let (_, rest) = words.split_once("message size ")?;
    let (_, rest) = rest.split_once(" max size ")?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

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
        let mut suspects = Suspects::default();
        assert_eq!(suspects.lane(&message("k", HARMLESS_BYTES)), Lane::Shared);
        assert_eq!(suspects.lane(&message("k", 200_000)), Lane::Alone);
        suspects.confirmed(200_000);
        assert_eq!(suspects.lane(&message("k", 200_000)), Lane::Shared);
        let words = "PRECONDITION_FAILED - message size 400000 is larger than configured max size 300000";
        let refused = suspects.refused(&message("k", 400_000), &error(AMQPSoftError::PRECONDITIONFAILED, words));
        assert_eq!(refused, Permanent::TooLarge { bytes: 400_000, max: 300_000 });
        assert_eq!(suspects.check(&message("k", 300_001)), Err(Permanent::TooLarge { bytes: 300_001, max: 300_000 }));
        assert_eq!(suspects.check(&message("k", 300_000)), Ok(()));
    }

    #[test]
    fn a_key_that_is_not_answered_is_kept_apart() {
        let (exchange, mut suspects) = (ExchangeName::new("e").expect("valid"), Suspects::default());
        suspects.full(Lane::Shared, &exchange, "full", Duration::from_millis(5));
        assert_eq!(suspects.lane(&message("full", 1)), Lane::Shared);
        suspects.full(Lane::Shared, &exchange, "late", AT_ONCE * 5);
        suspects.unanswered(&exchange, "never");
        let lanes = ["late", "never", "good"].map(|key| suspects.lane(&message(key, 1)));
        assert_eq!(lanes, [Lane::Unanswered, Lane::Unanswered, Lane::Shared]);
    }

    #[test]
    fn a_key_that_was_refused_is_published_alone() {
        let mut suspects = Suspects::default();
        let words = "ACCESS_REFUSED - write access to topic 'k' in exchange 'e' in vhost '/' refused for user 'u'";
        let refused = suspects.refused(&message("k", 1), &error(AMQPSoftError::ACCESSREFUSED, words));
        assert_eq!(refused, Permanent::Forbidden(words.to_owned()));
        assert_eq!((suspects.lane(&message("k", 1)), suspects.lane(&message("l", 1))), (Lane::Alone, Lane::Shared));
        for number in 0..2 * REMEMBERED_MAX {
            suspects.refused(&message(&number.to_string(), 1), &error(AMQPSoftError::ACCESSREFUSED, words));
        }
        assert!(suspects.refused.len() <= REMEMBERED_MAX);
    }
}
