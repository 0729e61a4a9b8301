//! The tables, and what is read from and written to them.

use std::ops::Bound;
use std::path::Path;

use redb::{
    Database, ReadOnlyDatabase, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};

use super::totals::{Total, Totals, Usage};
use super::{Answer, Change, Error, Name, Page, unavailable};
use trunkline_config::Quota;
use trunkline_config::state_dir;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// (plugin, tenant, key) to value.
const VALUES: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("values");
/// (plugin, tenant) to bytes of keys and values, and number of keys.
pub(super) const USAGE: TableDefinition<'_, (&str, &str), (u64, u64)> = TableDefinition::new("usage");
const FORMAT: u64 = 1;
/// redb's page cache.
const CACHE_BYTES: usize = 16 << 20;
/// Keys of a page, and their bytes.
const PAGE_MAX_KEYS: usize = 1000;
const PAGE_MAX_BYTES: usize = 64 * 1024;

type Values<'t> = Table<'t, (&'static str, &'static str, &'static str), &'static [u8]>;

/// Opens or makes the file.
pub(super) fn open(file: &Path) -> Result<Database, Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let opened = state_dir::file(file).map_err(|error| unavailable(file, &error))?;
    let database = builder.create_file(opened).map_err(|error| unavailable(file, &error))?;
    let format = format(&database).map_err(|error| unavailable(file, &error))?;
    match format {
        FORMAT => Ok(database),
        other => Err(unavailable(file, &format!("its format is {other}; this version reads {FORMAT}"))),
    }
}

/// Whether a closed store has any key. One that cannot be read may have.
pub(super) fn is_used(file: &Path) -> bool {
    let has_rows = || -> Result<bool, redb::Error> {
        let read = ReadOnlyDatabase::open(file)?.begin_read()?;
        Ok(!read.open_table(USAGE)?.is_empty()?)
    };
    has_rows().unwrap_or(true)
}

fn format(database: &Database) -> Result<u64, redb::Error> {
    let write = database.begin_write()?;
    let format = {
        write.open_table(VALUES)?;
        write.open_table(USAGE)?;
        let mut meta = write.open_table(META)?;
        let known = meta.get("format")?.map(|value| value.value());
        if known.is_none() {
            meta.insert("format", FORMAT)?;
        }
        known.unwrap_or(FORMAT)
    };
    write.commit()?;
    Ok(format)
}

fn failed(error: impl Into<redb::Error>) -> Error {
    Error::Unavailable(error.into().to_string())
}

pub(super) fn get(database: &Database, name: &Name, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let values = database.begin_read().map_err(failed)?.open_table(VALUES).map_err(failed)?;
    let found = values.get((name.plugin.as_str(), name.tenant.as_str(), key)).map_err(failed)?;
    Ok(found.map(|value| value.value().to_vec()))
}

pub(super) fn exists(database: &Database, name: &Name, key: &str) -> Result<bool, Error> {
    let values = database.begin_read().map_err(failed)?.open_table(VALUES).map_err(failed)?;
    Ok(values.get((name.plugin.as_str(), name.tenant.as_str(), key)).map_err(failed)?.is_some())
}

pub(super) fn keys(database: &Database, name: &Name, cursor: Option<&str>) -> Result<Page, Error> {
    let values = database.begin_read().map_err(failed)?.open_table(VALUES).map_err(failed)?;
    let (plugin, tenant) = (name.plugin.as_str(), name.tenant.as_str());
    let start = match cursor {
        Some(cursor) => Bound::Excluded((plugin, tenant, cursor)),
        None => Bound::Included((plugin, tenant, "")),
    };
    let (mut page, mut bytes) = (Page::default(), 0);
    for entry in values.range::<(&str, &str, &str)>((start, Bound::Unbounded)).map_err(failed)? {
        let (key, _) = entry.map_err(failed)?;
        let (of_plugin, of_tenant, key) = key.value();
        if (of_plugin, of_tenant) != (plugin, tenant) {
            break;
        }
        if page.keys.len() == PAGE_MAX_KEYS || bytes > PAGE_MAX_BYTES {
            page.cursor = page.keys.last().cloned();
            break;
        }
        bytes += key.len();
        page.keys.push(key.to_owned());
    }
    Ok(page)
}

