//! Outcomes of plugin calls.

use std::time::Duration;

use super::event::Emission;
use super::reason::Reason;

/// The end of one call. A failing plugin is an outcome, not an error of the host.
#[derive(Debug, Clone, PartialEq)]
pub enum CallOutcome {
    /// The plugin returned emissions, perhaps none.
    Emitted(Vec<Emission>),
    /// The plugin failed or was stopped.
    Failed(CallFailure),
}

/// Why a call gave no emissions.
#[derive(Debug, Clone, PartialEq)]
pub enum CallFailure {
    /// The plugin asks for a retry.
    Retry {
        /// The plugin's text.
        reason: String,
        /// Shortest time until the next attempt.
        after: Option<Duration>,
    },
    /// The plugin refuses the event for good.
    Rejected(String),
    /// The guest trapped: `unreachable`, a panic, a stack overflow.
    Trap(String),
    /// The whole call took longer than `limits.timeout`.
    Timeout(Duration),
    /// The guest asked for more memory or larger tables than its limit; the text says which.
    Memory(String),
    /// The emissions exceed `limits.emissions` or `limits.output`; the text says which.
    TooLarge(String),
    /// The emissions break a rule of the wire, such as a routing key of more than 255 bytes.
    Invalid(String),
}

impl CallFailure {
    /// The dead-letter reason when no retry is left or none is due.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Retry { .. } => Reason::Exhausted,
            Self::Rejected(_) => Reason::Rejected,
            Self::Trap(_) => Reason::Trap,
            Self::Timeout(_) => Reason::Timeout,
            Self::Memory(_) => Reason::Memory,
            Self::TooLarge(_) => Reason::TooLarge,
            Self::Invalid(_) => Reason::Invalid,
        }
    }

    /// Whether another attempt could end differently.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Retry { .. } | Self::Trap(_) | Self::Timeout(_) | Self::Memory(_) => true,
            Self::Rejected(_) | Self::TooLarge(_) | Self::Invalid(_) => false,
        }
    }

    /// The error text for header and log.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Retry { reason, .. } => reason.clone(),
            Self::Rejected(text)
            | Self::Trap(text)
            | Self::Memory(text)
            | Self::TooLarge(text)
            | Self::Invalid(text) => text.clone(),
            Self::Timeout(limit) => format!("the call took longer than limits.timeout ({} ms)", limit.as_millis()),
        }
    }
}
