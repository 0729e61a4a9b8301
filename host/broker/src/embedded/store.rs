//! Messages on disk, in redb: what a committed [`Batch`] says is there after any crash.
//!
//! A message that goes to several queues is stored once in each. Keys are (queue, position); positions only grow, so
//! the order of keys is the order of the queue, and a message that comes back is in its old place by itself.

mod batch;
mod disk;
mod queues;
mod seal;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

pub(super) use self::batch::{Batch, RECORD_VERSION, Record};
use self::disk::{Disk, Trouble, allocated};
pub(super) use self::disk::{Fault, is_no_room};
pub(super) use self::queues::{Found, SEQUENCE_BITS};
use self::seal::seal;
pub(super) use self::seal::unseal;
use super::clock::{Anchor, Moment};
use super::delayed::Due;
use crate::marks::{self, Counts};
use crate::{Known, Mark};

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const QUEUES: TableDefinition<'_, &str, u32> = TableDefinition::new("queues");
pub(super) const MESSAGES: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("messages");
/// Messages that are published later, by the time they are due and a number that keeps their order.
pub(super) const DELAYED: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("delayed");
/// Readers' own queues, by the name of the queue.
pub(super) const TAPS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("taps");
/// Those above, and the two of the dedupe windows.
const TABLES: usize = 7;
const FORMAT: u64 = 1;
/// redb's page cache; the rest of a backlog stays on disk.
pub(super) const CACHE_BYTES: usize = 32 << 20;
/// Where the clock of the store is: its time, and what the clocks of the system said then.
const CLOCK: [&str; 4] = ["clock-store-ms", "clock-wall-ms", "clock-boot-ms", "clock-boot"];

pub(super) struct Store {
    database: Database,
    marks: Mutex<Counts>,
    trouble: Trouble,
    /// Of the store; none for one that is not in a file.
    file: Option<File>,
    /// Bytes of the records of messages.
    live: AtomicU64,
    /// Delayed messages whose records are damaged; they stay where they are.
    unreadable: Mutex<BTreeSet<Due>>,
}

/// Messages that were read ahead.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    pub(super) entries: Vec<(u64, Record)>,
    /// There are no more.
    pub(super) is_end: bool,
    /// Why the next one cannot be read.
    pub(super) broken: Option<String>,
}

