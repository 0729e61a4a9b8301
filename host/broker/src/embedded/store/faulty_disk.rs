//! A disk that fails on command, for tests of the store and the writer.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{Database, StorageBackend};

use super::database::MessageStore;
use super::store_file::StoreFile;

/// Operation that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    Write,
    Sync,
}

#[derive(Debug, Default)]
struct Script {
    failure: Option<(Operation, ErrorKind)>,
    syncs: usize,
}

/// A real file below redb. Clones share the script of failures.
#[derive(Debug, Clone)]
pub(crate) struct FaultyDisk {
    disk: Arc<StoreFile>,
    script: Arc<Mutex<Script>>,
}

impl FaultyDisk {
    /// Opens a store on a disk that works until [`FaultyDisk::fail`].
    pub(crate) fn store(file: &Path) -> (Self, MessageStore) {
        let disk = Self { disk: Arc::new(StoreFile::open(file).expect("a file")), script: Arc::default() };
        let database = Database::builder().create_with_backend(disk.clone()).expect("a database");
        let store = MessageStore::on(database, disk.disk.last_fault()).expect("a store");
        (disk, store)
    }

    /// Lets every operation of a kind fail from now on.
    pub(crate) fn fail(&self, operation: Operation, kind: ErrorKind) {
        self.script.lock().failure = Some((operation, kind));
    }

    /// Syncs so far.
    pub(crate) fn syncs(&self) -> usize {
        self.script.lock().syncs
    }

    fn check(&self, operation: Operation, doing: &str) -> io::Result<()> {
        let failure = self.script.lock().failure;
        let result = match failure {
            Some((failing, kind)) if failing == operation => Err(kind.into()),
            Some(_) | None => Ok(()),
        };
        self.disk.noted(doing, result)
    }
}

impl StorageBackend for FaultyDisk {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check(Operation::Read, "reading")?;
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check(Operation::Write, "resizing")?;
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.script.lock().syncs += 1;
        self.check(Operation::Sync, "syncing")?;
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check(Operation::Write, "writing")?;
        self.disk.write(offset, data)
    }
}
