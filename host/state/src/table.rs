//! The tables, and reading and writing them.

use std::ops::Bound;
use std::path::Path;

use redb::{
    Database, ReadOnlyDatabase, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};

use super::change::{ChangeResult, KeyPage, StateChange};
use super::error::{Error, unavailable};
use super::shared::KeySpaceName;
use super::totals::{PluginTotal, PluginTotals, Usage};
use trunkline_config::Quota;
use trunkline_config::state_dir;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Values by plugin, tenant and key.
const VALUES: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("values");
/// Bytes of keys and values, and number of keys, by plugin and tenant.
const USAGE: TableDefinition<'_, (&str, &str), (u64, u64)> = TableDefinition::new("usage");
const FORMAT: u64 = 1;
/// Size of redb's page cache.
const CACHE_BYTES: usize = 16 << 20;
/// Most keys of a page, and most bytes of its keys.
const PAGE_MAX_KEYS: usize = 1000;
const PAGE_MAX_BYTES: usize = 64 * 1024;

type ValuesTable<'t> = Table<'t, (&'static str, &'static str, &'static str), &'static [u8]>;

/// Opens or makes the file.
pub(super) fn open(file: &Path) -> Result<Database, Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let opened = state_dir::file(file).map_err(|error| unavailable(file, &error))?;
    let database = builder.create_file(opened).map_err(|error| unavailable(file, &error))?;
    let format = format(&database).map_err(|error| unavailable(file, &error))?;
    match format {
        FORMAT => Ok(database),
        other => Err(unavailable(
            file,
            &format!(
                "the format of the file is {other}, but this version of Trunkline reads format {FORMAT}; start the version that wrote the file"
            ),
        )),
    }
}

/// Whether a closed store has any key. A store that cannot be read counts as having keys.
pub(super) fn is_used(file: &Path) -> bool {
    let has_rows = || -> Result<bool, redb::Error> {
        let read = ReadOnlyDatabase::open(file)?.begin_read()?;
        Ok(!read.open_table(USAGE)?.is_empty()?)
    };
    has_rows().unwrap_or(true)
}

/// Counts the totals of every plugin.
pub(super) fn count(database: &Database) -> Result<PluginTotals, redb::Error> {
    let read = database.begin_read()?;
    let mut totals = PluginTotals::default();
    for entry in read.open_table(USAGE)?.iter()? {
        let (key, value) = entry?;
        let (plugin, tenant) = key.value();
        let total = totals.of(plugin).with(tenant, Usage::default(), Usage::from(value.value()));
        totals.set(plugin, total);
    }
    Ok(totals)
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

pub(super) fn get(database: &Database, name: &KeySpaceName, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let values = database.begin_read().map_err(failed)?.open_table(VALUES).map_err(failed)?;
    let found = values.get((name.plugin.as_str(), name.tenant.as_str(), key)).map_err(failed)?;
    Ok(found.map(|value| value.value().to_vec()))
}

pub(super) fn exists(database: &Database, name: &KeySpaceName, key: &str) -> Result<bool, Error> {
    let values = database.begin_read().map_err(failed)?.open_table(VALUES).map_err(failed)?;
    Ok(values.get((name.plugin.as_str(), name.tenant.as_str(), key)).map_err(failed)?.is_some())
}

pub(super) fn keys(database: &Database, name: &KeySpaceName, cursor: Option<&str>) -> Result<KeyPage, Error> {
    let values = database.begin_read().map_err(failed)?.open_table(VALUES).map_err(failed)?;
    let (plugin, tenant) = (name.plugin.as_str(), name.tenant.as_str());
    let start = match cursor {
        Some(cursor) => Bound::Excluded((plugin, tenant, cursor)),
        None => Bound::Included((plugin, tenant, "")),
    };
    let (mut page, mut bytes) = (KeyPage::default(), 0);
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

/// Makes a change whole or not at all.
pub(super) fn apply(
    write: &WriteTransaction,
    totals: &mut PluginTotals,
    name: &KeySpaceName,
    quota: Quota,
    change: &StateChange,
) -> Result<ChangeResult, Error> {
    let mut values = write.open_table(VALUES).map_err(failed)?;
    let mut put = |values: &mut ValuesTable<'_>, pairs: &[(&str, Option<&[u8]>)]| {
        put(write, values, &mut ChangeTarget { totals: &mut *totals, name, quota }, pairs)
    };
    match change {
        StateChange::Set(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| (key.as_str(), Some(value.as_slice())));
            put(&mut values, &pairs.collect::<Vec<_>>())?;
            Ok(ChangeResult::Done)
        }
        StateChange::Delete(keys) => {
            let pairs = keys.iter().map(|key| (key.as_str(), None)).collect::<Vec<_>>();
            put(&mut values, &pairs)?;
            Ok(ChangeResult::Done)
        }
        StateChange::Increment(key, delta) => {
            let before = match current(&values, name, key)? {
                None => 0,
                Some(bytes) => {
                    number(&bytes).ok_or_else(|| Error::Unfit(format!("the value of {key:?} is not a number")))?
                }
            };
            let after = before.checked_add(*delta);
            let after =
                after.ok_or_else(|| Error::Unfit(format!("the value of {key:?} would not fit into 64 bits")))?;
            put(&mut values, &[(key, Some(after.to_string().as_bytes()))])?;
            Ok(ChangeResult::Number(after))
        }
        StateChange::Swap { key, seen, value } => {
            let now = current(&values, name, key)?;
            if now != *seen {
                return Ok(ChangeResult::Other(now));
            }
            put(&mut values, &[(key, Some(value))])?;
            Ok(ChangeResult::Done)
        }
    }
}

