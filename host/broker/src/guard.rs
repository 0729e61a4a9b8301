//! Work on a database file that may be damaged.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why guarded work has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardedError<E> {
    /// The work failed.
    #[error("{0}")]
    Failed(E),
    /// The work panicked, which redb does on a file whose pages contradict each other.
    #[error("the pages of the file contradict each other")]
    Contradiction,
}

/// Runs work on a database file that may be damaged. A damaged file can make redb panic.
///
/// # Errors
/// The error of the work, or its panic.
pub(crate) fn guarded<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<T, GuardedError<E>> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(GuardedError::Failed),
        Err(_panic) => Err(GuardedError::Contradiction),
    }
}
