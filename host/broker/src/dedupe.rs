//! Dedupe records: the settled events of the dedupe windows of routes and of the HTTP API.
//!
//! A record is (route, event id) with the time, a hash of the content, and how the event was settled. A record is written with
//! the settlement and never before it, because an event with a record and without a settlement would be lost. The records are
//! in two tables of a redb database: one by id, and one by time, so that the oldest records are removed first.

use std::collections::HashMap;

use redb::{Database, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use sha2::{Digest, Sha256};

use trunkline_config::DedupeWindow;
use trunkline_event::{RouteName, millis};

const BY_ID: TableDefinition<'_, (&str, &str), (u64, u64)> = TableDefinition::new("marks");
const BY_TIME: TableDefinition<'_, (&str, u64, &str), ()> = TableDefinition::new("marks by time");
/// Old records that one new record removes at most, so that no transaction gets long.
const REMOVED_MAX: usize = 8;
/// The bit of a record's time that is set when the event is done. Records of versions without this bit count as dead: a dead
/// letter that is redriven is handled rather than dropped, and every other repeat is dropped as before.
const DONE: u64 = 1 << 63;

/// A settled event, or an event that is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedupeRecord {
    /// The route whose window the record belongs to.
    pub route: RouteName,
    /// The event's id.
    pub id: String,
    /// A hash of the event's content, to tell two events with the same id apart.
    pub content: u64,
    /// How long records count, and how many are kept.
    pub window: DedupeWindow,
    /// How the event was settled. A look-up ignores it.
    pub settled_as: SettledAs,
}

/// How an event was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SettledAs {
    /// Everything that follows from the event is published.
    Done,
    /// The event is a dead letter. Nothing follows from it unless it is redriven.
    Dead,
}

impl DedupeRecord {
    /// The first eight bytes of a hash, in network order, as the content of a record.
    #[must_use]
    pub fn content(hash: Sha256) -> u64 {
        hash.finalize().iter().take(8).fold(0, |content, byte| content << 8 | u64::from(*byte))
    }
}

/// The result of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DedupeLookup {
    /// The event was not settled within the window.
    Unknown,
    /// The event was settled, with the same content.
    Same(SettledAs),
    /// An event with the same id and another content was settled.
    Other(SettledAs),
}

/// The number of records of each route. Counted when the store is opened, and kept up to date by the writer.
#[derive(Debug, Default)]
pub(super) struct RecordCounts(HashMap<String, u64>);

/// Makes the tables, and counts the records.
pub(super) fn open(write: &WriteTransaction) -> Result<RecordCounts, redb::Error> {
    let mut counts = HashMap::new();
    write.open_table(BY_ID)?;
    for entry in write.open_table(BY_TIME)?.iter()? {
        *counts.entry(entry?.0.value().0.to_owned()).or_default() += 1;
    }
    Ok(RecordCounts(counts))
}

/// Looks an event up. `now_ms` is in milliseconds since the Unix epoch.
pub(super) fn look_up(read: &ReadTransaction, record: &DedupeRecord, now_ms: u64) -> Result<DedupeLookup, redb::Error> {
    let found = read.open_table(BY_ID)?.get((record.route.as_str(), record.id.as_str()))?.map(|value| value.value());
    let Some((settled, content)) = found else { return Ok(DedupeLookup::Unknown) };
    let ended = if settled & DONE == 0 { SettledAs::Dead } else { SettledAs::Done };
    Ok(match content == record.content {
        _ if settled_ms(settled).saturating_add(millis(record.window.window)) < now_ms => DedupeLookup::Unknown,
        true => DedupeLookup::Same(ended),
        false => DedupeLookup::Other(ended),
    })
}

/// The time of a record in milliseconds since the Unix epoch, without [`DONE`].
const fn settled_ms(settled: u64) -> u64 {
    settled & !DONE
}

/// A record as it stands on disk.
pub(super) struct StoredRecord {
    route: String,
    id: String,
    /// The time, with [`DONE`].
    settled: u64,
    content: u64,
}

/// Every record.
pub(super) fn all(read: &ReadTransaction) -> Result<Vec<StoredRecord>, redb::Error> {
    let mut found = Vec::new();
    for entry in read.open_table(BY_ID)?.iter()? {
        let (key, value) = entry?;
        let ((route, id), (settled, content)) = (key.value(), value.value());
        found.push(StoredRecord { route: route.to_owned(), id: id.to_owned(), settled, content });
    }
    Ok(found)
}

/// Writes records into a database without any.
pub(super) fn restore(database: &Database, records: &[StoredRecord]) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let (mut by_id, mut by_time) = (write.open_table(BY_ID)?, write.open_table(BY_TIME)?);
        for StoredRecord { route, id, settled, content } in records {
            by_id.insert((route.as_str(), id.as_str()), (*settled, *content))?;
            by_time.insert((route.as_str(), settled_ms(*settled), id.as_str()), ())?;
        }
    }
    write.commit()?;
    Ok(())
}

