//! What can still be read of a damaged store, into a new one.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use redb::{Database, Key, ReadOnlyTable, ReadableDatabase, TableDefinition, Value};

use super::guarded;
use crate::embedded::delayed::Delayed;
use crate::embedded::store::{Batch, DELAYED, MESSAGES, META, QUEUES, Record, Store, TAPS, unseal};
use crate::marks;
use trunkline_event::now_ms;

/// Messages that are written together.
const BATCH_MAX: usize = 1000;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Salvage {
    /// Messages that are in the new store.
    pub(super) kept: u64,
    /// What could not be read.
    pub(super) left_out: Vec<String>,
}

impl Store {
    /// Takes over what is whole. This store has to be empty.
    ///
    /// # Errors
    /// This store fails.
    pub(super) fn salvage(&self, damaged: &Database) -> Result<Salvage, String> {
        let mut salvage = Salvage::default();
        let queues: BTreeMap<String, u32> = salvage.entries(damaged, QUEUES, |name, id| (name.to_owned(), id));
        let taps: Vec<(String, Vec<u8>)> = salvage.entries(damaged, TAPS, |name, tap| (name.to_owned(), tap.to_vec()));
        let meta: Vec<(String, u64)> = salvage.entries(damaged, META, |key, value| (key.to_owned(), value));
        self.take_over(&queues, &taps, &meta).map_err(|error| error.to_string())?;
        for (name, id) in &queues {
            let range = (*id, 0)..=(*id, u64::MAX);
            let found = salvage.range(damaged, MESSAGES, range, &format!("queue {name}"), |key, bytes| {
                let record = unseal((u64::from(key.0), key.1), bytes)?;
                Ok((key, Record::decode(record)?))
            });
            self.keep(found, &mut salvage, |batch, put| batch.puts.push(put))?;
        }
        let found = salvage.range(damaged, DELAYED, (0, 0)..=(u64::MAX, u64::MAX), "delayed messages", |key, bytes| {
            Ok((key, Delayed::decode(unseal(key, bytes)?)?))
        });
        self.keep(found, &mut salvage, |batch, delayed| batch.delays.push(delayed))?;
        salvage.copy_marks(self, damaged)?;
        Ok(salvage)
    }

    fn take_over(
        &self,
        queues: &BTreeMap<String, u32>,
        taps: &[(String, Vec<u8>)],
        meta: &[(String, u64)],
    ) -> Result<(), redb::Error> {
        let write = self.database().begin_write()?;
        {
            let (mut to_queues, mut to_taps) = (write.open_table(QUEUES)?, write.open_table(TAPS)?);
            let mut to_meta = write.open_table(META)?;
            for (name, id) in queues {
                to_queues.insert(name.as_str(), id)?;
            }
            for (name, tap) in taps {
                to_taps.insert(name.as_str(), tap.as_slice())?;
            }
            for (key, value) in meta {
                to_meta.insert(key.as_str(), value)?;
            }
            // Whatever it says: what was in work came back.
            to_meta.insert("clean", 0)?;
        }
        write.commit()?;
        Ok(())
    }

    fn keep<T>(&self, found: Vec<T>, salvage: &mut Salvage, add: impl Fn(&mut Batch, T)) -> Result<(), String> {
        salvage.kept += found.len() as u64;
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let mut batch = Batch::default();
            found.by_ref().take(BATCH_MAX).for_each(|one| add(&mut batch, one));
            self.commit(&batch, now_ms()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Salvage {
    /// A whole table of small things.
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
            self.left_out.push(format!("the list of {name}: {error}"));
            Vec::new()
        })
        .into_iter()
        .collect()
    }

    /// A range from both ends, up to where it cannot be read.
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
        let (mut found, mut broken, mut last) = (Vec::new(), Vec::new(), None);
        let mut one = |key: K, bytes: &[u8]| match take(key, bytes) {
            Ok(taken) => found.push(taken),
            Err(problem) => broken.push(format!("{name}: {problem}")),
        };
        let forwards = read(database, table, |table| {
            for entry in redb::ReadableTable::range(&table, range.clone())? {
                let (key, value) = entry?;
                if last.is_some_and(|last| key.value() <= last) || !range.contains(&key.value()) {
                    return Err(redb::Error::Corrupted(format!("after {last:?} comes {:?}", key.value())));
                }
                last = Some(key.value());
                one(key.value(), value.value());
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
                    one(key.value(), value.value());
                }
                Ok(())
            });
            let other = backwards.err().map(|error| format!(", and backwards {error}")).unwrap_or_default();
            broken.push(format!("{name}: everything between {last:?} and {first:?}: {error}{other}"));
        }
        self.left_out.append(&mut broken);
        found
    }

    fn copy_marks(&mut self, store: &Store, database: &Database) -> Result<(), String> {
        match guarded(|| marks::all(&database.begin_read()?)) {
            Ok(all) => marks::restore(store.database(), &all).map_err(|error| error.to_string()),
            Err(error) => {
                self.left_out.push(format!("dedupe windows: {error}"));
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
