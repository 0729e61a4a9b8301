//! The folders of the benchmark: the installed peers below `target/bench`, and a temporary folder for each run.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use xtask::root;

/// The folder of the peers' environments and of the components, which later runs use again.
pub(crate) fn kept(name: &str) -> Result<PathBuf> {
    let folder = root().join("target/bench").join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A temporary folder, which is deleted with the value.
pub(crate) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    pub(crate) fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("trunkline-bench-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _absent = std::fs::remove_dir_all(&self.0);
    }
}
