//! The redb database: a committed [`WriteBatch`] is there after any crash.
//!
//! A message that goes to several queues is stored once for each of them. The key is (queue, position). Positions only
//! grow, so the order of the keys is the order of the queue, and a message that is given back keeps its place.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, WriteTransaction};

use super::batch::WriteBatch;
use super::clock::{ClockAnchor, ClockReading};
use super::fault::{Fault, LastFault, is_no_room};
use super::record::{DelayedKey, MessageRecord};
use super::seal::{seal, unseal};
use super::store_file::{StoreFile, allocated};
use super::tables::{CACHE_BYTES, CLOCK, DELAYED, FORMAT, MESSAGES, META, QUEUES, STREAMS, TABLES};
use crate::dedupe::{self, RecordCounts};
use crate::{DedupeLookup, DedupeRecord};

/// An open store.
pub(crate) struct MessageStore {
    database: Database,
    dedupe_records: Mutex<RecordCounts>,
    last_fault: LastFault,
    /// The store's file, for its size; `None` for a store that is not in a file.
    file: Option<File>,
    /// Bytes of all records of messages and delayed messages.
    record_bytes: AtomicU64,
    /// Delayed messages whose records are damaged. They stay in the table.
    unreadable: Mutex<BTreeSet<DelayedKey>>,
}

/// How the last run of a daemon on this store ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastRun {
    /// The store was closed, or is new.
    Clean,
    /// The daemon ended without closing the store.
    Crashed,
}

/// Messages of a queue that were read from the disk.
#[derive(Debug, Default)]
pub(crate) struct QueuePage {
    pub(crate) entries: Vec<(u64, MessageRecord)>,
    /// Whether the queue has no more messages on disk.
    pub(crate) is_end: bool,
    /// Why the next message cannot be read.
    pub(crate) read_error: Option<String>,
}

