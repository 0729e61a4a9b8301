//! Queues that exist with other arguments than the wanted ones and are used as they are.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use super::arguments::{Arguments, DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY, MAX_LENGTH, MAX_PRIORITY, TTL};
use super::difference::{Difference, ExistingValue};
use super::wanted::WantedArguments;
use trunkline_config::QueueOwnership;
use trunkline_event::QueueName;

/// The line that stops the daemon from wanting its own arguments.
const SHARED: &str = "owned = \"shared\"";

/// Facts about existing queues that the broker has shown. The lists outlive sessions, so that each queue is logged once.
#[derive(Debug, Default)]
pub(crate) struct ToleratedQueues {
    /// Queues with other arguments than the wanted ones, each with the wanted arguments.
    differing: Mutex<HashMap<QueueName, Arguments>>,
    /// Queues of other programs that were streams when a route consumed them. A stream cannot be tolerated.
    streams: Mutex<HashSet<QueueName>>,
}

impl ToleratedQueues {
    /// Whether a queue is tolerated in place of one with the wanted arguments.
    pub(crate) fn contains(&self, queue: &QueueName, wanted: &Arguments) -> bool {
        self.differing.lock().get(queue) == Some(wanted)
    }

    /// Adds a queue, and logs its differences unless the same queue was added before. The log line contains the lines to write
    /// into routes.toml, the keys to remove, and the policy that replaces missing dead-letter arguments.
    pub(crate) fn add(&self, queue: &QueueName, wanted: &WantedArguments, differences: &[Difference], vhost: &str) {
        let known = self.differing.lock().insert(queue.clone(), wanted.arguments.clone());
        if known.as_ref() == Some(&wanted.arguments) {
            return;
        }
        let reported = reported(wanted.ownership, differences);
        if reported.is_empty() {
            return;
        }
        let some = |text: String| (!text.is_empty()).then_some(text);
        let write = some(lines(wanted.ownership, &reported));
        let remove = some(removed(wanted.ownership, &reported));
        let policy = wanted.policy.as_ref().filter(|_| lacks_dead_letters(&reported));
        let policy = policy.map(|policy| policy.command(queue, vhost));
        let differences = reported.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        tracing::warn!(%queue, differences, write, remove, policy, "a queue exists with other arguments, and the daemon uses the \
            queue unchanged; write the lines of `write` into the queue's table of routes.toml and remove the keys of `remove`, \
            or empty and delete the queue");
    }

    /// Whether a queue was a stream.
    pub(crate) fn was_stream(&self, queue: &QueueName) -> bool {
        self.streams.lock().contains(queue)
    }

    /// Notes whether a queue is a stream.
    pub(crate) fn note_stream(&self, queue: &QueueName, is_stream: bool) {
        let mut streams = self.streams.lock();
        let _changed = if is_stream { streams.insert(queue.clone()) } else { streams.remove(queue) };
    }

    /// Removes a queue that no longer exists.
    pub(crate) fn remove(&self, queue: &QueueName) {
        self.differing.lock().remove(queue);
    }
}

/// The differences for the log. The other programs of a shared queue may use arguments that the file does not name.
fn reported(ownership: QueueOwnership, differences: &[Difference]) -> Vec<&Difference> {
    let is_shared = ownership == QueueOwnership::Shared;
    differences.iter().filter(|difference| !is_shared || difference.wanted.is_some()).collect()
}

/// Whether the existing queue has no dead-letter target where the daemon wants one. A policy cannot replace another target.
fn lacks_dead_letters(differences: &[&Difference]) -> bool {
    let of = |argument: &str| differences.iter().find(|difference| difference.argument == argument);
    let is_other = |difference: &&&Difference| matches!(difference.existing, ExistingValue::Value(_));
    let (exchange, key) = (of(DEAD_LETTER_EXCHANGE), of(DEAD_LETTER_KEY));
    (exchange.is_some() || key.is_some()) && exchange.filter(is_other).is_none() && key.filter(is_other).is_none()
}

/// The lines for the table of a queue. With the line [`SHARED`] the daemon wants only the arguments that the file names, so the
/// lines of the daemon's own arguments are not needed beside it.
fn lines(ownership: QueueOwnership, differences: &[&Difference]) -> String {
    let is_shared = ownership == QueueOwnership::Shared;
    let needs_shared = !is_shared && differences.iter().any(|difference| difference.line().is_none());
    let named =
        differences.iter().filter(|difference| !needs_shared || is_bound(difference) && difference.wanted.is_some());
    let own = named.filter_map(|difference| {
        let argument = if is_shared { difference.argument_line() } else { None };
        difference.line().or(argument)
    });
    needs_shared.then(|| SHARED.to_owned()).into_iter().chain(own).collect::<Vec<_>>().join("; ")
}

