//! The publishes that follow from a message that is due.

use crate::amqp::delay::{Delayed, TRIES, addressed_queue, bring_home, end_way, own_due, unwrap};
use crate::dead_letter::{DELAYED_DEAD_LETTERS, ERROR, REASON, delayed_dead_letter};
use crate::{Batch, Permanent, Publication, Unpublished};
use trunkline_config::{QueuePurpose, Topology};
use trunkline_event::{ExchangeName, HeaderKey, Message, QueueName, Reason, Trust};
use trunkline_telemetry::Condition;
use trunkline_telemetry::wait::Loop;

/// The error of a dead letter without a valid signature or destination.
const NOT_DELAYED: &str = "the message is not a delayed message of Trunkline";

/// The next step when the broker refuses the first publish.
#[derive(Debug)]
pub(super) enum AfterRefusal {
    /// The message is postponed.
    Postpone(Delayed),
    /// The message is dead-lettered, with this error.
    DeadLetter(&'static str),
}

/// Why the first publish failed.
#[derive(Debug)]
pub(super) struct FirstFailure {
    why: String,
    permanent: Option<Permanent>,
    /// The message, if the broker did not answer and may have the message.
    unknown: Option<Batch>,
}

impl FirstFailure {
    /// The target of the message did not answer in time.
    pub(super) fn silence() -> Self {
        Self { why: "the queue of the message does not confirm messages".to_owned(), permanent: None, unknown: None }
    }

