//! The arguments of our queues, and what an existing queue may have instead of them. Without a connection.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::Server;
use trunkline_config::{Overflow, Queue, QueueKind, QueuePurpose};
use trunkline_event::{HeaderValue, millis};

/// Returns that a message survives in a queue where nothing may be given up: it takes somebody who looks at it every minute
/// two years to use them up.
const MANY_DELIVERIES: i64 = 1_000_000;

pub(super) const TYPE: &str = "x-queue-type";
pub(super) const DELIVERY_LIMIT: &str = "x-delivery-limit";
pub(super) const OVERFLOW: &str = "x-overflow";
pub(super) const STRATEGY: &str = "x-dead-letter-strategy";
pub(super) const TTL: &str = "x-message-ttl";
pub(super) const EXPIRES: &str = "x-expires";
pub(super) const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
pub(super) const DEAD_LETTER_KEY: &str = "x-dead-letter-routing-key";
pub(super) const REJECT: &str = "reject-publish";
pub(super) const AT_LEAST_ONCE: &str = "at-least-once";
pub(super) const QUORUM: &str = "quorum";

pub(super) type Arguments = BTreeMap<String, HeaderValue>;

/// What a queue is declared with.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) arguments: Arguments,
    purpose: QueuePurpose,
    /// Arguments that the file asks for by its own words.
    written: Vec<&'static str>,
}

impl Wanted {
    /// Of a queue of the topology, on this broker.
    pub(super) fn of(settings: &Queue, server: Option<&Server>) -> Self {
        let is_quorum = settings.kind == QueueKind::Quorum;
        let mut table: Vec<(&str, HeaderValue)> = vec![(TYPE, (if is_quorum { QUORUM } else { "classic" }).into())];
        let mut written = Vec::new();
        if let Some(ttl) = settings.ttl {
            table.push((TTL, milliseconds(ttl)));
        }
        if let Some(max) = settings.max_length {
            table.push(("x-max-length", number(max)));
        }
        if settings.overflow == Overflow::RejectPublish && settings.purpose != QueuePurpose::Holding {
            written.push(OVERFLOW);
        }
        if settings.overflow == Overflow::RejectPublish || settings.passes_on_at_least_once() {
            table.push((OVERFLOW, REJECT.into()));
        }
        if let Some(limit) = settings.delivery_limit.filter(|_| is_quorum) {
            table.push((DELIVERY_LIMIT, number(limit)));
        }
        if settings.limit_is_written {
            written.push(DELIVERY_LIMIT);
        }
        if let Some(max) = settings.max_priority {
            table.push(("x-max-priority", number(max)));
        }
        if settings.single_consumer {
            table.push(("x-single-active-consumer", HeaderValue::Bool(true)));
        }
        if let Some(target) = &settings.dead_letter {
            table.push((DEAD_LETTER_EXCHANGE, target.exchange.as_str().into()));
            table.push((DEAD_LETTER_KEY, target.key.as_str().into()));
            if settings.passes_on_at_least_once() {
                table.push((STRATEGY, AT_LEAST_ONCE.into()));
            }
        }
        Self { written, ..Self::new(table, settings.purpose, server) }
    }

    /// With these arguments. A quorum queue without a delivery limit never gives anything up: where the broker has a limit of
    /// its own, it is told so.
    pub(super) fn new<'a>(
        arguments: impl IntoIterator<Item = (&'a str, HeaderValue)>,
        purpose: QueuePurpose,
        server: Option<&Server>,
    ) -> Self {
        let named = arguments.into_iter().map(|(name, value)| (name.to_owned(), value));
        let mut arguments: Arguments = named.collect();
        let is_quorum = arguments.get(TYPE).and_then(HeaderValue::as_str) == Some(QUORUM);
        // From here on RabbitMQ gives up what was returned 20 times; before, a queue with a limit returned messages out of order.
        let has_default = server.is_some_and(|server| server.is_rabbitmq(4, 0));
        if is_quorum && has_default && !arguments.contains_key(DELIVERY_LIMIT) {
            arguments.insert(DELIVERY_LIMIT.to_owned(), HeaderValue::Int(MANY_DELIVERIES));
        }
        Self { arguments, purpose, written: Vec::new() }
    }

