//! Archives of routes.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::secret::Secret;

/// `routes.NAME.archive`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The place of the archive.
    pub place: ArchivePlace,
    /// How long a batch waits for more events.
    pub wait: Duration,
    /// Size in bytes at which a file of a folder is closed.
    pub file_max_bytes: u64,
}

/// The place of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchivePlace {
    /// A folder. The path is absolute, if the current directory is known.
    Folder(PathBuf),
    /// A bucket that speaks S3's protocol.
    Objects(ObjectStore),
}

/// A bucket of an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectStore {
    /// Name of the bucket.
    pub bucket: String,
    /// Prefix of all keys, without a slash at either end.
    pub prefix: String,
    /// Address of the object store; Amazon's when absent.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Id of the access key, or the reason why it cannot be read.
    pub access_key: Option<Result<Secret, String>>,
    /// Secret access key, or the reason why it cannot be read.
    pub secret_key: Option<Result<Secret, String>>,
}
