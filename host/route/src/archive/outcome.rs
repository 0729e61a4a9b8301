//! Results of archiving.

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A folder or file cannot be written.
    #[error("the archive {place} cannot be written: {reason}")]
    Write {
        /// Path of the folder or file.
        place: String,
        /// Error text of the system.
        reason: String,
    },
    /// The settings of the object storage are not usable.
    #[error("the object storage of the archive cannot be used: {0}")]
    Store(String),
}

/// Outcome of archiving an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepOutcome {
    /// The event is archived.
    Stored,
    /// The route ends while the archive fails. The broker delivers the event again.
    LetGo,
    /// The writer is gone, and it is unknown whether the event was written.
    Unknown,
}