fn number(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn current(values: &ValuesTable<'_>, name: &KeySpaceName, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let found = values.get((name.plugin.as_str(), name.tenant.as_str(), key)).map_err(failed)?;
    Ok(found.map(|value| value.value().to_vec()))
}

/// The key space of a change, the quota, and the totals that the change updates.
struct ChangeTarget<'a> {
    totals: &'a mut PluginTotals,
    name: &'a KeySpaceName,
    quota: Quota,
}

/// Writes or removes values and updates the usage. A change that would exceed the quota leaves no trace.
fn put(
    write: &WriteTransaction,
    values: &mut ValuesTable<'_>,
    target: &mut ChangeTarget<'_>,
    pairs: &[(&str, Option<&[u8]>)],
) -> Result<(), Error> {
    let (plugin, tenant) = (target.name.plugin.as_str(), target.name.tenant.as_str());
    let mut usage = write.open_table(USAGE).map_err(failed)?;
    let before =
        usage.get((plugin, tenant)).map_err(failed)?.map_or_else(Usage::default, |used| Usage::from(used.value()));
    let mut after = before;
    let mut undo = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let at = (plugin, tenant, *key);
        let old = match value {
            Some(value) => values.insert(at, *value).map_err(failed)?,
            None => values.remove(at).map_err(failed)?,
        };
        let old = old.map(|old| old.value().to_vec());
        if let Some(old) = &old {
            after.bytes = after.bytes.saturating_sub((key.len() + old.len()) as u64);
            after.keys = after.keys.saturating_sub(1);
        }
        if let Some(value) = value {
            after.bytes += (key.len() + value.len()) as u64;
            after.keys += 1;
        }
        undo.push((*key, old));
    }
    let total_before = target.totals.of(plugin);
    let total_after = total_before.with(tenant, before, after);
    let change = UsageChange { before, after, total_before, total_after };
    if let Some(over) = change.exceeds(target.quota) {
        for (key, old) in undo.into_iter().rev() {
            let at = (plugin, tenant, key);
            match old {
                Some(old) => drop(values.insert(at, old.as_slice()).map_err(failed)?),
                None => drop(values.remove(at).map_err(failed)?),
            }
        }
        return Err(Error::Quota(over));
    }
    match after.keys {
        0 => drop(usage.remove((plugin, tenant)).map_err(failed)?),
        _ => drop(usage.insert((plugin, tenant), (after.bytes, after.keys)).map_err(failed)?),
    }
    target.totals.set(plugin, total_after);
    Ok(())
}

/// Usage of a tenant and of all tenants of a plugin, before and after a change.
struct UsageChange {
    before: Usage,
    after: Usage,
    total_before: PluginTotal,
    total_after: PluginTotal,
}

impl UsageChange {
    /// The part of the quota that the change exceeds. A change that makes the usage smaller is allowed even above a quota
    /// that was lowered.
    fn exceeds(&self, quota: Quota) -> Option<String> {
        let grew_over = |before: u64, after: u64, most: u64| after > most && after > before;
        if grew_over(self.before.bytes, self.after.bytes, quota.bytes) {
            return Some(format!("{} bytes", quota.bytes));
        }
        if grew_over(self.before.keys, self.after.keys, quota.keys) {
            return Some(format!("{} keys", quota.keys));
        }
        if grew_over(self.total_before.bytes, self.total_after.bytes, quota.total_bytes) {
            return Some(format!("{} bytes of all tenants (`total`)", quota.total_bytes));
        }
        grew_over(self.total_before.tenants, self.total_after.tenants, quota.tenants)
            .then(|| format!("{} tenants (`tenants`)", quota.tenants))
    }
}
