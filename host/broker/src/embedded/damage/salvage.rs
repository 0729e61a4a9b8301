//! Copying the readable records of a damaged store into a new one.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use redb::{Database, Key, ReadOnlyTable, ReadableDatabase, TableDefinition, Value};

use super::check::guarded;
use crate::dedupe;
use crate::embedded::store::{
    DELAYED, DelayedRecord, MESSAGES, META, MessageRecord, MessageStore, QUEUES, STREAMS, WriteBatch, unseal,
};
use trunkline_event::now_ms;

/// Messages that are written in one transaction.
const BATCH_MAX: usize = 1000;

/// Result of copying.
#[derive(Debug, Default)]
pub(crate) struct Salvage {
    /// Number of messages in the new store.
    pub(crate) kept: u64,
    /// Parts that could not be read, a line each.
    pub(crate) left_out: Vec<String>,
}

impl MessageStore {
    /// Copies the readable records of a damaged store into this store, which has to be empty.
    ///
    /// # Errors
    /// A failure of this store.
    pub(crate) fn salvage(&self, damaged: &Database) -> Result<Salvage, String> {
        let mut salvage = Salvage::default();
        let queues: BTreeMap<String, u32> = salvage.entries(damaged, QUEUES, |name, id| (name.to_owned(), id));
        let streams: Vec<(String, Vec<u8>)> =
            salvage.entries(damaged, STREAMS, |name, stream| (name.to_owned(), stream.to_vec()));
        let meta: Vec<(String, u64)> = salvage.entries(damaged, META, |key, value| (key.to_owned(), value));
        self.take_over(&queues, &streams, &meta).map_err(|error| error.to_string())?;
        for (name, id) in &queues {
            let range = (*id, 0)..=(*id, u64::MAX);
            let found = salvage.range(damaged, MESSAGES, range, &format!("queue {name}"), |key, bytes| {
                let record = unseal((u64::from(key.0), key.1), bytes)?;
                Ok((key, MessageRecord::decode(record)?))
            });
            self.keep(found, &mut salvage, |batch, put| batch.puts.push(put))?;
        }
        salvage.check_length(damaged);
        let found = salvage.range(damaged, DELAYED, (0, 0)..=(u64::MAX, u64::MAX), "delayed messages", |key, bytes| {
            Ok((key, DelayedRecord::decode(unseal(key, bytes)?)?))
        });
        self.keep(found, &mut salvage, |batch, delayed| batch.delay_puts.push(delayed))?;
        salvage.copy_dedupe_records(self, damaged)?;
        Ok(salvage)
    }

    fn take_over(
        &self,
        queues: &BTreeMap<String, u32>,
        streams: &[(String, Vec<u8>)],
        meta: &[(String, u64)],
    ) -> Result<(), redb::Error> {
        let write = self.database().begin_write()?;
        {
            let (mut to_queues, mut to_streams) = (write.open_table(QUEUES)?, write.open_table(STREAMS)?);
            let mut to_meta = write.open_table(META)?;
            for (name, id) in queues {
                to_queues.insert(name.as_str(), id)?;
            }
            for (name, stream) in streams {
                to_streams.insert(name.as_str(), stream.as_slice())?;
            }
            for (key, value) in meta {
                to_meta.insert(key.as_str(), value)?;
            }
            // The deliveries of the last run come again in any case.
            to_meta.insert("clean", 0)?;
        }
        write.commit()?;
        Ok(())
    }

