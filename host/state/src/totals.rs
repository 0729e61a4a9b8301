//! What plugins keep over all their tenants: counted when the store is opened, and kept up by the writer.

use std::collections::HashMap;

use redb::{Database, ReadableDatabase, ReadableTable};

use super::table::USAGE;

/// By plugin.
#[derive(Debug, Default)]
pub(super) struct Totals(HashMap<String, Total>);

/// Of one plugin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Total {
    /// Keys, values, and the tenant's name beside each key, as they lie in the store.
    pub(super) bytes: u64,
    /// Tenants that have a key.
    pub(super) tenants: u64,
}

/// Bytes of keys and values, and number of keys, of one tenant.
pub(super) type Usage = (u64, u64);

impl Totals {
    pub(super) fn count(database: &Database) -> Result<Self, redb::Error> {
        let read = database.begin_read()?;
        let mut totals = Self::default();
        for entry in read.open_table(USAGE)?.iter()? {
            let (key, value) = entry?;
            let (plugin, tenant) = key.value();
            let total = totals.of(plugin).with(tenant, (0, 0), value.value());
            totals.set(plugin, total);
        }
        Ok(totals)
    }

    pub(super) fn of(&self, plugin: &str) -> Total {
        self.0.get(plugin).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, plugin: &str, total: Total) {
        match self.0.get_mut(plugin) {
            Some(known) => *known = total,
            None => drop(self.0.insert(plugin.to_owned(), total)),
        }
    }
}

impl Total {
    /// After the usage of a tenant became another.
    pub(super) fn with(self, tenant: &str, before: Usage, after: Usage) -> Self {
        let share = |(bytes, count): Usage| bytes + count * tenant.len() as u64;
        let has = |(_, count): Usage| u64::from(count > 0);
        Self {
            bytes: (self.bytes + share(after)).saturating_sub(share(before)),
            tenants: (self.tenants + has(after)).saturating_sub(has(before)),
        }
    }
}
