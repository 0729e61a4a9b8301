//! The queues of the store. The id of a queue is never used for another queue.

use std::collections::HashMap;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};

use super::database::MessageStore;
use super::fault::Fault;
use super::tables::{MESSAGES, META, QUEUES, STREAMS};
use crate::EventStreamQueues;
use trunkline_event::QueueName;

/// Key of the highest id of all removed queues.
const LAST_REMOVED: &str = "last-removed-queue";
/// Bits of a position that hold the sequence number. The bits above hold the inverted priority, so that the highest
/// priority comes first.
pub(crate) const SEQUENCE_BITS: u32 = 56;

/// A queue as it is found when the store is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StoredQueue {
    pub(crate) id: u32,
    pub(crate) messages: u64,
    /// Bytes of the records of all messages.
    pub(crate) bytes: u64,
    /// Sequence number of the next message.
    pub(crate) next: u64,
}

impl MessageStore {
    /// Makes the wanted queues that are missing, and returns every queue of the store by name.
    pub(crate) fn queues(&self, wanted: &[QueueName]) -> Result<HashMap<String, StoredQueue>, Fault> {
        let mut found = self.add_queues(wanted)?;
        let counted = self.database().begin_read().map_err(redb::Error::from).and_then(|read| count(&read, &mut found));
        self.with_fault(counted)?;
        Ok(found)
    }

    /// Makes the wanted queues that are missing, and returns the ids of all queues by name.
    pub(crate) fn add_queues(&self, wanted: &[QueueName]) -> Result<HashMap<String, StoredQueue>, Fault> {
        let made = || {
            let write = self.database().begin_write()?;
            let (found, is_changed) = make_queues(&write, wanted)?;
            if is_changed {
                write.commit()?
            } else {
                write.abort()?
            }
            Ok(found)
        };
        self.with_fault(made())
    }

    /// The queues of streams. A queue whose record cannot be read is treated as an ordinary queue and kept.
    pub(crate) fn streams(&self) -> Result<Vec<EventStreamQueues>, Fault> {
        let read = || {
            let read = self.database().begin_read()?;
            let mut found = Vec::new();
            for entry in read.open_table(STREAMS)?.iter()? {
                found.extend(postcard::from_bytes(entry?.1.value()).ok());
            }
            Ok(found)
        };
        self.with_fault(read())
    }

    /// Makes the queues of a stream, and returns the ids of all queues by name.
    pub(crate) fn add_stream(&self, stream: &EventStreamQueues) -> Result<HashMap<String, StoredQueue>, Fault> {
        let made = || {
            let write = self.database().begin_write()?;
            let (found, _) = make_queues(&write, &[stream.queue.clone(), stream.overflow.clone()])?;
            let record = postcard::to_stdvec(stream).expect("writing into memory cannot fail");
            write.open_table(STREAMS)?.insert(stream.queue.as_str(), record.as_slice())?;
            write.commit()?;
            Ok(found)
        };
        self.with_fault(made())
    }

    /// Removes queues with their messages.
    pub(crate) fn remove_queues(&self, names: &[QueueName]) -> Result<(), Fault> {
        let mut removed = 0;
        let mut done = || {
            let write = self.database().begin_write()?;
            {
                let (mut queues, mut messages) = (write.open_table(QUEUES)?, write.open_table(MESSAGES)?);
                let (mut streams, mut meta) = (write.open_table(STREAMS)?, write.open_table(META)?);
                for name in names {
                    streams.remove(name.as_str())?;
                    let Some(id) = queues.remove(name.as_str())?.map(|id| id.value()) else { continue };
                    messages.retain_in((id, 0)..=(id, u64::MAX), |_, record| {
                        removed += record.len() as u64;
                        false
                    })?;
                    let last = meta.get(LAST_REMOVED)?.map_or(0, |last| last.value());
                    meta.insert(LAST_REMOVED, last.max(u64::from(id)))?;
                }
            }
            write.commit()?;
            Ok(())
        };
        let done = done();
        self.with_fault(done)?;
        self.add_record_bytes(0, removed);
        Ok(())
    }
}

fn count(read: &ReadTransaction, found: &mut HashMap<String, StoredQueue>) -> Result<(), redb::Error> {
    let messages = read.open_table(MESSAGES)?;
    for queue in found.values_mut() {
        for entry in messages.range((queue.id, 0)..=(queue.id, u64::MAX))? {
            queue.messages += 1;
            queue.bytes += entry?.1.value().len() as u64;
        }
        queue.next = next_sequence(&messages, queue.id)?;
    }
    Ok(())
}

/// The sequence number after the highest one of a queue, over all priorities.
fn next_sequence(
    messages: &impl ReadableTable<(u32, u64), &'static [u8]>,
    queue: u32,
) -> Result<u64, redb::StorageError> {
    const SEQUENCE: u64 = (1 << SEQUENCE_BITS) - 1;
    let (mut next, mut below) = (0, u64::MAX);
    while let Some((key, _)) = messages.range((queue, 0)..=(queue, below))?.next_back().transpose()? {
        let position = key.value().1;
        next = next.max((position & SEQUENCE) + 1);
        match (position & !SEQUENCE).checked_sub(1) {
            Some(last_of_next_class) => below = last_of_next_class,
            None => break,
        }
    }
    Ok(next)
}

/// Returns all queues by name, and whether a wanted queue was made. Queues are made while there are ids left.
fn make_queues(
    write: &WriteTransaction,
    wanted: &[QueueName],
) -> Result<(HashMap<String, StoredQueue>, bool), redb::Error> {
    let mut queues = write.open_table(QUEUES)?;
    let mut found = HashMap::new();
    let removed = write.open_table(META)?.get(LAST_REMOVED)?.map_or(0, |last| last.value());
    let mut last = u32::try_from(removed).unwrap_or(u32::MAX);
    for entry in queues.iter()? {
        let (name, id) = entry?;
        last = last.max(id.value());
        found.insert(name.value().to_owned(), StoredQueue { id: id.value(), ..StoredQueue::default() });
    }
    let mut is_changed = false;
    for name in wanted {
        if !found.contains_key(name.as_str()) {
            let Some(next) = last.checked_add(1) else { break };
            last = next;
            queues.insert(name.as_str(), last)?;
            found.insert(name.to_string(), StoredQueue { id: last, ..StoredQueue::default() });
            is_changed = true;
        }
    }
    Ok((found, is_changed))
}
