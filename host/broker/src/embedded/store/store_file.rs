//! The file below redb. It keeps the last failure, because redb reports a failure once and afterwards only that there was
//! one.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use redb::StorageBackend;

use super::fault::{Fault, LastFault, is_no_room};
use trunkline_config::state_dir;

/// The file of a store.
#[derive(Debug)]
pub(crate) struct StoreFile {
    file: File,
    path: PathBuf,
    last_fault: LastFault,
}

impl StoreFile {
    /// Opens or makes the file. The lock on the directory keeps other daemons out.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: state_dir::file(path)?, path: path.to_owned(), last_fault: LastFault::default() })
    }

    /// The last failure, shared with the disk.
    pub(crate) fn last_fault(&self) -> LastFault {
        self.last_fault.clone()
    }

    /// Another handle of the file, for its size.
    pub(crate) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Keeps the failure of an operation. `doing` names the operation.
    pub(crate) fn noted<T>(&self, doing: &str, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let why = format!("{doing} {} failed: {error}", self.path.display());
            // A sync that finds no room has lost earlier writes.
            let fault = if is_no_room(error) && doing != "syncing" { Fault::NoRoom(why) } else { Fault::Doubt(why) };
            self.last_fault.note(fault);
        }
        result
    }
}

/// Bytes that a file takes on the disk. A part that was never written takes none.
pub(crate) fn allocated(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.blocks().saturating_mul(512))
}

impl StorageBackend for StoreFile {
    fn len(&self) -> io::Result<u64> {
        self.noted("reading the length of", self.file.metadata().map(|metadata| metadata.len()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noted("reading", self.file.read_exact_at(out, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.noted("resizing", self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.noted("syncing", self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.noted("writing", self.file.write_all_at(data, offset))
    }
}
