//! Rebuilding a damaged store from its readable records.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::check::{check, guarded, open_overlay};
use super::overlay::ReadFailure;
use super::salvage::Salvage;
use crate::Error;
use crate::embedded::store::{FILE, MessageStore, directory};
use trunkline_config::state_dir::DirectoryLock;

/// Result of [`repair`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Path of the damaged file after the repair; `None` when the store was not damaged.
    pub damaged: Option<PathBuf>,
    /// Description of the damage.
    pub problem: String,
    /// Number of messages in queues and delayed messages in the new store.
    pub kept: u64,
    /// Parts that could not be read, a line each.
    pub left_out: Vec<String>,
}

/// Rebuilds the store of a state directory from its readable records. No daemon may have the store open. The damaged file
/// stays beside the new one.
///
/// # Errors
/// [`Error::Unusable`]: a daemon runs, or nothing of the store can be read.
pub fn repair(state_dir: &Path) -> Result<RepairReport, Error> {
    repair_in(&directory(state_dir))
}

/// Rebuilds the store in a directory.
pub(crate) fn repair_in(dir: &Path) -> Result<RepairReport, Error> {
    let _lock = DirectoryLock::take(dir).map_err(|error| Error::Unusable(error.to_string()))?;
    let file = dir.join(FILE);
    let unusable = |problem: &dyn std::fmt::Display| Error::Unusable(format!("{}: {problem}", file.display()));
    if !file.exists() {
        return Err(unusable(&"the store does not exist"));
    }
    let Err(problem) = check(&file) else { return Ok(RepairReport::default()) };
    let advice = "move the file away to start with an empty store";
    let database = open_overlay(&file, &ReadFailure::default())
        .map_err(|error| unusable(&format!("no record can be read: {error}; {advice}")))?;
    let (new, damaged) = (dir.join("messages.redb.new"), free_name(dir));
    let _older = std::fs::remove_file(&new);
    let store = MessageStore::open(&new).map_err(|fault| unusable(&fault))?;
    let Salvage { kept, left_out } = store.salvage(&database).map_err(|error| unusable(&error))?;
    drop(store);
    // A damaged database may panic once more when it is closed; the file is untouched either way.
    let _closed = guarded(|| {
        drop(database);
        Ok::<_, Error>(())
    });
    let renamed = std::fs::rename(&file, &damaged).and_then(|()| std::fs::rename(&new, &file));
    renamed.and_then(|()| File::open(dir)?.sync_all()).map_err(|error| unusable(&error))?;
    Ok(RepairReport { damaged: Some(damaged), problem: problem.to_string(), kept, left_out })
}

/// A name for the damaged file that is not taken.
fn free_name(dir: &Path) -> PathBuf {
    let names = (1..).map(|number| dir.join(format!("{FILE}.damaged-{number}")));
    names.into_iter().find(|name| !name.exists()).unwrap_or_else(|| dir.join(format!("{FILE}.damaged")))
}