impl Store {
    /// Makes a store beside the name, and gives it the name when it is whole: a file with that name is one, or damaged.
    pub(super) fn make(file: &Path) -> Result<(), Fault> {
        let beside = file.with_extension("redb.begun");
        let failed = |error: std::io::Error| {
            let why = format!("making the store {}: {error}", file.display());
            if is_no_room(&error) { Fault::NoRoom(why) } else { Fault::Doubt(why) }
        };
        if beside.exists() {
            std::fs::remove_file(&beside).map_err(failed)?;
        }
        drop(Self::open(&beside)?);
        std::fs::rename(&beside, file).map_err(failed)?;
        // Its name has to outlive a power cut too.
        let dir = file.parent().unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    /// Believes the file; see [`damage::open`](super::damage::open).
    pub(super) fn open(file: &Path) -> Result<Self, Fault> {
        let failed = |error: &dyn std::fmt::Display| Fault::Doubt(format!("the store {}: {error}", file.display()));
        let disk = Disk::open(file).map_err(|error| failed(&error))?;
        let (trouble, handle) = (disk.trouble(), disk.handle().map_err(|error| failed(&error))?);
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder.create_with_backend(disk);
        let database = database.map_err(|error| trouble.seen().unwrap_or_else(|| failed(&error)))?;
        Ok(Self { file: Some(handle), ..Self::on(database, trouble)? })
    }

    fn on(database: Database, trouble: Trouble) -> Result<Self, Fault> {
        let store = Self {
            database,
            marks: Mutex::default(),
            trouble,
            file: None,
            live: AtomicU64::new(0),
            unreadable: Mutex::default(),
        };
        match store.check_format().map_err(|error| store.fault(&error))? {
            None => Ok(store),
            Some(other) => {
                Err(Fault::Damaged(format!("the format of the store is {other}; this version reads {FORMAT}")))
            }
        }
    }

    /// Writes nothing into a store that has everything: it opens on a full disk too.
    fn check_format(&self) -> Result<Option<u64>, redb::Error> {
        let write = self.database.begin_write()?;
        let is_complete = write.list_tables()?.count() >= TABLES;
        let known = {
            let mut meta = write.open_table(META)?;
            write.open_table(QUEUES)?;
            write.open_table(MESSAGES)?;
            write.open_table(DELAYED)?;
            write.open_table(TAPS)?;
            *self.marks.lock().unwrap_or_else(PoisonError::into_inner) = marks::open(&write)?;
            let known = meta.get("format")?.map(|value| value.value());
            if known.is_none() {
                meta.insert("format", FORMAT)?;
            }
            known
        };
        match known {
            None => write.commit()?,
            Some(FORMAT) if !is_complete => write.commit()?,
            Some(_) => write.abort()?,
        }
        Ok(known.filter(|known| *known != FORMAT))
    }

    /// What an error of redb means.
    pub(super) fn fault(&self, error: &redb::Error) -> Fault {
        self.trouble.seen().unwrap_or_else(|| Fault::Doubt(format!("the store: {error}")))
    }

    fn told<T>(&self, result: Result<T, redb::Error>) -> Result<T, Fault> {
        result.map_err(|error| self.fault(&error))
    }

    /// For what is not of every day.
    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Bytes of all records of messages.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    pub(super) fn unreadable(&self) -> MutexGuard<'_, BTreeSet<Due>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Length of the file, and how much of the disk it takes.
    pub(super) fn size(&self) -> Option<(u64, u64)> {
        let file = self.file.as_ref()?;
        Some((file.metadata().ok()?.len(), allocated(file).ok()?))
    }

    /// Moves pages forward and cuts the file. Nothing else is read or written meanwhile.
    pub(super) fn compact(&mut self) -> Result<(), Fault> {
        let compacted = self.database.compact().map(drop).map_err(redb::Error::from);
        self.told(compacted)
    }

    /// Whether the last run ended in order, and where its clock was. From now on the run counts as not ended.
    pub(super) fn begin(&self) -> Result<(bool, Option<Anchor>), Fault> {
        let begun = || {
            let write = self.database.begin_write()?;
            let (clean, anchor) = {
                let mut meta = write.open_table(META)?;
                let clean = meta.insert("clean", 0)?.map(|value| value.value());
                (clean, read_anchor(&meta)?)
            };
            write.commit()?;
            Ok((clean != Some(0), anchor))
        };
        self.told(begun())
    }

    /// Marks the run as ended in order.
    pub(super) fn end(&self, anchor: Option<Anchor>) -> Result<(), Fault> {
        let ended = || {
            let write = self.database.begin_write()?;
            write.open_table(META)?.insert("clean", 1)?;
            write_anchor(&write, anchor)?;
            write.commit()?;
            Ok(())
        };
        self.told(ended())
    }

    /// On disk when it returns.
    pub(super) fn commit(&self, batch: &Batch, now_ms: u64) -> Result<(), Fault> {
        let (added, removed) = self.told(self.write(batch, now_ms))?;
        self.add_live(added, removed);
        Ok(())
    }

    /// Only the writer changes it.
    pub(super) fn add_live(&self, added: u64, removed: u64) {
        self.live.store(self.live_bytes().saturating_add(added).saturating_sub(removed), Ordering::Relaxed);
    }

    /// Gives how many bytes of records were added and removed.
    fn write(&self, batch: &Batch, now_ms: u64) -> Result<(u64, u64), redb::Error> {
        let write = self.database.begin_write()?;
        let (mut added, mut removed, mut buffer) = (0_u64, 0_u64, Vec::new());
        if !batch.puts.is_empty() || !batch.removes.is_empty() {
            let mut messages = write.open_table(MESSAGES)?;
            for (key, record) in &batch.puts {
                seal(&mut buffer, (u64::from(key.0), key.1), |buffer| record.encode(buffer));
                let before = messages.insert(key, buffer.as_slice())?.map_or(0, |before| before.value().len());
                (added, removed) = (added + buffer.len() as u64, removed + before as u64);
            }
            for key in &batch.removes {
                removed += messages.remove(key)?.map_or(0, |before| before.value().len()) as u64;
            }
        }
        if !batch.delays.is_empty() || !batch.undelays.is_empty() {
            let mut delayed = write.open_table(DELAYED)?;
            for (due, message) in &batch.delays {
                seal(&mut buffer, *due, |buffer| message.encode(buffer));
                delayed.insert(due, buffer.as_slice())?;
                added += buffer.len() as u64;
            }
            for due in &batch.undelays {
                removed += delayed.remove(due)?.map_or(0, |before| before.value().len()) as u64;
            }
        }
        if !batch.marks.is_empty() {
            let mut counts = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
            marks::write(&write, &batch.marks, &mut counts, now_ms)?;
        }
        write_anchor(&write, batch.anchor)?;
        write.commit()?;
        Ok((added, removed))
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

    /// Reads what [`Store::read`] would, for the caches.
    pub(super) fn prefetch(&self, queue: u32, from: u64, most: usize, most_bytes: usize) -> Result<(), redb::Error> {
        let messages = self.database.begin_read()?.open_table(MESSAGES)?;
        let mut bytes = 0;
        for entry in messages.range((queue, from)..=(queue, u64::MAX))?.take(most) {
            bytes += entry?.1.value().len();
            if bytes >= most_bytes {
                break;
            }
        }
        Ok(())
    }

    /// Up to `most` messages of a queue, in order, from a position on; fewer once they take `most_bytes`.
    pub(super) fn read(&self, queue: u32, from: u64, most: usize, most_bytes: usize) -> Result<ReadAhead, Fault> {
        let read = || {
            let messages = self.database.begin_read()?.open_table(MESSAGES)?;
            let mut found = ReadAhead::default();
            let mut bytes = 0;
            for entry in messages.range((queue, from)..=(queue, u64::MAX))? {
                if found.entries.len() >= most || bytes >= most_bytes {
                    return Ok(found);
                }
                let (key, value) = entry?;
                let position = key.value().1;
                bytes += value.value().len();
                match unseal((u64::from(queue), position), value.value()).and_then(Record::decode) {
                    Ok(record) => found.entries.push((position, record)),
                    Err(error) => {
                        found.broken = Some(error);
                        return Ok(found);
                    }
                }
            }
            found.is_end = true;
            Ok(found)
        };
        self.told(read())
    }
}

fn read_anchor(meta: &impl ReadableTable<&'static str, u64>) -> Result<Option<Anchor>, redb::Error> {
    let mut found = [0; CLOCK.len()];
    for (value, name) in found.iter_mut().zip(CLOCK) {
        let Some(known) = meta.get(name)? else { return Ok(None) };
        *value = known.value();
    }
    let [store_ms, wall_ms, boot_ms, boot] = found;
    Ok(Some(Anchor { store_ms, moment: Moment { wall_ms, boot_ms, boot } }))
}

fn write_anchor(write: &WriteTransaction, anchor: Option<Anchor>) -> Result<(), redb::Error> {
    let Some(Anchor { store_ms, moment: Moment { wall_ms, boot_ms, boot } }) = anchor else { return Ok(()) };
    let mut meta = write.open_table(META)?;
    for (name, value) in CLOCK.into_iter().zip([store_ms, wall_ms, boot_ms, boot]) {
        meta.insert(name, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod power_cut;
