//! The files that a generation is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use trunkline_config::{Config, PluginLock};

use super::file_stamp::{FileStamp, plugin_files};

/// The files of a generation, and the directories whose lists of files matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    paths: BTreeSet<PathBuf>,
}

impl Inputs {
    /// These files and directories. They need not exist yet.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { paths: paths.into_iter().collect() }
    }

    /// The files that a configuration was read from and names.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let plugins = config.plugins.values().flat_map(plugin_files);
        Self::new(config.files.iter().cloned().chain(plugins).chain([PluginLock::beside(&config.file)]))
    }

    /// These paths and further ones.
    #[must_use]
    pub fn and(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.paths.extend(paths);
        self
    }

    /// The paths.
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.paths.iter()
    }

    /// Reads the stamps from the disk.
    pub(super) fn stamps(&self) -> BTreeMap<PathBuf, Option<FileStamp>> {
        self.paths.iter().map(|path| (path.clone(), FileStamp::of(path))).collect()
    }

    /// The directories in which changes show: the parents of each path and of its target.
    pub(super) fn directories(&self) -> BTreeSet<PathBuf> {
        let real = self.paths.iter().filter_map(|path| path.canonicalize().ok());
        let all = self.paths.iter().cloned().chain(real).collect::<Vec<_>>();
        let parents = all.iter().filter_map(|path| path.parent().map(Path::to_owned));
        parents.chain(all.iter().filter(|path| path.is_dir()).cloned()).collect()
    }
}