    /// Whether the broker did not answer, so that the broker may have the message.
    pub(super) const fn is_unknown(&self) -> bool {
        self.unknown.is_some()
    }
}

impl From<Unpublished> for FirstFailure {
    fn from(unpublished: Unpublished) -> Self {
        let (why, permanent) = (unpublished.why(), unpublished.permanent().cloned());
        let unknown = unpublished.refused.is_empty().then_some(unpublished.batch);
        Self { why, permanent, unknown }
    }
}

/// The origin of a message that is due.
#[derive(Debug)]
pub(super) enum DueOrigin {
    /// This daemon, or a daemon with the same key, delayed the message.
    OurKey(Delayed),
    /// A daemon with another key delayed the message.
    OtherKey {
        /// The queue of daemons with that key.
        queue: QueueName,
        /// The message as a retry for a queue that a route of this daemon consumes, if it is one.
        home: Option<Delayed>,
    },
    /// Another program wrote the message.
    Foreign,
}

/// Judges the signature of a message that is due.
pub(super) fn origin(due: &Message, key: &HeaderKey, topology: &Topology) -> DueOrigin {
    let mut message = due.copy();
    match key.admit(&mut message) {
        Trust::Signed => unwrap(&message, key).map_or(DueOrigin::Foreign, DueOrigin::OurKey),
        Trust::OtherKey(id) => {
            let addressed = addressed_queue(due).and_then(|name| topology.queues.get_key_value(name));
            // Any program could give a message this address. Such a message may go only where a route expects messages of any
            // program, and only with the headers that such a message may have.
            let consumed = addressed.filter(|(_, queue)| queue.purpose == QueuePurpose::Consumed);
            let home = consumed.map(|(name, _)| bring_home(due, &message, name.as_key(), key));
            DueOrigin::OtherKey { queue: own_due(&id), home }
        }
        Trust::Nothing | Trust::Forged => DueOrigin::Foreign,
    }
}

/// The first publish of a message that is restored.
pub(super) fn restored(delayed: Delayed) -> (Batch, AfterRefusal) {
    (delayed.publication.clone().into(), AfterRefusal::Postpone(delayed))
}

/// The first publish of a message that daemons with another key publish.
pub(super) fn handed_on(due: &Message, queue: &QueueName) -> (Batch, AfterRefusal) {
    let mut message = due.copy();
    message.exchange = ExchangeName::default_exchange();
    message.routing_key = queue.as_key();
    let why = "the message is signed with a key that no daemon of this virtual host has";
    (Publication::now(message).into(), AfterRefusal::DeadLetter(why))
}

/// The first publish of a message that another program wrote.
pub(super) fn foreign(due: &Message) -> (Batch, AfterRefusal) {
    (dead_letter(due, Reason::Invalid, NOT_DELAYED), AfterRefusal::DeadLetter(NOT_DELAYED))
}

/// The first publish of a message that could not be read as it was sent.
pub(super) fn unreadable(due: &Message, why: &str) -> (Batch, AfterRefusal) {
    (dead_letter(due, Reason::Invalid, why), AfterRefusal::DeadLetter(NOT_DELAYED))
}

/// The second publish, after the first failed. A message is postponed for pauses that grow, and dead-lettered after the last
/// one.
pub(super) fn second(due: &Message, after: AfterRefusal, failure: FirstFailure, key: &HeaderKey) -> Batch {
    let FirstFailure { why, permanent, unknown } = failure;
    let (publication, tries) = match (after, unknown) {
        (AfterRefusal::Postpone(Delayed { publication, tries }), _) => (publication, tries.saturating_add(1)),
        // Only a refusal shows that the message has to be a dead letter.
        (AfterRefusal::DeadLetter(_), Some(unanswered)) => return unanswered,
        (AfterRefusal::DeadLetter(why), None) => return dead_letter(due, Reason::Invalid, why),
    };
    if let Some(permanent) = permanent {
        return given_up(due, permanent.reason(), &why, key);
    }
    let is_for_queue = publication.message.exchange.is_default();
    let waits = if is_for_queue { Loop::DueForQueue } else { Loop::DelayedMessage };
    let Some(pause) = waits.pause(tries) else {
        let why = format!("the message could not be published in {tries} tries: {why}");
        return given_up(due, Reason::Unroutable, &why, key);
    };
    tracing::warn!(
        why,
        tries,
        again_s = pause.as_secs(),
        "the broker did not accept a delayed message that is due; the daemon publishes the message again later"
    );
    Condition::DelayRelayJammed.raise_for(
        "",
        format!("the broker did not accept a delayed message that is due: {why}"),
        pause * 2,
    );
    let mut message = publication.message.copy();
    message.properties.headers.set(TRIES, tries);
    let accept_unroutable = publication.accept_unroutable;
    Publication { delay: Some(pause), accept_unroutable, ..Publication::now(message) }.into()
}

/// The dead letter of a message that this daemon restored. If the signature of the message is this daemon's, the dead letter is
/// signed too, so that its tenant and its other headers hold when it is published again.
fn given_up(due: &Message, reason: Reason, error: &str, key: &HeaderKey) -> Batch {
    let mut copy = dead_letter_copy(due, reason, error);
    if key.admit(&mut due.copy()) == Trust::Signed {
        end_way(&mut copy);
        key.sign(&mut copy);
    }
    fitting(copy)
}

/// The dead letter of a message that another program wrote, or a daemon with another key.
fn dead_letter(due: &Message, reason: Reason, error: &str) -> Batch {
    fitting(dead_letter_copy(due, reason, error))
}

/// The copy of a message for the dead-letter queue of delayed messages.
fn dead_letter_copy(due: &Message, reason: Reason, error: &str) -> Message {
    tracing::error!(%reason, error, "a delayed message is dead-lettered; the message is in the queue {DELAYED_DEAD_LETTERS}");
    let mut copy = delayed_dead_letter(due, reason, error);
    copy.properties.headers.remove_brokers();
    copy
}

/// The copy without the headers for which it has no room.
fn fitting(mut copy: Message) -> Batch {
    if copy.check().is_err() {
        copy.properties.headers.retain(|name| [REASON, ERROR].contains(&name));
    }
    Publication::now(copy).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::amqp::delay::wrap;
    use crate::{Passing, Refusal};
    use trunkline_config::{Queue, QueueKind};
    use trunkline_event::{Properties, RoutingKey};

    fn key() -> HeaderKey {
        HeaderKey::new(b"ours")
    }

    /// A retry for a queue, in the form of a message in the queue of due messages.
    fn due(queue: &str, signed_by: &HeaderKey) -> Message {
        let message = Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new(queue).expect("valid"),
            properties: Properties { message_id: Some("e-1".to_owned()), ..Properties::default() },
            body: bytes::Bytes::from_static(b"x"),
        };
        let publication = Publication { is_retry: true, ..Publication::now(message) };
        wrap(&publication, Duration::from_secs(1), signed_by).expect("fits")
    }