    fn keep<T>(&self, found: Vec<T>, salvage: &mut Salvage, add: impl Fn(&mut WriteBatch, T)) -> Result<(), String> {
        salvage.kept += found.len() as u64;
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let mut batch = WriteBatch::default();
            found.by_ref().take(BATCH_MAX).for_each(|record| add(&mut batch, record));
            self.commit(&batch, now_ms()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Salvage {
    /// Compares the found messages with the length of their table. A damaged key can hide a part of a queue without an error.
    fn check_length(&mut self, damaged: &Database) {
        let length = read(damaged, MESSAGES, |table| Ok(redb::ReadableTableMetadata::len(&table)?)).unwrap_or_default();
        if self.left_out.is_empty() && self.kept < length {
            let hidden = length - self.kept;
            self.left_out.push(format!("{hidden} messages cannot be found: the keys of some pages are damaged"));
        }
    }

    /// The entries of a small table.
    fn entries<K: Key + 'static, V: Value + 'static, C: FromIterator<T>, T>(
        &mut self,
        database: &Database,
        table: TableDefinition<'_, K, V>,
        take: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> T,
    ) -> C {
        let name = redb::TableHandle::name(&table).to_owned();
        let read = read(database, table, |table| {
            let mut found = Vec::new();
            for entry in redb::ReadableTable::iter(&table)? {
                let (key, value) = entry?;
                found.push(take(key.value(), value.value()));
            }
            Ok(found)
        });
        read.unwrap_or_else(|error| {
            self.left_out.push(format!("the list of {name} cannot be read: {error}"));
            Vec::new()
        })
        .into_iter()
        .collect()
    }

    /// The entries of a range, read from both ends up to an unreadable part.
    fn range<K, T>(
        &mut self,
        database: &Database,
        table: TableDefinition<'_, K, &'static [u8]>,
        range: RangeInclusive<K>,
        name: &str,
        take: impl Fn(K, &[u8]) -> Result<T, String>,
    ) -> Vec<T>
    where
        K: Key + 'static + for<'k> Value<SelfType<'k> = K> + Copy + Ord + std::fmt::Debug,
    {
        let (mut found, mut unreadable, mut last) = (Vec::new(), Vec::new(), None);
        let mut visit = |key: K, bytes: &[u8]| match take(key, bytes) {
            Ok(taken) => found.push(taken),
            Err(problem) => unreadable.push(format!("{name}: {problem}")),
        };
        let forwards = read(database, table, |table| {
            for entry in redb::ReadableTable::range(&table, range.clone())? {
                let (key, value) = entry?;
                if last.is_some_and(|last| key.value() <= last) || !range.contains(&key.value()) {
                    return Err(redb::Error::Corrupted(format!(
                        "the key {:?} cannot follow the key {last:?}",
                        key.value()
                    )));
                }
                last = Some(key.value());
                visit(key.value(), value.value());
            }
            Ok(())
        });
        if let Err(error) = forwards {
            let mut first = None;
            let backwards = read(database, table, |table| {
                for entry in redb::ReadableTable::range(&table, range.clone())?.rev() {
                    let (key, value) = entry?;
                    let is_new = last.is_none_or(|last| key.value() > last);
                    if !is_new || !range.contains(&key.value()) || first.is_some_and(|first| key.value() >= first) {
                        break;
                    }
                    first = Some(key.value());
                    visit(key.value(), value.value());
                }
                Ok(())
            });
            let other = backwards.err().map(|error| format!(", and from the end: {error}")).unwrap_or_default();
            unreadable
                .push(format!("{name}: the records between {last:?} and {first:?} cannot be read: {error}{other}"));
        }
        self.left_out.append(&mut unreadable);
        found
    }

    fn copy_dedupe_records(&mut self, store: &MessageStore, database: &Database) -> Result<(), String> {
        match guarded(|| dedupe::all(&database.begin_read()?)) {
            Ok(all) => dedupe::restore(store.database(), &all).map_err(|error| error.to_string()),
            Err(error) => {
                self.left_out.push(format!("the dedupe records cannot be read: {error}"));
                Ok(())
            }
        }
    }
}

/// Reads a table of a damaged database.
fn read<K: Key + 'static, V: Value + 'static, T>(
    database: &Database,
    table: TableDefinition<'_, K, V>,
    work: impl FnOnce(ReadOnlyTable<K, V>) -> Result<T, redb::Error>,
) -> Result<T, String> {
    guarded(|| work(database.begin_read()?.open_table(table)?))
}
