//! Reasons of dead letters: one closed set for header, metric label, log field and README table.

use std::fmt;

/// Reason of a dead letter. [`Reason::as_str`] is the word on the wire and in labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The plugin rejected the event.
    Rejected,
    /// The message could not be decoded, or an emission broke a rule of the host.
    Invalid,
    /// The plugin trapped on its last attempt.
    Trap,
    /// The plugin ran into its wall-clock limit on its last attempt.
    Timeout,
    /// The plugin ran into its memory limit on its last attempt.
    Memory,
    /// The plugin asked for a retry more often than the route allows.
    Exhausted,
    /// The event has more hops than `max-hops`.
    Loop,
    /// No queue is bound for an emission.
    Unroutable,
    /// The broker refused a message that follows from the event: the user may not publish it, or its exchange is missing.
    Refused,
    /// A body or an emission is over a size limit.
    TooLarge,
    /// The message outlived its own TTL before the event was handled.
    Expired,
    /// The data does not fit the route's schema.
    Schema,
}

impl Reason {
    /// Every reason, in the order of the README's table.
    pub const ALL: [Self; 12] = [
        Self::Rejected,
        Self::Invalid,
        Self::Trap,
        Self::Timeout,
        Self::Memory,
        Self::Exhausted,
        Self::Loop,
        Self::Unroutable,
        Self::Refused,
        Self::TooLarge,
        Self::Expired,
        Self::Schema,
    ];

    /// The word for header, metric label and log field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Invalid => "invalid",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Exhausted => "exhausted",
            Self::Loop => "loop",
            Self::Unroutable => "unroutable",
            Self::Refused => "refused",
            Self::TooLarge => "too-large",
            Self::Expired => "expired",
            Self::Schema => "schema",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