    fn topology() -> Topology {
        let queue =
            |name: &str, purpose| (QueueName::new(name).expect("valid"), Queue::unlimited(purpose, QueueKind::Quorum));
        let queues = [queue("jobs", QueuePurpose::Consumed), queue("secret", QueuePurpose::Kept)].into();
        Topology { queues, ..Topology::default() }
    }

    fn refused(batch: Batch, refusal: Refusal) -> FirstFailure {
        Unpublished { batch, refused: vec![(0, refusal)], lost: None }.into()
    }

    fn only(batch: &Batch) -> &Publication {
        batch.publications().next().expect("one message")
    }

    #[test]
    fn only_a_retry_for_a_route_of_this_daemon_comes_home_under_another_key() {
        let theirs = HeaderKey::new(b"theirs");
        for (queue, is_home) in [("jobs", true), ("secret", false), ("elsewhere", false)] {
            let DueOrigin::OtherKey { queue: own, home } = origin(&due(queue, &theirs), &key(), &topology()) else {
                panic!("{queue}: signed with another key");
            };
            assert_eq!(own, own_due(theirs.id()));
            assert_eq!(home.is_some(), is_home, "{queue}");
        }
        assert!(matches!(origin(&due("elsewhere", &key()), &key(), &topology()), DueOrigin::OurKey(_)));
        let mut forged = due("jobs", &key());
        forged.body = bytes::Bytes::from_static(b"y");
        assert!(matches!(origin(&forged, &key(), &topology()), DueOrigin::Foreign));
        forged.properties.headers.retain(|name| !name.starts_with("trunkline-"));
        assert!(matches!(origin(&forged, &key(), &topology()), DueOrigin::Foreign));
    }