/// The keys to remove from the table of a queue, because the existing queue does not have these arguments. Beside the line
/// [`SHARED`], the daemon wants only the arguments that the file names.
fn removed(ownership: QueueOwnership, differences: &[&Difference]) -> String {
    let is_shared = ownership == QueueOwnership::Shared;
    let wanted = differences.iter().filter(|difference| difference.wanted.is_some());
    let missing = wanted.filter(|difference| !matches!(difference.existing, ExistingValue::Value(_)));
    let named = missing.filter(|difference| is_shared || is_bound(difference));
    named.map(|difference| difference.key()).collect::<Vec<_>>().join(", ")
}

/// Whether only the file sets the argument. The daemon has no such argument of its own.
fn is_bound(difference: &Difference) -> bool {
    [TTL, MAX_LENGTH, MAX_PRIORITY].contains(&difference.argument.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_event::HeaderValue;

    fn difference(argument: &str, wanted: Option<HeaderValue>, existing: ExistingValue) -> Difference {
        Difference { argument: argument.to_owned(), wanted, existing }
    }

    #[test]
    fn the_lines_make_the_file_fit_the_queue() {
        let value = |value: i64| ExistingValue::Value(HeaderValue::Int(value));
        let ttl = difference(TTL, Some(HeaderValue::Int(1)), value(300_000));
        let length = difference(MAX_LENGTH, None, value(7));
        let target = difference(DEAD_LETTER_EXCHANGE, Some("".into()), ExistingValue::Unset);
        let kind = difference("x-queue-type", Some("quorum".into()), ExistingValue::Value("classic".into()));
        for (differences, expected) in [
            (vec![&ttl, &length], "ttl = \"300000ms\"; max-length = 7"),
            (vec![&kind], "type = \"classic\""),
            (vec![&kind, &target, &length], "owned = \"shared\""),
            (vec![&target, &ttl], "owned = \"shared\"; ttl = \"300000ms\""),
        ] {
            assert_eq!(lines(QueueOwnership::Daemon, &differences), expected);
        }
        assert_eq!(lines(QueueOwnership::Shared, &[&ttl]), "ttl = \"300000ms\"");
        let bytes = difference("x-max-length-bytes", None, value(9));
        assert_eq!(reported(QueueOwnership::Shared, &[ttl.clone(), bytes.clone()]), [&ttl]);
        assert_eq!(reported(QueueOwnership::Plain, std::slice::from_ref(&bytes)), [&bytes]);
    }

    /// A key that the existing queue does not have would cause the same warning again beside [`SHARED`].
    #[test]
    fn keys_that_the_queue_lacks_are_removed() {
        let none = || ExistingValue::Unset;
        let ttl = difference(TTL, Some(HeaderValue::Int(1)), none());
        let mode = difference("x-queue-mode", Some("lazy".into()), none());
        let target = difference(DEAD_LETTER_EXCHANGE, Some("dlx".into()), ExistingValue::Value("other".into()));
        let kind = difference("x-queue-type", Some("quorum".into()), none());
        let shared = [&ttl, &mode, &target];
        assert_eq!(removed(QueueOwnership::Shared, &shared), "ttl, arguments.x-queue-mode");
        assert_eq!(lines(QueueOwnership::Shared, &shared), "arguments.x-dead-letter-exchange = \"other\"");
        assert_eq!(removed(QueueOwnership::Daemon, &[&ttl, &kind]), "ttl", "the daemon chose the type");
        assert_eq!(lines(QueueOwnership::Daemon, &[&ttl, &kind]), SHARED);
    }

    #[test]
    fn a_policy_is_for_a_queue_without_a_target() {
        let exchange = |existing| difference(DEAD_LETTER_EXCHANGE, Some("".into()), existing);
        let key = |existing| difference(DEAD_LETTER_KEY, Some("q.dlq".into()), existing);
        let none = || ExistingValue::Unset;
        assert!(lacks_dead_letters(&[&exchange(none()), &key(none())]));
        assert!(lacks_dead_letters(&[&key(none())]), "the exchange is the wanted one");
        assert!(!lacks_dead_letters(&[&exchange(ExistingValue::Value("dlx".into())), &key(none())]));
        assert!(!lacks_dead_letters(&[&difference(TTL, None, none())]));
    }
}
