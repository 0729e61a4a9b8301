//! The store on disk: messages, delayed messages, queues, dedupe records and the clock, in one redb file.

mod batch;
mod clock;
mod database;
mod delayed;
mod fault;
mod path;
mod queues;
mod record;
mod seal;
mod store_file;
mod tables;

#[cfg(test)]
mod faulty_disk;
#[cfg(test)]
mod power_cut;
#[cfg(test)]
mod tests;

pub(crate) use batch::WriteBatch;
pub(crate) use clock::{ClockAnchor, StoreClock};
pub(crate) use database::{LastRun, MessageStore, QueuePage};
pub(crate) use delayed::{RetryCounts, StoredDelays, report_damage};
pub(crate) use fault::Fault;
#[cfg(test)]
pub(crate) use faulty_disk::{FaultyDisk, Operation};
pub(crate) use path::{FILE, directory};
pub(crate) use queues::{SEQUENCE_BITS, StoredQueue};
pub(crate) use record::{DelayKind, DelayedKey, DelayedRecord, MessageRecord};
pub(crate) use seal::unseal;
pub(crate) use tables::{CACHE_BYTES, DELAYED, MESSAGES, META, QUEUES, STREAMS};
