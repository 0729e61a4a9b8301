//! The arguments with which a queue is declared, and the differences that are tolerated.

use super::arguments::{
    AT_LEAST_ONCE, Arguments, CLASSIC, DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY, DELIVERY_LIMIT, EXPIRES, MANY_DELIVERIES,
    MAX_LENGTH, MAX_PRIORITY, OVERFLOW, QUORUM, REJECT, SINGLE_CONSUMER, STRATEGY, TTL, TYPE, milliseconds, number,
};
use super::difference::{Difference, ExistingValue};
use super::policy::DeadLetterPolicy;
use crate::BrokerServer;
use crate::amqp::features::BrokerFeatures;
use trunkline_config::{Overflow, Queue, QueueKind, QueueOwnership, QueuePurpose};
use trunkline_event::HeaderValue;

/// The arguments with which a queue is declared.
#[derive(Debug, Clone)]
pub(crate) struct WantedArguments {
    pub(crate) arguments: Arguments,
    pub(crate) ownership: QueueOwnership,
    /// The policy that replaces the dead-letter arguments on a queue that does not have them.
    pub(crate) policy: Option<DeadLetterPolicy>,
    purpose: QueuePurpose,
    /// Whether routes.toml says that a full queue refuses publishes.
    refuses_when_full: bool,
}

impl WantedArguments {
    /// The arguments of a queue of the topology, on this broker.
    pub(crate) fn of(settings: &Queue, server: Option<&BrokerServer>) -> Self {
        let wanted = match settings.ownership {
            QueueOwnership::Daemon => Self::new(recommended(settings), settings.purpose, server),
            QueueOwnership::Plain | QueueOwnership::Shared | QueueOwnership::Others => Self {
                arguments: named(settings),
                ownership: settings.ownership,
                policy: None,
                purpose: settings.purpose,
                refuses_when_full: false,
            },
        };
        let refuses_when_full = settings.overflow == Overflow::RejectPublish;
        Self { policy: DeadLetterPolicy::of(settings), refuses_when_full, ..wanted }
    }

    /// These arguments of a queue of the daemon. A quorum queue without a delivery limit must not give anything up, so a broker
    /// with a default limit gets a very large one.
    pub(crate) fn new<'a>(
        arguments: impl IntoIterator<Item = (&'a str, HeaderValue)>,
        purpose: QueuePurpose,
        server: Option<&BrokerServer>,
    ) -> Self {
        let mut arguments = by_name(arguments);
        let is_quorum = arguments.get(TYPE).and_then(HeaderValue::as_str) == Some(QUORUM);
        // In versions without a default limit, a queue with a limit returned messages out of order.
        let has_default = BrokerFeatures::of(server).default_delivery_limit.is_some();
        if is_quorum && has_default && !arguments.contains_key(DELIVERY_LIMIT) {
            arguments.insert(DELIVERY_LIMIT.to_owned(), HeaderValue::Int(MANY_DELIVERIES));
        }
        Self { arguments, ownership: QueueOwnership::Daemon, policy: None, purpose, refuses_when_full: false }
    }

    /// Whether a queue with this difference can be used as it is. A queue is refused when its use would lose messages or their
    /// order: a queue that the broker removes by itself, another number of active consumers, or a full queue that drops messages
    /// against the file. Arguments that bring waiting messages back have to match too.
    pub(crate) fn tolerates(&self, difference: &Difference) -> bool {
        let name = difference.argument.as_str();
        match self.purpose {
            QueuePurpose::Holding | QueuePurpose::List => [DELIVERY_LIMIT, OVERFLOW, STRATEGY].contains(&name),
            QueuePurpose::Consumed | QueuePurpose::Kept => {
                // The daemon does not depend on a queue that it neither consumes nor declares for its own dead letters.
                let depends = self.purpose == QueuePurpose::Consumed || self.ownership == QueueOwnership::Daemon;
                match name {
                    OVERFLOW => !self.refuses_when_full,
                    SINGLE_CONSUMER => self.purpose == QueuePurpose::Kept || says_no_twice(difference),
                    EXPIRES => !depends,
                    TYPE => !depends || !difference.is_stream(),
                    // The other names are `durable`, `auto_delete` and `exclusive`.
                    other => other.starts_with("x-"),
                }
            }
        }
    }
}

