//! The database and its counters, shared by readers and the writer.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use parking_lot::RwLock;
use redb::Database;

/// The database and the counters of its transactions.
pub(crate) struct StateShared {
    pub(crate) file: PathBuf,
    /// `None` while the store is opened again, and after that failed.
    pub(crate) database: RwLock<Option<Database>>,
    /// Number of the last applied transaction.
    pub(crate) applied: AtomicU64,
    /// Number of the last transaction that is on disk.
    pub(crate) durable: AtomicU64,
    /// Number of times that changes were lost.
    pub(crate) epoch: AtomicU64,
}

impl StateShared {
    /// An open database without transactions.
    pub(crate) fn new(file: PathBuf, database: Database) -> Self {
        Self {
            file,
            database: RwLock::new(Some(database)),
            applied: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
        }
    }
}

/// A point in the store's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StorePoint {
    pub(crate) epoch: u64,
    pub(crate) number: u64,
}

/// Name of a key space.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeySpaceName {
    pub(crate) plugin: String,
    /// `=` and the tenant, which may be empty; the empty text without a tenant.
    pub(crate) tenant: String,
}
