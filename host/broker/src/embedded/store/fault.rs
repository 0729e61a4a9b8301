//! Failures of the store, by what has to happen before it is used again.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::guard::GuardedError;

/// Why the open store cannot be used any more, by what has to happen before it is used again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The disk is full. The transaction that was being written is lost; all transactions before it are on disk.
    #[error("{0}")]
    NoRoom(String),
    /// A write, a sync or a read failed. The file has to be closed, opened and checked before it is used again.
    #[error("{0}")]
    Doubt(String),
    /// The file is damaged, and an operator has to decide about it.
    #[error("{0}")]
    Damaged(String),
}

/// The last failure of a file. A full disk does not replace an earlier doubt or damage.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastFault(Arc<Mutex<Option<Fault>>>);

impl LastFault {
    pub(crate) fn last(&self) -> Option<Fault> {
        self.0.lock().clone()
    }

    pub(crate) fn note(&self, fault: Fault) {
        let mut last = self.0.lock();
        if !matches!(*last, Some(Fault::Doubt(_) | Fault::Damaged(_))) {
            *last = Some(fault);
        }
    }
}

/// Whether an error means that the disk, a quota or the largest size of a file is exhausted.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

impl From<GuardedError<Self>> for Fault {
    /// A panic leaves the file in doubt.
    fn from(error: GuardedError<Self>) -> Self {
        match error {
            GuardedError::Failed(fault) => fault,
            GuardedError::Contradiction => Self::Doubt(error.to_string()),
        }
    }
}
