//! The thread that reads and writes the store, and the handle that callers share with it.

mod commands;
mod compaction;
mod contents;
mod queue_changes;
mod read_ahead;
mod recovery;
mod shared;
mod space;
mod thread;

#[cfg(test)]
mod tests;

pub(crate) use commands::{QueueSetChange, WriterCommand};
pub(crate) use contents::StoreContents;
pub(crate) use shared::BrokerShared;
pub(crate) use space::DiskSpace;
pub(crate) use thread::{WriterSetup, start};
