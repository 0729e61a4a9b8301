//! When and in which order the events of a route run.

use std::fmt;
use std::time::Duration;

use crate::quantity;

/// `routes.NAME.dedupe`: the ids of settled events are remembered within a time and up to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupeWindow {
    /// Time since the event was settled.
    pub window: Duration,
    /// Largest number of ids; the oldest id is forgotten first.
    pub max: u32,
}

/// `routes.NAME.order-by`: the part of an event that is its ordering key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderBy {
    /// The organisation.
    Tenant,
    /// The user.
    User,
    /// The subject.
    Subject,
    /// The event's type.
    Type,
    /// The source.
    Source,
    /// The routing key of the message.
    RoutingKey,
    /// An attribute, by name.
    Attribute(String),
    /// A field of JSON data, by its path.
    Data(Vec<String>),
}

impl fmt::Display for OrderBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant => f.write_str("tenant"),
            Self::User => f.write_str("user"),
            Self::Subject => f.write_str("subject"),
            Self::Type => f.write_str("type"),
            Self::Source => f.write_str("source"),
            Self::RoutingKey => f.write_str("routing-key"),
            Self::Attribute(name) => write!(f, "attributes.{name}"),
            Self::Data(path) => write!(f, "data.{}", path.join(".")),
        }
    }
}

/// `routes.NAME.rate`: a number of events in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Number of events.
    pub events: u32,
    /// The time.
    pub per: Duration,
}

impl std::str::FromStr for Rate {
    type Err = String;

    /// `100/s`, `600/m`, `10/h`
    fn from_str(text: &str) -> Result<Self, String> {
        quantity::rate(text).map(|(events, per)| Self { events, per })
    }
}

/// `routes.NAME.tenant`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// The part of the event that names its tenant.
    pub by: OrderBy,
    /// How many events of one tenant may start in a time; further events wait in the broker.
    pub rate: Option<Rate>,
}

/// `routes.NAME.circuit`: after a number of passing failures within the window, the route consumes nothing during the
/// pause. Then one event runs as a probe, and its outcome decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Number of failures.
    pub failures: u32,
    /// Time in which failures are counted.
    pub window: Duration,
    /// Time without consuming.
    pub pause: Duration,
}
