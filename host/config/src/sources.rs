//! The inputs of a configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The inputs of a configuration. Flags have precedence over the environment, the environment over the file.
/// Not `Debug`, because the environment contains secrets.
#[derive(Clone, Default)]
pub struct Sources {
    /// The routes file.
    pub file: PathBuf,
    /// The environment, by name.
    pub environment: BTreeMap<String, String>,
    /// `--broker`: a URL, or `embedded`.
    pub broker_url: Option<String>,
    /// `--listen`: `IP:PORT`.
    pub listen: Option<String>,
    /// `--state`; relative to the current directory.
    pub state_dir: Option<PathBuf>,
    /// `--insecure`: listening beyond loopback needs no token.
    pub insecure: bool,
}

impl Sources {
    /// The directory that relative paths of the file begin at. Absolute, if the current directory is known.
    pub(crate) fn directory(&self) -> PathBuf {
        let directory = self.file.parent().unwrap_or(Path::new(""));
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned())
    }
}
