//! The queues of the store: their ids, which are never used again, and what is in them.

use std::collections::HashMap;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};

use super::{Fault, MESSAGES, META, QUEUES, Store, TAPS};
use crate::Tap;
use trunkline_event::QueueName;

/// The highest id that a removed queue had.
const LAST_REMOVED: &str = "last-removed-queue";
/// The bits of a position that count; those above are the priority turned round, so that the highest comes first.
pub(in super::super) const SEQUENCE_BITS: u32 = 56;

/// What is known of a queue when the store is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Found {
    pub(in super::super) id: u32,
    pub(in super::super) messages: u64,
    /// Of their records.
    pub(in super::super) bytes: u64,
    /// Sequence number of the next message.
    pub(in super::super) next: u64,
}

impl Store {
    /// Makes the queues that are missing, and tells what every queue of the store holds.
    pub(in super::super) fn queues(&self, wanted: &[QueueName]) -> Result<HashMap<String, Found>, Fault> {
        let mut found = self.add_queues(wanted)?;
        let counted = self.database.begin_read().map_err(redb::Error::from).and_then(|read| count(&read, &mut found));
        self.told(counted)?;
        Ok(found)
    }

    /// Makes the queues that are missing; gives the ids of all.
    pub(in super::super) fn add_queues(&self, wanted: &[QueueName]) -> Result<HashMap<String, Found>, Fault> {
        let made = || {
            let write = self.database.begin_write()?;
            let (found, is_changed) = make_queues(&write, wanted)?;
            if is_changed {
                write.commit()?
            } else {
                write.abort()?
            }
            Ok(found)
        };
        self.told(made())
    }

    /// Readers' own queues. One whose record cannot be read is left alone: it is an ordinary queue that is kept.
    pub(in super::super) fn taps(&self) -> Result<Vec<Tap>, Fault> {
        let read = || {
            let read = self.database.begin_read()?;
            let mut found = Vec::new();
            for entry in read.open_table(TAPS)?.iter()? {
                found.extend(postcard::from_bytes(entry?.1.value()).ok());
            }
            Ok(found)
        };
        self.told(read())
    }

    /// Makes a reader's queues; gives the ids of all.
    pub(in super::super) fn add_tap(&self, tap: &Tap) -> Result<HashMap<String, Found>, Fault> {
        let made = || {
            let write = self.database.begin_write()?;
            let (found, _) = make_queues(&write, &[tap.queue.clone(), tap.overflow.clone()])?;
            let record = postcard::to_stdvec(tap).expect("writing into memory cannot fail");
            write.open_table(TAPS)?.insert(tap.queue.as_str(), record.as_slice())?;
            write.commit()?;
            Ok(found)
        };
        self.told(made())
    }

    /// Removes queues with everything in them.
    pub(in super::super) fn remove_queues(&self, names: &[QueueName]) -> Result<(), Fault> {
        let mut removed = 0;
        let mut done = || {
            let write = self.database.begin_write()?;
            {
                let (mut queues, mut messages) = (write.open_table(QUEUES)?, write.open_table(MESSAGES)?);
                let (mut taps, mut meta) = (write.open_table(TAPS)?, write.open_table(META)?);
                for name in names {
                    taps.remove(name.as_str())?;
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
        self.told(done)?;
        self.add_live(0, removed);
        Ok(())
    }
}

fn count(read: &ReadTransaction, found: &mut HashMap<String, Found>) -> Result<(), redb::Error> {
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

/// One more than the highest sequence number of a queue, over all priorities.
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

/// Gives every queue an id, the wanted ones that have none a new one while there are any; and whether there are new ones.
fn make_queues(write: &WriteTransaction, wanted: &[QueueName]) -> Result<(HashMap<String, Found>, bool), redb::Error> {
    let mut queues = write.open_table(QUEUES)?;
    let mut found = HashMap::new();
    let removed = write.open_table(META)?.get(LAST_REMOVED)?.map_or(0, |last| last.value());
    let mut last = u32::try_from(removed).unwrap_or(u32::MAX);
    for entry in queues.iter()? {
        let (name, id) = entry?;
        last = last.max(id.value());
        found.insert(name.value().to_owned(), Found { id: id.value(), ..Found::default() });
    }
    let mut is_changed = false;
    for name in wanted {
        if !found.contains_key(name.as_str()) {
            let Some(next) = last.checked_add(1) else { break };
            last = next;
            queues.insert(name.as_str(), last)?;
            found.insert(name.to_string(), Found { id: last, ..Found::default() });
            is_changed = true;
        }
    }
    Ok((found, is_changed))
}
