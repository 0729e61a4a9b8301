//! Place of the store's file.

use std::path::{Path, PathBuf};

/// Directory of the store in a daemon's state directory.
#[must_use]
pub(crate) fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("broker")
}

/// Name of the store's file in its directory.
pub(crate) const FILE: &str = "messages.redb";
