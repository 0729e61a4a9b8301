//! Errors of `trunkline new`.

use std::path::PathBuf;

/// The reason why no folder was made. No file is left behind.
#[derive(Debug, thiserror::Error)]
pub enum ScaffoldError {
    /// The name does not fit a route, a file or a package.
    #[error("the name {name:?} {problem}")]
    Name {
        /// The name.
        name: String,
        /// The rule that the name breaks.
        problem: String,
    },
    /// The path exists already.
    #[error("{} exists already; choose another folder with --path", .0.display())]
    Exists(PathBuf),
    /// `--sdk` for another language, or a folder that is not the SDK.
    #[error("--sdk: {0}")]
    Sdk(String),
    /// The folder cannot be written.
    #[error("the file {} cannot be written: {source}", path.display())]
    Write {
        /// The folder.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
}
