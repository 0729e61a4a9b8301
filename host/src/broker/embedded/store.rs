//! Messages on disk, in redb: what a committed [`Batch`] says is there after any crash.
//!
//! A message that goes to several queues is stored once in each. Keys are (queue, position); positions only grow, so
//! the order of keys is the order of the queue, and a message that comes back is in its old place by itself.

mod seal;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use self::seal::seal;
pub(super) use self::seal::unseal;
use super::delayed::Due;
use crate::broker::marks::{self, Counts};
use crate::broker::{Error, Known, Mark, Tap};
use crate::event::{Message, QueueName};

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const QUEUES: TableDefinition<'_, &str, u32> = TableDefinition::new("queues");
pub(super) const MESSAGES: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("messages");
/// Messages that are published later, by the time they are due and a number that keeps their order.
pub(super) const DELAYED: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("delayed");
/// Readers' own queues, by the name of the queue.
pub(super) const TAPS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("taps");
/// The highest number that a removed queue had: numbers are never used again.
const LAST_REMOVED: &str = "last-removed-queue";
const FORMAT: u64 = 1;
/// First byte of every record.
pub(super) const RECORD_VERSION: u8 = 1;
/// redb's page cache; the rest of a backlog stays on disk.
pub(super) const CACHE_BYTES: usize = 32 << 20;

/// A message with what the broker knows of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// Milliseconds since the Unix epoch.
    pub(super) published_ms: u64,
    /// Deliveries that were not answered.
    pub(super) count: u32,
    pub(super) message: Arc<Message>,
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![RECORD_VERSION]).expect("writing into memory cannot fail")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&RECORD_VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
            Some((version, _)) => Err(format!("a record of the unknown version {version}")),
            None => Err("an empty record".to_owned()),
        }
    }
}

/// Changes that are written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) puts: Vec<(u32, u64, Vec<u8>)>,
    pub(super) removes: Vec<(u32, u64)>,
    pub(super) delays: Vec<(Due, Vec<u8>)>,
    pub(super) undelays: Vec<Due>,
    pub(super) marks: Vec<Mark>,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.puts.len() + self.removes.len() + self.delays.len() + self.undelays.len() + self.marks.len()
    }
}

/// The bits of a position that count; those above are the priority turned round, so that the highest comes first.
pub(super) const SEQUENCE_BITS: u32 = 56;

/// What is known of a queue when the store is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    pub(super) id: u32,
    pub(super) messages: u64,
    /// Sequence number of the next message.
    pub(super) next: u64,
}

pub(super) struct Store {
    database: Database,
    marks: Mutex<Counts>,
}

