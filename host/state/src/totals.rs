//! State of each plugin over all its tenants, counted when the store is opened and updated by the writer.

use std::collections::HashMap;

/// Totals by plugin.
#[derive(Debug, Default)]
pub(super) struct PluginTotals(HashMap<String, PluginTotal>);

/// Total of one plugin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PluginTotal {
    /// Bytes of keys, values and the tenant's name beside each key, as they are stored.
    pub(super) bytes: u64,
    /// Number of tenants that have a key.
    pub(super) tenants: u64,
}

/// State of one tenant of a plugin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes of keys and values.
    pub(super) bytes: u64,
    /// Number of keys.
    pub(super) keys: u64,
}

impl From<(u64, u64)> for Usage {
    /// From a row of the table of usage.
    fn from((bytes, keys): (u64, u64)) -> Self {
        Self { bytes, keys }
    }
}

impl PluginTotals {
    pub(super) fn of(&self, plugin: &str) -> PluginTotal {
        self.0.get(plugin).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, plugin: &str, total: PluginTotal) {
        match self.0.get_mut(plugin) {
            Some(known) => *known = total,
            None => drop(self.0.insert(plugin.to_owned(), total)),
        }
    }
}

impl PluginTotal {
    /// The total after the usage of a tenant changed.
    pub(super) fn with(self, tenant: &str, before: Usage, after: Usage) -> Self {
        let share = |usage: Usage| usage.bytes + usage.keys * tenant.len() as u64;
        let has = |usage: Usage| u64::from(usage.keys > 0);
        Self {
            bytes: (self.bytes + share(after)).saturating_sub(share(before)),
            tenants: (self.tenants + has(after)).saturating_sub(has(before)),
        }
    }
}
