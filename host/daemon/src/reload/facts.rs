//! What a file looked like, without reading it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use trunkline_config as config;
use trunkline_plugin_host as plugin;

/// Two equal ones are the same content, as far as a file system tells. Symbolic links are followed, so a link that is
/// pointed elsewhere is another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// Also moved by what keeps the time of modification, as `cp -p` over a file does.
    changed: (i64, i64),
}

impl Facts {
    /// None when there is no such file, or it may not be looked at.
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

/// The files that decide whether a plugin runs: its own first, and its signature where one is demanded.
pub(super) fn files(settings: &config::Plugin) -> Vec<PathBuf> {
    let signature = (!settings.signers.is_empty()).then(|| plugin::signature_file(&settings.file));
    std::iter::once(settings.file.clone()).chain(signature).collect()
}
