//! Which events are settled, for a while: the dedupe windows of routes, and that of the events that came in over HTTP.
//!
//! A mark is (route, event id) with the time, a hash of the content, and how the event ended. It is written with the
//! settlement and never before it, because an event that is marked and not settled would be lost. Two tables of a redb
//! database: one by id, one by time, so that the oldest go first.

use std::collections::HashMap;

use redb::{Database, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use sha2::{Digest, Sha256};

use trunkline_config::DedupeWindow;
use trunkline_event::{RouteName, millis};

const BY_ID: TableDefinition<'_, (&str, &str), (u64, u64)> = TableDefinition::new("marks");
const BY_TIME: TableDefinition<'_, (&str, u64, &str), ()> = TableDefinition::new("marks by time");
/// Old marks that one new one takes away at most, so that no transaction gets long.
const FORGET_MAX: usize = 8;
/// Set in the time of a record whose event is done. Records of versions that did not note the end have it clear and count
/// as dead: a dead letter that is put back is handled rather than dropped, and every other repeat is dropped as before.
const DONE: u64 = 1 << 63;

/// An event that is settled, or asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Windows are apart.
    pub route: RouteName,
    /// The event's id.
    pub id: String,
    /// Of its content, to tell two events with one id.
    pub content: u64,
    /// How long and how many.
    pub window: DedupeWindow,
    /// How the event ended. A question does not look at it.
    pub ended: Ended,
}

/// How a settled event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// What follows from it is published.
    Done,
    /// It is a dead letter, and nothing follows from it unless somebody puts it back.
    Dead,
}

impl Mark {
    /// The content that a hash is of: its first eight bytes, in network order.
    #[must_use]
    pub fn content(hash: Sha256) -> u64 {
        hash.finalize().iter().take(8).fold(0, |content, byte| content << 8 | u64::from(*byte))
    }
}

/// What a window says of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Not settled within the window.
    No,
    /// Settled, with the same content.
    Same(Ended),
    /// Settled with another content.
    Other(Ended),
}

/// How many marks each route has; counted when the store is opened, and kept up by the writer.
#[derive(Debug, Default)]
pub(super) struct Counts(HashMap<String, u64>);

/// Makes the tables, and counts.
pub(super) fn open(write: &WriteTransaction) -> Result<Counts, redb::Error> {
    let mut counts = HashMap::new();
    write.open_table(BY_ID)?;
    for entry in write.open_table(BY_TIME)?.iter()? {
        *counts.entry(entry?.0.value().0.to_owned()).or_default() += 1;
    }
    Ok(Counts(counts))
}

/// Looks an event up.
pub(super) fn known(read: &ReadTransaction, mark: &Mark, now_ms: u64) -> Result<Known, redb::Error> {
    let found = read.open_table(BY_ID)?.get((mark.route.as_str(), mark.id.as_str()))?.map(|value| value.value());
    let Some((settled, content)) = found else { return Ok(Known::No) };
    let ended = if settled & DONE == 0 { Ended::Dead } else { Ended::Done };
    Ok(match content == mark.content {
        _ if settled_ms(settled).saturating_add(millis(mark.window.window)) < now_ms => Known::No,
        true => Known::Same(ended),
        false => Known::Other(ended),
    })
}

/// The time of a record.
const fn settled_ms(settled: u64) -> u64 {
    settled & !DONE
}

/// A mark on disk: route, id, when and how it was settled, and the hash of its content.
pub(super) type Kept = (String, String, u64, u64);

/// Every mark.
pub(super) fn all(read: &ReadTransaction) -> Result<Vec<Kept>, redb::Error> {
    let mut found = Vec::new();
    for entry in read.open_table(BY_ID)?.iter()? {
        let (key, value) = entry?;
        let ((route, id), (settled, content)) = (key.value(), value.value());
        found.push((route.to_owned(), id.to_owned(), settled, content));
    }
    Ok(found)
}

/// Writes marks into a database that has none.
pub(super) fn restore(database: &Database, marks: &[Kept]) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let (mut by_id, mut by_time) = (write.open_table(BY_ID)?, write.open_table(BY_TIME)?);
        for (route, id, settled, content) in marks {
            by_id.insert((route.as_str(), id.as_str()), (*settled, *content))?;
            by_time.insert((route.as_str(), settled_ms(*settled), id.as_str()), ())?;
        }
    }
    write.commit()?;
    Ok(())
}

