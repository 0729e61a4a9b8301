//! What came of running a plugin on an event.

use std::time::Duration;

use super::{Emission, Reason};

/// How one invocation ended. A failing plugin is an outcome, not an error of the host.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The plugin answered with emissions, perhaps none.
    Emitted(Vec<Emission>),
    /// The plugin, or what stopped it, says that it did not work out.
    Failed(Failure),
}

/// Why an invocation gave no emissions.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The plugin asks to be called again.
    Retry {
        /// The plugin's words.
        reason: String,
        /// No sooner than this.
        after: Option<Duration>,
    },
    /// The plugin refuses the event for good.
    Rejected(String),
    /// The guest trapped: `unreachable`, a panic, a stack overflow.
    Trap(String),
    /// The whole call took longer than `limits.timeout`.
    Timeout(Duration),
    /// The guest wanted more memory, or larger tables, than it may have; the text says which.
    Memory(String),
    /// The answer is over `limits.emissions` or `limits.output`; the text says which.
    TooLarge(String),
    /// The answer breaks a rule of the wire, such as a routing key of more than 255 bytes.
    Invalid(String),
}

impl Failure {
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
            Self::Timeout(limit) => format!("ran longer than limits.timeout ({} ms)", limit.as_millis()),
        }
    }
}
