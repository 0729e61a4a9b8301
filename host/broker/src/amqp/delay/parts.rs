//! The exchanges, queues and bindings of delayed publishing as one list. The daemon declares the list, looks for its parts, or
//! prints the commands that make them.

use std::time::Duration;

use super::levels::{DUE, LEVELS, UNIT, below, level_name, own_due, pattern, queue};
use crate::amqp::queue::{
    AT_LEAST_ONCE, Arguments, DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY, EXPIRES, OVERFLOW, QUORUM, REJECT, STRATEGY, TTL,
    TYPE, WantedArguments, milliseconds,
};
use crate::amqp::topology::CommandWriter;
use crate::dead_letter::{DELAYED_DEAD_LETTERS, delayed_dead_letter_queue};
use trunkline_config::{ExchangeKind, QueuePurpose};
use trunkline_event::{HeaderValue, QueueName};

/// A message that waits longer for a daemon with its key becomes a dead letter.
const OWN_DUE_TTL: Duration = Duration::from_secs(24 * 3600);
/// The queue of a key without a daemon is removed after this time. Every message has left the queue by then.
const OWN_DUE_EXPIRES: Duration = Duration::from_secs(7 * 24 * 3600);

/// An exchange, a queue or a binding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DelayPart {
    Exchange {
        name: String,
        kind: ExchangeKind,
    },
    Queue {
        name: QueueName,
        purpose: QueuePurpose,
        arguments: Vec<(&'static str, HeaderValue)>,
    },
    /// A queue gets the messages of an exchange.
    QueueBinding {
        exchange: String,
        queue: String,
        key: String,
    },
    /// An exchange gets the messages of another exchange.
    ExchangeBinding {
        source: String,
        destination: String,
        key: String,
    },
}

impl DelayPart {
    /// The command that makes the part.
    pub(crate) fn command(&self, writer: &CommandWriter<'_>) -> String {
        let none = Arguments::new();
        match self {
            Self::Exchange { name, kind } => writer.any_exchange(name, kind.as_str(), &none),
            Self::Queue { name, purpose, arguments } => {
                let wanted = WantedArguments::new(arguments.iter().cloned(), *purpose, writer.server);
                writer.any_queue(name.as_str(), &wanted.arguments)
            }
            Self::QueueBinding { exchange, queue, key } => writer.any_binding(exchange, ["q", queue], key, &none),
            Self::ExchangeBinding { source, destination, key } => {
                writer.any_binding(source, ["e", destination], key, &none)
            }
        }
    }
}

/// The levels, each after the one that it points to, and before them the exchange of messages that are due.
pub(crate) fn level_parts() -> Vec<DelayPart> {
    let mut parts = vec![DelayPart::Exchange { name: DUE.to_owned(), kind: ExchangeKind::Fanout }];
    for level in 0..LEVELS {
        let (own, below) = (level_name(level), below(level));
        let holds = Duration::from_millis(1 << level) * u32::try_from(UNIT.as_millis()).unwrap_or(u32::MAX);
        let arguments = vec![
            (TYPE, QUORUM.into()),
            (TTL, milliseconds(holds)),
            (OVERFLOW, REJECT.into()),
            (DEAD_LETTER_EXCHANGE, below.as_str().into()),
            (STRATEGY, AT_LEAST_ONCE.into()),
        ];
        parts.extend([
            DelayPart::Exchange { name: own.clone(), kind: ExchangeKind::Topic },
            DelayPart::Queue { name: queue(&own), purpose: QueuePurpose::Holding, arguments },
            DelayPart::QueueBinding { exchange: own.clone(), queue: own.clone(), key: pattern(level, "1") },
            DelayPart::ExchangeBinding { source: own, destination: below, key: pattern(level, "0") },
        ]);
    }
    parts
}

/// The queue of dead letters of delayed publishing.
fn dead_letters() -> DelayPart {
    let arguments = vec![(TYPE, QUORUM.into())];
    DelayPart::Queue { name: delayed_dead_letter_queue(), purpose: QueuePurpose::Kept, arguments }
}

/// The queue of messages that are due and signed with this key.
fn own_due_queue(key_id: &str) -> DelayPart {
    let arguments = vec![
        (TYPE, QUORUM.into()),
        (TTL, milliseconds(OWN_DUE_TTL)),
        (EXPIRES, milliseconds(OWN_DUE_EXPIRES)),
        (OVERFLOW, REJECT.into()),
        (DEAD_LETTER_EXCHANGE, "".into()),
        (DEAD_LETTER_KEY, DELAYED_DEAD_LETTERS.into()),
        (STRATEGY, AT_LEAST_ONCE.into()),
    ];
    DelayPart::Queue { name: own_due(key_id), purpose: QueuePurpose::Holding, arguments }
}

/// The queue of messages that are due.
fn due_queue() -> DelayPart {
    DelayPart::Queue { name: queue(DUE), purpose: QueuePurpose::Kept, arguments: vec![(TYPE, QUORUM.into())] }
}

/// The queues after the last level: for dead letters, for messages with the key of this daemon, and for messages that are due.
pub(crate) fn end_parts(key_id: &str) -> [DelayPart; 3] {
    [dead_letters(), own_due_queue(key_id), due_queue()]
}

/// The binding of the queue of messages that are due, which is the last part.
pub(crate) fn due_binding() -> DelayPart {
    DelayPart::QueueBinding { exchange: DUE.to_owned(), queue: DUE.to_owned(), key: String::new() }
}

/// The parts without which delayed publishing does not work. RabbitMQ removes the queue of a key by itself, so that queue may be
/// missing.
pub(crate) fn needed_parts() -> Vec<DelayPart> {
    level_parts().into_iter().chain([dead_letters(), due_queue(), due_binding()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_points_to_an_earlier_part() {
        let (mut exchanges, mut queues) = (Vec::new(), Vec::new());
        for part in level_parts().into_iter().chain(end_parts("k")).chain([due_binding()]) {
            match part {
                DelayPart::Exchange { name, .. } => exchanges.push(name),
                DelayPart::Queue { name, arguments, .. } => {
                    let target = arguments.iter().find(|(argument, _)| *argument == DEAD_LETTER_EXCHANGE);
                    let target = target.and_then(|(_, target)| target.as_str()).unwrap_or_default();
                    assert!(target.is_empty() || exchanges.iter().any(|known| known == target), "{name} -> {target}");
                    queues.push(name.as_str().to_owned());
                }
                DelayPart::QueueBinding { exchange, queue, .. } => {
                    assert!(exchanges.contains(&exchange) && queues.contains(&queue), "{exchange} -> {queue}");
                }
                DelayPart::ExchangeBinding { source, destination, .. } => {
                    assert!(
                        exchanges.contains(&source) && exchanges.contains(&destination),
                        "{source} -> {destination}"
                    );
                }
            }
        }
        assert_eq!(exchanges.len(), usize::try_from(LEVELS).expect("small") + 1);
        assert_eq!(queues.len(), usize::try_from(LEVELS).expect("small") + 3);
        let named = |parts: Vec<DelayPart>| parts.iter().filter(|part| matches!(part, DelayPart::Queue { .. })).count();
        assert_eq!(named(needed_parts()), queues.len() - 1, "RabbitMQ may remove the queue of a key");
    }
}