/// Makes one change, or none of it.
pub(super) fn apply(
    write: &WriteTransaction,
    totals: &mut Totals,
    name: &Name,
    quota: Quota,
    change: &Change,
) -> Result<Answer, Error> {
    let mut values = write.open_table(VALUES).map_err(failed)?;
    let mut put =
        |values: &mut Values<'_>, pairs: &[(&str, Option<&[u8]>)]| put(write, values, totals, (name, quota), pairs);
    match change {
        Change::Set(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| (key.as_str(), Some(value.as_slice())));
            put(&mut values, &pairs.collect::<Vec<_>>())?;
            Ok(Answer::Done)
        }
        Change::Delete(keys) => {
            let pairs = keys.iter().map(|key| (key.as_str(), None)).collect::<Vec<_>>();
            put(&mut values, &pairs)?;
            Ok(Answer::Done)
        }
        Change::Increment(key, delta) => {
            let before = match current(&values, name, key)? {
                None => 0,
                Some(bytes) => number(&bytes).ok_or_else(|| Error::Unfit(format!("{key:?} holds no number")))?,
            };
            let after = before.checked_add(*delta);
            let after = after.ok_or_else(|| Error::Unfit(format!("{key:?} would not fit 64 bits")))?;
            put(&mut values, &[(key, Some(after.to_string().as_bytes()))])?;
            Ok(Answer::Number(after))
        }
        Change::Swap { key, seen, value } => {
            let now = current(&values, name, key)?;
            if now != *seen {
                return Ok(Answer::Other(now));
            }
            put(&mut values, &[(key, Some(value))])?;
            Ok(Answer::Done)
        }
    }
}

fn number(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn current(values: &Values<'_>, name: &Name, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let found = values.get((name.plugin.as_str(), name.tenant.as_str(), key)).map_err(failed)?;
    Ok(found.map(|value| value.value().to_vec()))
}

/// Writes or removes, counts, and leaves nothing behind when it would be over the quota.
fn put(
    write: &WriteTransaction,
    values: &mut Values<'_>,
    totals: &mut Totals,
    whose: (&Name, Quota),
    pairs: &[(&str, Option<&[u8]>)],
) -> Result<(), Error> {
    let (name, quota) = whose;
    let (plugin, tenant) = (name.plugin.as_str(), name.tenant.as_str());
    let mut usage = write.open_table(USAGE).map_err(failed)?;
    let before = usage.get((plugin, tenant)).map_err(failed)?.map_or((0, 0), |used| used.value());
    let (mut bytes, mut count) = before;
    let mut undo = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let at = (plugin, tenant, *key);
        let old = match value {
            Some(value) => values.insert(at, *value).map_err(failed)?,
            None => values.remove(at).map_err(failed)?,
        };
        let old = old.map(|old| old.value().to_vec());
        if let Some(old) = &old {
            bytes = bytes.saturating_sub((key.len() + old.len()) as u64);
            count = count.saturating_sub(1);
        }
        if let Some(value) = value {
            bytes += (key.len() + value.len()) as u64;
            count += 1;
        }
        undo.push((*key, old));
    }
    let (total, after) = (totals.of(plugin), totals.of(plugin).with(tenant, before, (bytes, count)));
    if let Some(over) = over(quota, (before, (bytes, count)), (total, after)) {
        for (key, old) in undo.into_iter().rev() {
            let at = (plugin, tenant, key);
            match old {
                Some(old) => drop(values.insert(at, old.as_slice()).map_err(failed)?),
                None => drop(values.remove(at).map_err(failed)?),
            }
        }
        return Err(Error::Quota(over));
    }
    match count {
        0 => drop(usage.remove((plugin, tenant)).map_err(failed)?),
        _ => drop(usage.insert((plugin, tenant), (bytes, count)).map_err(failed)?),
    }
    totals.set(plugin, after);
    Ok(())
}

/// Which part of the quota is exceeded after a change, of the tenant and of all together. What became smaller is taken even
/// when a lowered quota is still exceeded.
fn over(quota: Quota, own: (Usage, Usage), all: (Total, Total)) -> Option<String> {
    let (before, (bytes, keys)) = own;
    let (total, after) = all;
    let grew_over = |before: u64, after: u64, most: u64| after > most && after > before;
    if grew_over(before.0, bytes, quota.bytes) {
        return Some(format!("{} bytes", quota.bytes));
    }
    if grew_over(before.1, keys, quota.keys) {
        return Some(format!("{} keys", quota.keys));
    }
    if grew_over(total.bytes, after.bytes, quota.total_bytes) {
        return Some(format!("{} bytes over all tenants (`total`)", quota.total_bytes));
    }
    grew_over(total.tenants, after.tenants, quota.tenants).then(|| format!("{} tenants (`tenants`)", quota.tenants))
}
