//! The file below redb. It remembers what went wrong: redb tells what failed once, and afterwards only that something did.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;

use trunkline_config::state_dir;

/// Why the store cannot go on as it is open, by what has to happen before it is used again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum Fault {
    /// The disk has no room. What was being written is not there; everything before it is.
    #[error("{0}")]
    NoRoom(String),
    /// The disk, or what was read from it, is in doubt. Nothing is certain before the file was closed, opened and read
    /// again.
    #[error("{0}")]
    Doubt(String),
    /// The file is not whole, and only somebody else can decide what becomes of it.
    #[error("{0}")]
    Damaged(String),
}

/// What went wrong with a file last. A doubt stays, whatever comes after it.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<Fault>>>);

impl Trouble {
    pub(super) fn seen(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, fault: Fault) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*seen, Some(Fault::Doubt(_) | Fault::Damaged(_))) {
            *seen = Some(fault);
        }
    }
}

/// Whether an error says that there is no room: on the disk, in a quota, or within the largest size of a file.
pub(in super::super) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    path: PathBuf,
    trouble: Trouble,
}

impl Disk {
    /// Opens or makes the file. Our lock on the directory keeps other daemons out.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: state_dir::file(path)?, path: path.to_owned(), trouble: Trouble::default() })
    }

    /// Shared with the disk.
    pub(super) fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// Another handle of the file, to ask for its size.
    pub(super) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    fn told<T>(&self, doing: &str, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let why = format!("{doing} {}: {error}", self.path.display());
            // A sync that finds no room has lost what was written before.
            let fault = if is_no_room(error) && doing != "syncing" { Fault::NoRoom(why) } else { Fault::Doubt(why) };
            self.trouble.note(fault);
        }
        result
    }
}

/// Bytes of the disk that a file takes; a part that was never written takes none.
pub(super) fn allocated(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.blocks().saturating_mul(512))
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.told("looking at", self.file.metadata().map(|facts| facts.len()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.told("reading", self.file.read_exact_at(out, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.told("resizing", self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.told("syncing", self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.told("writing", self.file.write_all_at(data, offset))
    }
}