/// Adds records, and removes records that are too old or too many.
pub(super) fn write(
    write: &WriteTransaction,
    records: &[DedupeRecord],
    counts: &mut RecordCounts,
    now_ms: u64,
) -> Result<(), redb::Error> {
    let (mut by_id, mut by_time) = (write.open_table(BY_ID)?, write.open_table(BY_TIME)?);
    for record in records {
        let (route, id) = (record.route.as_str(), record.id.as_str());
        let count = counts.0.entry(route.to_owned()).or_default();
        let settled = match record.settled_as {
            SettledAs::Done => now_ms | DONE,
            SettledAs::Dead => now_ms,
        };
        if let Some(old) = by_id.insert((route, id), (settled, record.content))?.map(|value| value.value()) {
            by_time.remove((route, settled_ms(old.0), id))?;
        } else {
            *count += 1;
        }
        by_time.insert((route, now_ms, id), ())?;
        for _ in 0..REMOVED_MAX {
            let oldest = match by_time.range((route, 0, "")..=(route, u64::MAX, ""))?.next().transpose()? {
                Some((key, _)) => (key.value().1, key.value().2.to_owned()),
                None => break,
            };
            let is_old = oldest.0.saturating_add(millis(record.window.window)) < now_ms;
            if !is_old && *count <= u64::from(record.window.max) {
                break;
            }
            by_time.remove((route, oldest.0, oldest.1.as_str()))?;
            by_id.remove((route, oldest.1.as_str()))?;
            *count = count.saturating_sub(1);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use redb::{Database, ReadableDatabase};

    use super::*;

    struct RecordsFixture {
        database: Database,
        counts: RecordCounts,
    }

    impl RecordsFixture {
        fn open(file: &std::path::Path) -> Self {
            let database = Database::create(file).expect("a database");
            let begun = database.begin_write().expect("a transaction");
            let counts = open(&begun).expect("tables");
            begun.commit().expect("committed");
            Self { database, counts }
        }

        fn add(&mut self, record: &DedupeRecord, now_ms: u64) {
            let begun = self.database.begin_write().expect("a transaction");
            write(&begun, std::slice::from_ref(record), &mut self.counts, now_ms).expect("written");
            begun.commit().expect("committed");
        }

        fn look_up(&self, record: &DedupeRecord, now_ms: u64) -> DedupeLookup {
            look_up(&self.database.begin_read().expect("a transaction"), record, now_ms).expect("read")
        }
    }

    fn record(route: &str, id: &str, content: u64, max: u32) -> DedupeRecord {
        let window = DedupeWindow { window: Duration::from_secs(10), max };
        DedupeRecord {
            route: RouteName::new(route).expect("valid"),
            id: id.to_owned(),
            content,
            window,
            settled_as: SettledAs::Done,
        }
    }

    #[test]
    fn a_window_ends_by_time_and_by_count_and_survives_reopening() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("marks.redb");
        let mut store = RecordsFixture::open(&file);
        let one = record("r", "e-1", 7, 3);
        assert_eq!(store.look_up(&one, 0), DedupeLookup::Unknown);
        store.add(&one, 1_000);
        assert_eq!(store.look_up(&one, 2_000), DedupeLookup::Same(SettledAs::Done));
        assert_eq!(store.look_up(&record("r", "e-1", 8, 3), 2_000), DedupeLookup::Other(SettledAs::Done));
        assert_eq!(
            store.look_up(&record("other", "e-1", 7, 3), 2_000),
            DedupeLookup::Unknown,
            "windows of routes are apart"
        );
        assert_eq!(store.look_up(&one, 11_001), DedupeLookup::Unknown, "ten seconds are over");
        store.add(&one, 11_001);
        for n in 2..=4 {
            store.add(&record("r", &format!("e-{n}"), 7, 3), 11_000 + n);
        }
        assert_eq!(store.look_up(&one, 11_010), DedupeLookup::Unknown, "three are kept, and this was the oldest");
        drop(store);
        let mut store = RecordsFixture::open(&file);
        assert_eq!(store.look_up(&record("r", "e-2", 7, 3), 11_010), DedupeLookup::Same(SettledAs::Done));
        store.add(&record("r", "e-5", 7, 3), 11_011);
        assert_eq!(
            store.look_up(&record("r", "e-2", 7, 3), 11_012),
            DedupeLookup::Unknown,
            "the count was kept over the reopening"
        );
    }

    #[test]
    fn the_last_end_counts_and_leaves_one_record() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut store = RecordsFixture::open(&dir.path().join("marks.redb"));
        let done = record("r", "e-1", 7, 2);
        let dead = DedupeRecord { settled_as: SettledAs::Dead, ..done.clone() };
        for (now_ms, entry) in [(1_000, &dead), (2_000, &done), (3_000, &dead), (4_000, &done)] {
            store.add(entry, now_ms);
            assert_eq!(store.look_up(&done, now_ms), DedupeLookup::Same(entry.settled_as));
        }
        assert_eq!(store.look_up(&done, 14_001), DedupeLookup::Unknown, "the time is read without how it ended");
        // A record that was left behind under an old time would be forgotten in place of this one.
        store.add(&record("r", "e-2", 7, 2), 5_000);
        assert_eq!(store.look_up(&done, 5_000), DedupeLookup::Same(SettledAs::Done));
        let read = store.database.begin_read().expect("a transaction");
        assert_eq!(all(&read).expect("read").len(), 2);
    }

    /// Tables as version 0.1.0 of November 2026 wrote them: the time alone, without how the event was settled.
    #[test]
    fn records_of_before_drop_repeats_and_let_dead_letters_pass() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("marks.redb");
        let old = Database::create(&file).expect("a database");
        let write = old.begin_write().expect("a transaction");
        write.open_table(BY_ID).expect("a table").insert(("r", "e-1"), (1_000, 7)).expect("written");
        write.open_table(BY_TIME).expect("a table").insert(("r", 1_000, "e-1"), ()).expect("written");
        write.commit().expect("committed");
        drop(old);
        let mut store = RecordsFixture::open(&file);
        let one = record("r", "e-1", 7, 1);
        assert_eq!(store.look_up(&one, 2_000), DedupeLookup::Same(SettledAs::Dead));
        store.add(&one, 2_000);
        assert_eq!(store.look_up(&one, 2_000), DedupeLookup::Same(SettledAs::Done));
        store.add(&record("r", "e-2", 7, 1), 3_000);
        assert_eq!(store.look_up(&one, 3_000), DedupeLookup::Unknown, "the old record was counted and is forgotten");
    }
}