/// Whether an argument is `false` on one side and missing on the other side, which is the same. RabbitMQ tells them apart.
fn says_no_twice(difference: &Difference) -> bool {
    let no = HeaderValue::Bool(false);
    match (&difference.wanted, &difference.existing) {
        (None, ExistingValue::Value(existing)) => *existing == no,
        (Some(wanted), ExistingValue::Unset) => *wanted == no,
        (None, ExistingValue::Unset | ExistingValue::Unknown)
        | (Some(_), ExistingValue::Value(_) | ExistingValue::Unknown) => false,
    }
}

/// All arguments that keep the messages of a queue of the daemon safe.
fn recommended(settings: &Queue) -> Vec<(&'static str, HeaderValue)> {
    let is_quorum = settings.kind == Some(QueueKind::Quorum);
    let mut table = vec![(TYPE, (if is_quorum { QUORUM } else { CLASSIC }).into())];
    table.extend(bounds(settings));
    if settings.overflow == Overflow::RejectPublish || settings.passes_on_at_least_once() {
        table.push((OVERFLOW, REJECT.into()));
    }
    if let Some(limit) = settings.delivery_limit.filter(|_| is_quorum) {
        table.push((DELIVERY_LIMIT, number(limit)));
    }
    if settings.single_consumer {
        table.push((SINGLE_CONSUMER, HeaderValue::Bool(true)));
    }
    if let Some(target) = &settings.dead_letter {
        table.push((DEAD_LETTER_EXCHANGE, target.exchange.as_str().into()));
        table.push((DEAD_LETTER_KEY, target.key.as_str().into()));
        if settings.passes_on_at_least_once() {
            table.push((STRATEGY, AT_LEAST_ONCE.into()));
        }
    }
    table
}

/// The arguments that the file names. `dead-letter` of a queue that other programs declare too is only the daemon's own target.
fn named(settings: &Queue) -> Arguments {
    let mut table: Vec<(&str, HeaderValue)> = Vec::new();
    match settings.kind {
        Some(QueueKind::Quorum) => table.push((TYPE, QUORUM.into())),
        Some(QueueKind::Classic) => table.push((TYPE, CLASSIC.into())),
        None => {}
    }
    table.extend(bounds(settings));
    if settings.overflow_is_written {
        let word = match settings.overflow {
            Overflow::DropHead => "drop-head",
            Overflow::RejectPublish => REJECT,
        };
        table.push((OVERFLOW, word.into()));
    }
    if let Some(limit) = settings.delivery_limit.filter(|_| settings.limit_is_written) {
        table.push((DELIVERY_LIMIT, number(limit)));
    }
    if let Some(target) = settings.dead_letter.as_ref().filter(|_| settings.ownership == QueueOwnership::Plain) {
        table.push((DEAD_LETTER_EXCHANGE, target.exchange.as_str().into()));
        table.push((DEAD_LETTER_KEY, target.key.as_str().into()));
    }
    let mut arguments = by_name(table);
    arguments.extend(settings.arguments.clone());
    arguments
}

/// TTL, length and priorities.
fn bounds(settings: &Queue) -> Vec<(&'static str, HeaderValue)> {
    let ttl = settings.ttl.map(|ttl| (TTL, milliseconds(ttl)));
    let length = settings.max_length.map(|max| (MAX_LENGTH, number(max)));
    let priority = settings.max_priority.map(|max| (MAX_PRIORITY, number(max)));
    [ttl, length, priority].into_iter().flatten().collect()
}

fn by_name<'a>(arguments: impl IntoIterator<Item = (&'a str, HeaderValue)>) -> Arguments {
    arguments.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests;
