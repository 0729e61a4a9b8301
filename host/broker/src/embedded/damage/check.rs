//! Checks of a store before it is opened.
//!
//! redb checks its checksums only on request, and repairs a damaged file by going back to an older state. The store is
//! therefore checked through an overlay that keeps every write in memory. A damaged store is refused, and its file stays
//! as it is until an operator decides.

use std::path::Path;

use redb::Database;

use super::overlay::{ReadFailure, ReadOnlyOverlay};
use crate::embedded::store::{CACHE_BYTES, Fault, MessageStore};
use crate::guard;

/// Runs work on a database that may be damaged. A panic of redb becomes an error.
pub(crate) fn guarded<T, E: std::fmt::Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    guard::guarded(work).map_err(|error| error.to_string())
}

/// Why a store is not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// The file is damaged.
    #[error("{0}")]
    Damage(String),
    /// The disk failed to read the file, which says nothing about the file.
    #[error("{0}")]
    Unreadable(String),
}

/// The error for a problem: the failure of the disk if there was one, else damage.
fn check_error(failure: &ReadFailure, problem: String) -> CheckError {
    failure.why().map_or(CheckError::Damage(problem), |why| CheckError::Unreadable(why.to_owned()))
}

/// Opens a store without changing its file.
pub(crate) fn open_overlay(file: &Path, failure: &ReadFailure) -> Result<Database, CheckError> {
    let overlay =
        ReadOnlyOverlay::over(file, failure.clone()).map_err(|error| CheckError::Unreadable(error.to_string()))?;
    // redb would make a new store in an empty file.
    if overlay.is_empty() {
        return Err(CheckError::Damage("the file is empty".to_owned()));
    }
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    guarded(|| builder.create_with_backend(overlay)).map_err(|problem| check_error(failure, problem))
}

/// Checks every page of a store that is not open. Its file is not changed.
pub(crate) fn check(file: &Path) -> Result<(), CheckError> {
    let failure = ReadFailure::default();
    let mut database = open_overlay(file, &failure)?;
    match guarded(|| database.check_integrity()).map_err(|problem| check_error(&failure, problem))? {
        true => Ok(()),
        false => Err(CheckError::Damage("the checksums of some pages do not match".to_owned())),
    }
}

/// Opens or makes a store.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_or_make(file: &Path) -> Result<MessageStore, Fault> {
    if !file.exists() {
        MessageStore::make(file)?;
    }
    open(file)
}

/// Opens a store after a check of every page. A damaged file is not changed.
///
/// # Errors
/// [`Fault::Damaged`] with instructions for a damaged file, another fault for a file that cannot be read or opened.
pub(crate) fn open(file: &Path) -> Result<MessageStore, Fault> {
    check(file).map_err(|problem| match problem {
        CheckError::Damage(problem) => {
            let file = file.display();
            let what_to_do = "stop the daemon and run `trunkline repair`, which keeps the readable records";
            Fault::Damaged(format!("the store {file} is damaged: {problem}; {what_to_do}"))
        }
        CheckError::Unreadable(problem) => {
            Fault::Doubt(format!("the store {} cannot be read: {problem}", file.display()))
        }
    })?;
    MessageStore::open(file)
}