impl MessageStore {
    /// Makes a store under another name and renames it when it is complete. A file with the store's name is therefore
    /// complete or damaged.
    pub(crate) fn make(file: &Path) -> Result<(), Fault> {
        let beside = file.with_extension("redb.begun");
        let failed = |error: std::io::Error| {
            let why = format!("the store {} cannot be made: {error}", file.display());
            if is_no_room(&error) { Fault::NoRoom(why) } else { Fault::Doubt(why) }
        };
        if beside.exists() {
            std::fs::remove_file(&beside).map_err(failed)?;
        }
        drop(Self::open(&beside)?);
        std::fs::rename(&beside, file).map_err(failed)?;
        // The name has to survive a power cut too.
        let dir = file.parent().unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    /// Opens or makes the file without checking its integrity; see [`damage::open`](crate::embedded::damage::open).
    pub(crate) fn open(file: &Path) -> Result<Self, Fault> {
        let failed = |error: &dyn std::fmt::Display| {
            Fault::Doubt(format!("the store {} cannot be opened: {error}", file.display()))
        };
        let disk = StoreFile::open(file).map_err(|error| failed(&error))?;
        let (last_fault, handle) = (disk.last_fault(), disk.handle().map_err(|error| failed(&error))?);
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder.create_with_backend(disk);
        let database = database.map_err(|error| last_fault.last().unwrap_or_else(|| failed(&error)))?;
        Ok(Self { file: Some(handle), ..Self::on(database, last_fault)? })
    }

    /// Makes the tables of a database that are missing.
    pub(crate) fn on(database: Database, last_fault: LastFault) -> Result<Self, Fault> {
        let store = Self {
            database,
            dedupe_records: Mutex::default(),
            last_fault,
            file: None,
            record_bytes: AtomicU64::new(0),
            unreadable: Mutex::default(),
        };
        match store.check_format().map_err(|error| store.fault(&error))? {
            None => Ok(store),
            Some(other) => Err(Fault::Damaged(format!(
                "the format of the store is {other}, but this version of Trunkline reads format {FORMAT}; start the version that wrote the store"
            ))),
        }
    }

    /// Makes the tables that are missing, and returns the format if this version does not read it. A complete store is not
    /// written, so that it can be opened on a full disk.
    fn check_format(&self) -> Result<Option<u64>, redb::Error> {
        let write = self.database.begin_write()?;
        let is_complete = write.list_tables()?.count() >= TABLES;
        let known = {
            let mut meta = write.open_table(META)?;
            write.open_table(QUEUES)?;
            write.open_table(MESSAGES)?;
            write.open_table(DELAYED)?;
            write.open_table(STREAMS)?;
            *self.dedupe_records.lock() = dedupe::open(&write)?;
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

    /// The fault behind an error of redb.
    pub(crate) fn fault(&self, error: &redb::Error) -> Fault {
        self.last_fault.last().unwrap_or_else(|| Fault::Doubt(format!("the store failed: {error}")))
    }

    pub(crate) fn with_fault<T>(&self, result: Result<T, redb::Error>) -> Result<T, Fault> {
        result.map_err(|error| self.fault(&error))
    }

    /// The database, for `damage`.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Bytes of all records of messages and delayed messages.
    pub(crate) fn record_bytes(&self) -> u64 {
        self.record_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn unreadable(&self) -> MutexGuard<'_, BTreeSet<DelayedKey>> {
        self.unreadable.lock()
    }

    /// Length of the file, and the bytes that it takes on the disk.
    pub(crate) fn size(&self) -> Option<(u64, u64)> {
        let file = self.file.as_ref()?;
        Some((file.metadata().ok()?.len(), allocated(file).ok()?))
    }

    /// Moves pages to the front and cuts the file. Nothing else is read or written meanwhile.
    pub(crate) fn compact(&mut self) -> Result<(), Fault> {
        let compacted = self.database.compact().map(drop).map_err(redb::Error::from);
        self.with_fault(compacted)
    }

    /// Begins a run: returns the end of the last run, and the anchor of its clock. From now on this run counts as crashed.
    pub(crate) fn begin(&self) -> Result<(LastRun, Option<ClockAnchor>), Fault> {
        let begun = || {
            let write = self.database.begin_write()?;
            let (clean, anchor) = {
                let mut meta = write.open_table(META)?;
                let clean = meta.insert("clean", 0)?.map(|value| value.value());
                (clean, read_anchor(&meta)?)
            };
            write.commit()?;
            Ok((if clean == Some(0) { LastRun::Crashed } else { LastRun::Clean }, anchor))
        };
        self.with_fault(begun())
    }

    /// Ends the run cleanly.
    pub(crate) fn end(&self, anchor: Option<ClockAnchor>) -> Result<(), Fault> {
        let ended = || {
            let write = self.database.begin_write()?;
            write.open_table(META)?.insert("clean", 1)?;
            write_anchor(&write, anchor)?;
            write.commit()?;
            Ok(())
        };
        self.with_fault(ended())
    }

    /// Writes a batch; it is on disk when this returns.
    pub(crate) fn commit(&self, batch: &WriteBatch, now_ms: u64) -> Result<(), Fault> {
        let (added, removed) = self.with_fault(self.write(batch, now_ms))?;
        self.add_record_bytes(added, removed);
        Ok(())
    }

    /// Counts the bytes of records that were added and removed. Only the writer calls this.
    pub(crate) fn add_record_bytes(&self, added: u64, removed: u64) {
        self.record_bytes.store(self.record_bytes().saturating_add(added).saturating_sub(removed), Ordering::Relaxed);
    }

    /// Writes a batch, and returns the bytes of records that were added and removed.
    fn write(&self, batch: &WriteBatch, now_ms: u64) -> Result<(u64, u64), redb::Error> {
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
        if !batch.delay_puts.is_empty() || !batch.delay_removes.is_empty() {
            let mut delayed = write.open_table(DELAYED)?;
            for (due, message) in &batch.delay_puts {
                seal(&mut buffer, *due, |buffer| message.encode(buffer));
                delayed.insert(due, buffer.as_slice())?;
                added += buffer.len() as u64;
            }
            for due in &batch.delay_removes {
                removed += delayed.remove(due)?.map_or(0, |before| before.value().len()) as u64;
            }
        }
        if !batch.dedupe_records.is_empty() {
            let mut counts = self.dedupe_records.lock();
            dedupe::write(&write, &batch.dedupe_records, &mut counts, now_ms)?;
        }
        write_anchor(&write, batch.anchor)?;
        write.commit()?;
        Ok((added, removed))
    }

    /// Looks up the dedupe record of an event.
    pub(crate) fn look_up(&self, dedupe_record: &DedupeRecord, now_ms: u64) -> Result<DedupeLookup, String> {
        let read = self.database.begin_read().map_err(|error| error.to_string())?;
        dedupe::look_up(&read, dedupe_record, now_ms).map_err(|error| error.to_string())
    }

    /// The table of delayed messages as it is now.
    pub(crate) fn delayed(&self) -> Result<ReadOnlyTable<(u64, u64), &'static [u8]>, redb::Error> {
        Ok(self.database.begin_read()?.open_table(DELAYED)?)
    }

    /// Reads the pages that [`MessageStore::read`] would read, so that they are in the caches.
    pub(crate) fn load_into_cache(
        &self,
        queue: u32,
        from: u64,
        most: usize,
        most_bytes: usize,
    ) -> Result<(), redb::Error> {
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

    /// Reads up to `most` messages of a queue in order from a position on, and fewer once they take `most_bytes`.
    pub(crate) fn read(&self, queue: u32, from: u64, most: usize, most_bytes: usize) -> Result<QueuePage, Fault> {
        let read = || {
            let messages = self.database.begin_read()?.open_table(MESSAGES)?;
            let mut found = QueuePage::default();
            let mut bytes = 0;
            for entry in messages.range((queue, from)..=(queue, u64::MAX))? {
                if found.entries.len() >= most || bytes >= most_bytes {
                    return Ok(found);
                }
                let (key, value) = entry?;
                let position = key.value().1;
                bytes += value.value().len();
                match unseal((u64::from(queue), position), value.value()).and_then(MessageRecord::decode) {
                    Ok(record) => found.entries.push((position, record)),
                    Err(error) => {
                        found.read_error = Some(error);
                        return Ok(found);
                    }
                }
            }
            found.is_end = true;
            Ok(found)
        };
        self.with_fault(read())
    }
}

fn read_anchor(meta: &impl ReadableTable<&'static str, u64>) -> Result<Option<ClockAnchor>, redb::Error> {
    let mut found = [0; CLOCK.len()];
    for (value, name) in found.iter_mut().zip(CLOCK) {
        let Some(known) = meta.get(name)? else { return Ok(None) };
        *value = known.value();
    }
    let [store_ms, wall_ms, boot_ms, boot] = found;
    Ok(Some(ClockAnchor { store_ms, reading: ClockReading { wall_ms, boot_ms, boot } }))
}

fn write_anchor(write: &WriteTransaction, anchor: Option<ClockAnchor>) -> Result<(), redb::Error> {
    let Some(ClockAnchor { store_ms, reading: ClockReading { wall_ms, boot_ms, boot } }) = anchor else {
        return Ok(());
    };
    let mut meta = write.open_table(META)?;
    for (name, value) in CLOCK.into_iter().zip([store_ms, wall_ms, boot_ms, boot]) {
        meta.insert(name, value)?;
    }
    Ok(())
}
