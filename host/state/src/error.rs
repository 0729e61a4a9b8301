//! Errors of the store.

use std::path::Path;

/// Why the state was not read or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A quota of the plugin is exhausted.
    #[error("the quota of {0} is exceeded; raise the quota in `allow.kv` of [plugins.NAME]")]
    Quota(String),
    /// The key or the value breaks a bound, or is not a number.
    #[error("{0}")]
    Unfit(String),
    /// The store cannot be used now.
    #[error("the state store cannot be used: {0}")]
    Unavailable(String),
}

pub(crate) fn unavailable(file: &Path, problem: &dyn std::fmt::Display) -> Error {
    Error::Unavailable(format!("{}: {problem}", file.display()))
}

pub(crate) fn not_open() -> Error {
    Error::Unavailable("the store is not open".to_owned())
}

pub(crate) fn changes_lost() -> Error {
    Error::Unavailable("the changes could not be written; the state is unchanged".to_owned())
}
