//! An argument that an existing queue has with another value than the wanted one, read from the broker's refusal.

use std::fmt;

use super::arguments::{
    Arguments, DELIVERY_LIMIT, EXPIRES, MANY_DELIVERIES, MAX_LENGTH, MAX_PRIORITY, OVERFLOW, SINGLE_CONSUMER, TTL, TYPE,
};
use trunkline_event::HeaderValue;

/// Why a stream is refused, with the instruction for the operator.
pub(crate) const IS_STREAM: &str = "the existing queue is a stream, from which the daemon cannot consume; name a classic queue or a quorum queue in routes.toml";

/// The value of an argument of an existing queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ExistingValue {
    /// The queue does not have the argument.
    Unset,
    Value(HeaderValue),
    /// The broker's text was cut before the value.
    Unknown,
}

/// One argument of an existing queue with another value than the wanted one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    pub(crate) argument: String,
    pub(crate) wanted: Option<HeaderValue>,
    pub(crate) existing: ExistingValue,
}

impl Difference {
    /// Reads RabbitMQ's text, which is the same from 3.10 to 4.3: `inequivalent arg 'A' for queue 'Q' in vhost 'V': received
    /// X but current is Y`, where X and Y are `none`, `'VALUE'` or `the value 'VALUE' of type 'TYPE'`. The text ends after
    /// 255 bytes. `wanted` has the declared arguments.
    pub(crate) fn read(text: &str, wanted: &Arguments) -> Option<Self> {
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once('\'')?;
        let wanted = wanted.get(argument).cloned();
        let is_whole = |said: &&str| *said == "none" || said.len() > 1 && said.ends_with('\'');
        let existing = match rest.rsplit_once(" but current is ").map(|(_, said)| said).filter(is_whole) {
            None => ExistingValue::Unknown,
            Some("none") => ExistingValue::Unset,
            Some(said) => {
                let (value, kind) =
                    match said.strip_prefix("the value '").and_then(|said| said.rsplit_once("' of type '")) {
                        Some((value, kind)) => (value, kind.trim_end_matches('\'')),
                        None => (said.trim_matches('\''), ""),
                    };
                let is_number =
                    matches!(wanted, Some(HeaderValue::Int(_))) || kind.contains("int") || kind.contains("long");
                match value.parse() {
                    Ok(number) if is_number && kind != "longstr" => ExistingValue::Value(HeaderValue::Int(number)),
                    Ok(_) | Err(_) if kind == "bool" => ExistingValue::Value(HeaderValue::Bool(value == "true")),
                    Ok(_) | Err(_) => ExistingValue::Value(value.into()),
                }
            }
        };
        Some(Self { argument: argument.to_owned(), wanted, existing })
    }

    /// Whether the existing queue is a stream.
    pub(crate) fn is_stream(&self) -> bool {
        self.argument == TYPE && self.existing == ExistingValue::Value("stream".into())
    }

    /// Applies the existing queue's value to arguments. An unknown value is mostly an unset one.
    pub(crate) fn apply(&self, arguments: &mut Arguments) {
        match &self.existing {
            ExistingValue::Unset | ExistingValue::Unknown => drop(arguments.remove(&self.argument)),
            ExistingValue::Value(value) => drop(arguments.insert(self.argument.clone(), value.clone())),
        }
    }

    /// The key of `[queues.NAME]` that sets the argument. An argument without a separate key is a key of `arguments`.
    pub(crate) fn key(&self) -> String {
        match separate_key(&self.argument) {
            Some((key, ..)) => key.to_owned(),
            None => format!("arguments.{}", self.argument),
        }
    }

    /// The line of `[queues.NAME]` that gives the queue the existing argument; none for an argument without a separate key.
    pub(crate) fn line(&self) -> Option<String> {
        let (key, is_quoted, unit) = separate_key(&self.argument)?;
        match &self.existing {
            ExistingValue::Value(value) => {
                let value = value.as_int().map(|number| number.to_string()).or(value.as_str().map(str::to_owned))?;
                let quote = if is_quoted { "\"" } else { "" };
                Some(format!("{key} = {quote}{value}{unit}{quote}"))
            }
            ExistingValue::Unset | ExistingValue::Unknown => None,
        }
    }

    /// The line for a key of `arguments` in `[queues.NAME]` that gives the queue the existing argument.
    pub(crate) fn argument_line(&self) -> Option<String> {
        match &self.existing {
            ExistingValue::Value(value) => Some(format!("{} = {}", self.key(), ShownArgument(value))),
            ExistingValue::Unset | ExistingValue::Unknown => None,
        }
    }

    /// The instruction for the operator of a queue that is refused because of this difference; none for a difference that is
    /// not about the loss of messages.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        Some(match self.argument.as_str() {
            "durable" => {
                "the existing queue and its messages are lost when the broker restarts; let the other program declare a durable queue, or name another queue in routes.toml"
            }
            "auto_delete" => {
                "the existing queue is auto-delete, so the broker removes the queue and its messages after the last consumer; let the other program declare the queue without auto-delete, or name another queue in routes.toml"
            }
            "exclusive" => {
                "the existing queue is exclusive to one connection of another program; let the other program declare the queue without exclusive, or name another queue in routes.toml"
            }
            EXPIRES => {
                "the existing queue expires, so the broker removes the queue and its messages when the queue has no consumer; let the other program declare the queue without x-expires, or write `owned = \"shared\"` and `arguments = { x-expires = MILLISECONDS }`"
            }
            SINGLE_CONSUMER if matches!(self.existing, ExistingValue::Value(_)) => {
                "the existing queue has a single active consumer, so either this daemon or another program gets all messages; write `owned = \"shared\"` and `arguments = { x-single-active-consumer = true }`, or name another queue in routes.toml"
            }
            SINGLE_CONSUMER => {
                "a route with `order-by` needs a queue with a single active consumer; let the other program declare x-single-active-consumer, or remove `order-by`"
            }
            OVERFLOW => {
                "the existing queue drops messages when the queue is full; remove `overflow = \"reject-publish\"`, or let the other program declare x-overflow"
            }
            TYPE => IS_STREAM,
            _other => return None,
        })
    }
}

/// The key of `[queues.NAME]` for an argument, whether the value is in quotes, and the unit of the value.
fn separate_key(argument: &str) -> Option<(&'static str, bool, &'static str)> {
    Some(match argument {
        TYPE => ("type", true, ""),
        TTL => ("ttl", true, "ms"),
        MAX_LENGTH => ("max-length", false, ""),
        MAX_PRIORITY => ("max-priority", false, ""),
        DELIVERY_LIMIT => ("delivery-limit", false, ""),
        OVERFLOW => ("overflow", true, ""),
        _other => return None,
    })
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let argument = &self.argument;
        match &self.existing {
            ExistingValue::Unset => write!(f, "{argument} is not set")?,
            ExistingValue::Value(value) => write!(f, "{argument} is {}", ShownArgument(value))?,
            ExistingValue::Unknown => write!(f, "{argument} differs")?,
        }
        match &self.wanted {
            Some(wanted) => write!(f, ", but must be {}", ShownArgument(wanted))?,
            None => f.write_str(", but must not be set")?,
        }
        let is_many = self.wanted == Some(HeaderValue::Int(MANY_DELIVERIES));
        if argument == DELIVERY_LIMIT && is_many && self.existing == ExistingValue::Unset {
            f.write_str(
                " (RabbitMQ removes a message from the queue after 20 returns, unless a policy sets delivery-limit)",
            )?;
        }
        Ok(())
    }
}

struct ShownArgument<'a>(&'a HeaderValue);

impl fmt::Display for ShownArgument<'_> {
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