    /// Whether a queue that differs in this way can be used as it is. What the file asks for by its own words has to be
    /// there, and so has everything that brings messages back which wait.
    pub(super) fn tolerates(&self, difference: &Difference) -> bool {
        let name = difference.argument.as_str();
        match name {
            DELIVERY_LIMIT | OVERFLOW | STRATEGY => !self.written.contains(&name),
            TYPE => self.purpose == QueuePurpose::Kept,
            other if other.starts_with("x-") => {
                difference.ours.is_none() && !matches!(self.purpose, QueuePurpose::Holding | QueuePurpose::List)
            }
            _ => false,
        }
    }
}

/// A time as RabbitMQ wants it.
pub(super) fn milliseconds(time: Duration) -> HeaderValue {
    number(millis(time))
}

fn number(number: impl Into<u64>) -> HeaderValue {
    HeaderValue::Int(i64::try_from(number.into()).unwrap_or(i64::MAX))
}

/// What an existing queue has.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Theirs {
    Nothing,
    Value(HeaderValue),
    /// The broker's text was cut before it said so.
    Untold,
}

/// One argument of a queue that is there with another value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    pub(super) argument: String,
    pub(super) ours: Option<HeaderValue>,
    pub(super) theirs: Theirs,
}

impl Difference {
    /// Reads RabbitMQ's words, which are the same from 3.10 to 4.3: `inequivalent arg 'A' for queue 'Q' in vhost 'V': received
    /// X but current is Y`, where X and Y are `none`, `'VALUE'` or `the value 'VALUE' of type 'TYPE'`. The text ends after
    /// 255 bytes. `ours` is what was declared.
    pub(super) fn read(text: &str, ours: &Arguments) -> Option<Self> {
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once('\'')?;
        let ours = ours.get(argument).cloned();
        let is_whole = |said: &&str| *said == "none" || said.len() > 1 && said.ends_with('\'');
        let theirs = match rest.rsplit_once(" but current is ").map(|(_, said)| said).filter(is_whole) {
            None => Theirs::Untold,
            Some("none") => Theirs::Nothing,
            Some(said) => {
                let (value, kind) =
                    match said.strip_prefix("the value '").and_then(|said| said.rsplit_once("' of type '")) {
                        Some((value, kind)) => (value, kind.trim_end_matches('\'')),
                        None => (said.trim_matches('\''), ""),
                    };
                let is_number =
                    matches!(ours, Some(HeaderValue::Int(_))) || kind.contains("int") || kind.contains("long");
                match value.parse() {
                    Ok(number) if is_number && kind != "longstr" => Theirs::Value(HeaderValue::Int(number)),
                    Ok(_) | Err(_) if kind == "bool" => Theirs::Value(HeaderValue::Bool(value == "true")),
                    Ok(_) | Err(_) => Theirs::Value(value.into()),
                }
            }
        };
        Some(Self { argument: argument.to_owned(), ours, theirs })
    }

    /// Takes the existing queue's value over. Untold ones are mostly not there.
    pub(super) fn apply(&self, arguments: &mut Arguments) {
        match &self.theirs {
            Theirs::Nothing | Theirs::Untold => drop(arguments.remove(&self.argument)),
            Theirs::Value(value) => drop(arguments.insert(self.argument.clone(), value.clone())),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let argument = &self.argument;
        match &self.theirs {
            Theirs::Nothing => write!(f, "{argument} is not set")?,
            Theirs::Value(value) => write!(f, "{argument} is {}", Shown(value))?,
            Theirs::Untold => write!(f, "{argument} is another one")?,
        }
        match &self.ours {
            Some(ours) => write!(f, ", ours {}", Shown(ours))?,
            None => f.write_str(", ours not set")?,
        }
        let is_many = self.ours == Some(HeaderValue::Int(MANY_DELIVERIES));
        if argument == DELIVERY_LIMIT && is_many && self.theirs == Theirs::Nothing {
            f.write_str(" (what is returned 20 times is given up, unless a policy sets its delivery-limit)")?;
        }
        Ok(())
    }
}

struct Shown<'a>(&'a HeaderValue);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let HeaderValue::Bool(flag) = self.0 {
            return write!(f, "{flag}");
        }
        match self.0.as_int() {
            Some(number) => write!(f, "{number}"),
            None => write!(f, "\"{}\"", self.0.as_str().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests;