impl Store {
    /// Believes the file; see [`damage::open`](super::damage::open).
    pub(super) fn open(file: &Path) -> Result<Self, Error> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder.create(file).map_err(|error| error.to_string());
        let store = database.and_then(Self::on);
        store.map_err(|problem| Error::Unusable(format!("the store {}: {problem}", file.display())))
    }

    fn on(database: Database) -> Result<Self, String> {
        let store = Self { database, marks: Mutex::default() };
        match store.check_format() {
            Ok(None) => Ok(store),
            Ok(Some(other)) => Err(format!("its format is {other}; this version reads {FORMAT}")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn check_format(&self) -> Result<Option<u64>, redb::Error> {
        let write = self.database.begin_write()?;
        let mut other = None;
        {
            let mut meta = write.open_table(META)?;
            write.open_table(QUEUES)?;
            write.open_table(MESSAGES)?;
            write.open_table(DELAYED)?;
            write.open_table(TAPS)?;
            *self.marks.lock().unwrap_or_else(PoisonError::into_inner) = marks::open(&write)?;
            let known = meta.get("format")?.map(|value| value.value());
            match known {
                None => drop(meta.insert("format", FORMAT)?),
                Some(FORMAT) => {}
                Some(found) => other = Some(found),
            }
        }
        write.commit()?;
        Ok(other)
    }

    /// For what is not of every day.
    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Whether the last run ended in order. From now on it counts as not.
    pub(super) fn begin(&self) -> Result<bool, redb::Error> {
        let write = self.database.begin_write()?;
        let (clean, is_new) = {
            let mut meta = write.open_table(META)?;
            let clean = meta.insert("clean", 0)?.map(|value| value.value());
            (clean == Some(1), clean.is_none())
        };
        write.commit()?;
        Ok(clean || is_new)
    }

    /// Marks the run as ended in order.
    pub(super) fn end(&self) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        write.open_table(META)?.insert("clean", 1)?;
        write.commit()?;
        Ok(())
    }

    /// Makes the queues that are missing, and tells what every queue of the store holds.
    pub(super) fn queues(&self, wanted: &[QueueName]) -> Result<HashMap<String, Found>, redb::Error> {
        let write = self.database.begin_write()?;
        let mut found = make_queues(&write, wanted)?;
        {
            let messages = write.open_table(MESSAGES)?;
            for queue in found.values_mut() {
                queue.messages = messages.range((queue.id, 0)..=(queue.id, u64::MAX))?.count() as u64;
                queue.next = next_sequence(&messages, queue.id)?;
            }
        }
        write.commit()?;
        Ok(found)
    }

    /// Makes queues that are certainly new; gives the ids of all.
    pub(super) fn add_queues(&self, wanted: &[QueueName]) -> Result<HashMap<String, Found>, redb::Error> {
        let write = self.database.begin_write()?;
        let found = make_queues(&write, wanted)?;
        write.commit()?;
        Ok(found)
    }

    /// Readers' own queues. One whose record cannot be read is left alone: it is an ordinary queue that is kept.
    pub(super) fn taps(&self) -> Result<Vec<Tap>, redb::Error> {
        let read = self.database.begin_read()?;
        let mut found = Vec::new();
        for entry in read.open_table(TAPS)?.iter()? {
            found.extend(postcard::from_bytes(entry?.1.value()).ok());
        }
        Ok(found)
    }

    /// Makes a reader's queues; gives the ids of all.
    pub(super) fn add_tap(&self, tap: &Tap) -> Result<HashMap<String, Found>, redb::Error> {
        let write = self.database.begin_write()?;
        let found = make_queues(&write, &[tap.queue.clone(), tap.overflow.clone()])?;
        let record = postcard::to_stdvec(tap).expect("writing into memory cannot fail");
        write.open_table(TAPS)?.insert(tap.queue.as_str(), record.as_slice())?;
        write.commit()?;
        Ok(found)
    }

    /// Removes queues with everything in them.
    pub(super) fn remove_queues(&self, names: &[QueueName]) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        {
            let (mut queues, mut messages) = (write.open_table(QUEUES)?, write.open_table(MESSAGES)?);
            let (mut taps, mut meta) = (write.open_table(TAPS)?, write.open_table(META)?);
            for name in names {
                taps.remove(name.as_str())?;
                let Some(id) = queues.remove(name.as_str())?.map(|id| id.value()) else { continue };
                messages.retain_in((id, 0)..=(id, u64::MAX), |_, _| false)?;
                let last = meta.get(LAST_REMOVED)?.map_or(0, |last| last.value());
                meta.insert(LAST_REMOVED, last.max(u64::from(id)))?;
            }
        }
        write.commit()?;
        Ok(())
    }

    /// On disk when it returns.
    pub(super) fn commit(&self, batch: &Batch, now_ms: u64) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        {
            let mut messages = write.open_table(MESSAGES)?;
            for (queue, position, bytes) in &batch.puts {
                messages.insert((*queue, *position), seal((u64::from(*queue), *position), bytes).as_slice())?;
            }
            for key in &batch.removes {
                messages.remove(key)?;
            }
        }
        if !batch.delays.is_empty() || !batch.undelays.is_empty() {
            let mut delayed = write.open_table(DELAYED)?;
            for (due, bytes) in &batch.delays {
                delayed.insert(due, seal(*due, bytes).as_slice())?;
            }
            for due in &batch.undelays {
                delayed.remove(due)?;
            }
        }
        if !batch.marks.is_empty() {
            let mut counts = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
            marks::write(&write, &batch.marks, &mut counts, now_ms)?;
        }
        write.commit()?;
        Ok(())
    }

    /// Whether an event was settled within its window.
    pub(super) fn known(&self, mark: &Mark, now_ms: u64) -> Result<Known, String> {
        let read = self.database.begin_read().map_err(|error| error.to_string())?;
        marks::known(&read, mark, now_ms).map_err(|error| error.to_string())
    }

    /// Delayed messages, as they are on disk now.
    pub(super) fn delayed(&self) -> Result<ReadOnlyTable<(u64, u64), &'static [u8]>, redb::Error> {
        Ok(self.database.begin_read()?.open_table(DELAYED)?)
    }

    /// Up to `most` messages of a queue, in order, from a position on; fewer once they take `most_bytes`.
    pub(super) fn read(
        &self,
        queue: u32,
        from: u64,
        most: usize,
        most_bytes: usize,
    ) -> Result<Vec<(u64, Record)>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("queue {queue}: {error}");
        let read = self.database.begin_read().map_err(|error| failed(&error))?;
        let messages = read.open_table(MESSAGES).map_err(|error| failed(&error))?;
        let range = messages.range((queue, from)..=(queue, u64::MAX)).map_err(|error| failed(&error))?;
        let mut found = Vec::new();
        let mut bytes = 0;
        for entry in range.take(most) {
            let (key, value) = entry.map_err(|error| failed(&error))?;
            bytes += value.value().len();
            let position = key.value().1;
            let record = unseal((u64::from(queue), position), value.value()).and_then(Record::decode);
            found.push((position, record.map_err(|error| failed(&error))?));
            if bytes >= most_bytes {
                break;
            }
        }
        Ok(found)
    }
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

/// Gives every queue a number, the wanted ones that have none a new one.
fn make_queues(write: &WriteTransaction, wanted: &[QueueName]) -> Result<HashMap<String, Found>, redb::Error> {
    let mut queues = write.open_table(QUEUES)?;
    let mut found = HashMap::new();
    let removed = write.open_table(META)?.get(LAST_REMOVED)?.map_or(0, |last| last.value());
    let mut last = u32::try_from(removed).unwrap_or(u32::MAX);
    for entry in queues.iter()? {
        let (name, id) = entry?;
        last = last.max(id.value());
        found.insert(name.value().to_owned(), Found { id: id.value(), ..Found::default() });
    }
    for name in wanted {
        if !found.contains_key(name.as_str()) {
            last += 1;
            queues.insert(name.as_str(), last)?;
            found.insert(name.to_string(), Found { id: last, ..Found::default() });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod power_cut;
