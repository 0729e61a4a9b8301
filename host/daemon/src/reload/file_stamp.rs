//! The state of a file, without its content.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use trunkline_config as config;
use trunkline_plugin_host as plugin;

/// The metadata of a file. Two equal stamps mean the same content, as far as a file system shows. Symbolic links are
/// followed, so a link with a new target has another stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// The time of the last change of the inode. It changes too when `cp -p` overwrites the file and keeps its modification
    /// time.
    changed: (i64, i64),
}

impl FileStamp {
    /// Reads the metadata. `None` when the file does not exist or cannot be accessed.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// The files that decide whether a plugin runs: the component first, then its signature if one is required.
pub(super) fn plugin_files(settings: &config::Plugin) -> Vec<PathBuf> {
    let signature = (!settings.signers.is_empty()).then(|| plugin::signature_file(&settings.file));
    std::iter::once(settings.file.clone()).chain(signature).collect()
}