/// Adds marks, and forgets what is too old or too much.
pub(super) fn write(
    write: &WriteTransaction,
    marks: &[Mark],
    counts: &mut Counts,
    now_ms: u64,
) -> Result<(), redb::Error> {
    let (mut by_id, mut by_time) = (write.open_table(BY_ID)?, write.open_table(BY_TIME)?);
    for mark in marks {
        let (route, id) = (mark.route.as_str(), mark.id.as_str());
        let count = counts.0.entry(route.to_owned()).or_default();
        let settled = match mark.ended {
            Ended::Done => now_ms | DONE,
            Ended::Dead => now_ms,
        };
        if let Some(old) = by_id.insert((route, id), (settled, mark.content))?.map(|value| value.value()) {
            by_time.remove((route, settled_ms(old.0), id))?;
        } else {
            *count += 1;
        }
        by_time.insert((route, now_ms, id), ())?;
        for _ in 0..FORGET_MAX {
            let oldest = match by_time.range((route, 0, "")..=(route, u64::MAX, ""))?.next().transpose()? {
                Some((key, _)) => (key.value().1, key.value().2.to_owned()),
                None => break,
            };
            let is_old = oldest.0.saturating_add(millis(mark.window.window)) < now_ms;
            if !is_old && *count <= u64::from(mark.window.max) {
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

    struct Fixture {
        database: Database,
        counts: Counts,
    }

    impl Fixture {
        fn open(file: &std::path::Path) -> Self {
            let database = Database::create(file).expect("a database");
            let begun = database.begin_write().expect("a transaction");
            let counts = open(&begun).expect("tables");
            begun.commit().expect("committed");
            Self { database, counts }
        }

        fn mark(&mut self, mark: &Mark, now_ms: u64) {
            let begun = self.database.begin_write().expect("a transaction");
            write(&begun, std::slice::from_ref(mark), &mut self.counts, now_ms).expect("written");
            begun.commit().expect("committed");
        }

        fn known(&self, mark: &Mark, now_ms: u64) -> Known {
            known(&self.database.begin_read().expect("a transaction"), mark, now_ms).expect("read")
        }
    }

    fn mark(route: &str, id: &str, content: u64, max: u32) -> Mark {
        let window = DedupeWindow { window: Duration::from_secs(10), max };
        Mark { route: RouteName::new(route).expect("valid"), id: id.to_owned(), content, window, ended: Ended::Done }
    }

    #[test]
    fn a_window_ends_by_time_and_by_count_and_survives_reopening() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("marks.redb");
        let mut marks = Fixture::open(&file);
        let one = mark("r", "e-1", 7, 3);
        assert_eq!(marks.known(&one, 0), Known::No);
        marks.mark(&one, 1_000);
        assert_eq!(marks.known(&one, 2_000), Known::Same(Ended::Done));
        assert_eq!(marks.known(&mark("r", "e-1", 8, 3), 2_000), Known::Other(Ended::Done));
        assert_eq!(marks.known(&mark("other", "e-1", 7, 3), 2_000), Known::No, "windows of routes are apart");
        assert_eq!(marks.known(&one, 11_001), Known::No, "ten seconds are over");
        marks.mark(&one, 11_001);
        for n in 2..=4 {
            marks.mark(&mark("r", &format!("e-{n}"), 7, 3), 11_000 + n);
        }
        assert_eq!(marks.known(&one, 11_010), Known::No, "three are kept, and this was the oldest");
        drop(marks);
        let mut marks = Fixture::open(&file);
        assert_eq!(marks.known(&mark("r", "e-2", 7, 3), 11_010), Known::Same(Ended::Done));
        marks.mark(&mark("r", "e-5", 7, 3), 11_011);
        assert_eq!(marks.known(&mark("r", "e-2", 7, 3), 11_012), Known::No, "the count was kept over the reopening");
    }

    #[test]
    fn the_last_end_counts_and_leaves_one_record() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut marks = Fixture::open(&dir.path().join("marks.redb"));
        let done = mark("r", "e-1", 7, 2);
        let dead = Mark { ended: Ended::Dead, ..done.clone() };
        for (now_ms, mark) in [(1_000, &dead), (2_000, &done), (3_000, &dead), (4_000, &done)] {
            marks.mark(mark, now_ms);
            assert_eq!(marks.known(&done, now_ms), Known::Same(mark.ended));
        }
        assert_eq!(marks.known(&done, 14_001), Known::No, "the time is read without how it ended");
        // A record that was left behind under an old time would be forgotten in place of this one.
        marks.mark(&mark("r", "e-2", 7, 2), 5_000);
        assert_eq!(marks.known(&done, 5_000), Known::Same(Ended::Done));
        let read = marks.database.begin_read().expect("a transaction");
        assert_eq!(all(&read).expect("read").len(), 2);
    }

    /// Tables as version 0.1.0 of November 2026 left them: the time alone, and nothing of how it ended.
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
        let mut marks = Fixture::open(&file);
        let one = mark("r", "e-1", 7, 1);
        assert_eq!(marks.known(&one, 2_000), Known::Same(Ended::Dead));
        marks.mark(&one, 2_000);
        assert_eq!(marks.known(&one, 2_000), Known::Same(Ended::Done));
        marks.mark(&mark("r", "e-2", 7, 1), 3_000);
        assert_eq!(marks.known(&one, 3_000), Known::No, "the old record was counted and is forgotten");
    }
}