    /// The queue of a retry is full or missing: the retry waits, each time longer, and is a dead letter in the end.
    #[test]
    fn a_refused_retry_is_postponed_a_bounded_number_of_times() {
        let mut message = due("jobs", &key());
        let mut pauses = Vec::new();
        loop {
            let DueOrigin::OurKey(delayed) = origin(&message, &key(), &topology()) else { panic!("our own message") };
            let (batch, after) = restored(delayed);
            assert_eq!(only(&batch).message.routing_key.as_str(), "jobs");
            let next = second(&message, after, refused(batch, Passing::Full.into()), &key());
            let publication = only(&next);
            let Some(pause) = publication.delay else {
                assert_eq!(publication.message.routing_key.as_str(), DELAYED_DEAD_LETTERS);
                assert_eq!(publication.message.properties.headers.text(REASON), Some("unroutable"));
                break;
            };
            pauses.push(pause);
            message = wrap(publication, pause, &key()).expect("fits");
        }
        assert!(pauses.is_sorted() && pauses.len() == 49, "{pauses:?}");
        // A retry comes soon after its queue has room again.
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(300)), "{pauses:?}");
        let all: Duration = pauses.iter().sum();
        assert!((3..=4).contains(&(all.as_secs() / 3600)), "{all:?}");
    }

    #[test]
    fn a_message_for_an_exchange_has_pauses_of_its_own() {
        let mut message = due("jobs", &key());
        message.properties.headers.set("trunkline-delay-exchange", "events");
        message.properties.headers.set(TRIES, 8_u32);
        key().sign(&mut message);
        let DueOrigin::OurKey(delayed) = origin(&message, &key(), &topology()) else { panic!("our own message") };
        let (batch, after) = restored(delayed);
        let next = second(&message, after, refused(batch, Passing::NoExchange("events".to_owned()).into()), &key());
        assert_eq!(only(&next).delay, Some(Duration::from_secs(3600)), "the ninth pause");
    }

    #[test]
    fn a_retry_for_a_queue_that_does_not_answer_is_postponed() {
        let message = due("jobs", &key());
        let DueOrigin::OurKey(delayed) = origin(&message, &key(), &topology()) else { panic!("our own message") };
        let (_batch, after) = restored(delayed);
        let next = second(&message, after, FirstFailure::silence(), &key());
        assert_eq!(only(&next).delay, Loop::DueForQueue.pause(1));
        assert_eq!(only(&next).message.routing_key.as_str(), "jobs");
    }

    /// The queue of the other key may be there, although it did not confirm the message in time.
    #[test]
    fn a_message_for_another_key_is_a_dead_letter_only_after_a_refusal() {
        let theirs = HeaderKey::new(b"theirs");
        let (message, queue) = (due("elsewhere", &theirs), own_due(theirs.id()));
        let (batch, after) = handed_on(&message, &queue);
        let unanswered = FirstFailure::from(Unpublished::lost(batch, "the broker did not confirm the message"));
        assert!(unanswered.is_unknown());
        let next = second(&message, after, unanswered, &key());
        assert_eq!(only(&next).message.routing_key, queue.as_key(), "the same publish again");
        let (batch, after) = handed_on(&message, &queue);
        let missing = Passing::Unroutable { exchange: String::new(), key: queue.to_string() };
        let missing = refused(batch, missing.into());
        assert!(!missing.is_unknown());
        let next = second(&message, after, missing, &key());
        assert_eq!(only(&next).message.routing_key.as_str(), DELAYED_DEAD_LETTERS);
    }

    #[test]
    fn a_refusal_for_good_is_a_dead_letter_at_once() {
        let message = due("jobs", &key());
        let DueOrigin::OurKey(delayed) = origin(&message, &key(), &topology()) else { panic!("our own message") };
        let (batch, after) = restored(delayed);
        let permanent = Permanent::Forbidden("ACCESS_REFUSED".to_owned());
        let next = second(&message, after, refused(batch, permanent.into()), &key());
        assert_eq!(only(&next).message.properties.headers.text(REASON), Some("refused"));
        assert_eq!(&only(&next).message.body[..], b"x", "nothing of the event is lost");
    }

    /// An operator publishes a dead letter again, and a route handles it like the event.
    #[test]
    fn a_dead_letter_keeps_its_headers_and_its_priority() {
        let DueOrigin::OurKey(delayed) = origin(&due("jobs", &key()), &key(), &topology()) else {
            panic!("our own message")
        };
        let mut publication = Publication { is_retry: true, ..delayed.publication };
        let message = publication.message_mut();
        message.properties.priority = Some(7);
        for (name, value) in [("trunkline-tenant", "org-1"), ("trunkline-attempt", "3"), ("trunkline-expires", "5")] {
            message.properties.headers.set(name, value);
        }
        message.properties.headers.set(TRIES, 49_u32);
        let waited = wrap(&publication, Duration::from_secs(1), &key()).expect("fits");
        let DueOrigin::OurKey(delayed) = origin(&waited, &key(), &topology()) else { panic!("our own message") };
        let (batch, after) = restored(delayed);
        let next = second(&waited, after, refused(batch, Passing::Full.into()), &key());
        let mut letter = only(&next).message.copy();
        assert_eq!(letter.routing_key.as_str(), DELAYED_DEAD_LETTERS);
        assert_eq!(key().admit(&mut letter), Trust::Signed, "its headers hold");
        assert_eq!(letter.properties.priority, Some(7));
        let names: BTreeSet<&str> = letter.properties.headers.iter().map(|(name, _)| name).collect();
        let expected = [
            "trunkline-delay-exchange",
            "trunkline-delay-key",
            "trunkline-error",
            "trunkline-reason",
            "trunkline-tenant",
        ];
        assert_eq!(names, BTreeSet::from(expected));
    }

    /// The signature of another key cannot be verified, so nothing that it covers may hold under the key of this daemon.
    #[test]
    fn a_dead_letter_of_another_key_is_not_signed() {
        let message = due("jobs", &HeaderKey::new(b"theirs"));
        let DueOrigin::OtherKey { home: Some(home), .. } = origin(&message, &key(), &topology()) else {
            panic!("a retry for a route of this daemon")
        };
        let (batch, after) = restored(home);
        let permanent = Permanent::Forbidden("ACCESS_REFUSED".to_owned());
        let next = second(&message, after, refused(batch, permanent.into()), &key());
        assert_ne!(key().admit(&mut only(&next).message.copy()), Trust::Signed);
    }
}
