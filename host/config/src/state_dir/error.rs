//! Errors of the state directory.

use std::io;
use std::path::{Path, PathBuf};

/// The reason why a daemon cannot use its state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// The system does not allow it.
    #[error("the state directory {} cannot be used: {reason}; name another directory with `--state DIR`, \
             `state-dir` in the routes file or $STATE_DIRECTORY", path.display())]
    Unusable {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        reason: String,
    },
    /// Another daemon uses it.
    #[error("{by} already uses the directory of the lock file {}; stop that process, or name another directory for \
             this daemon with `--state DIR`", path.display())]
    Taken {
        /// The file of the lock.
        path: PathBuf,
        /// The other process, as far as it is known.
        by: String,
    },
    /// The directory is for the files of all users.
    #[error("the directory {} is shared with other users, because its sticky bit is set; name a directory that only the daemon \
             uses, such as {}", path.display(), path.join("trunkline").display())]
    Shared {
        /// The directory.
        path: PathBuf,
    },
}

impl StateDirError {
    pub(super) fn unusable(path: &Path, error: &io::Error) -> Self {
        Self::Unusable { path: path.to_owned(), reason: error.to_string() }
    }
}
