//! `plugins.lock` and the plugins of the configuration.

use std::collections::BTreeMap;

use crate::model::plugins::lock::LockPolicy;
use crate::model::plugins::plugin::Plugin;
use trunkline_event::PluginName;

/// Adds the entries of the lock to the plugins.
pub(crate) fn apply(locked: &LockPolicy, plugins: &mut BTreeMap<PluginName, Plugin>) {
    for (name, plugin) in plugins {
        plugin.locked = match locked {
            LockPolicy::Unlocked => None,
            LockPolicy::Unusable(problem) => Some(Err(problem.clone())),
            LockPolicy::Only(lock) => Some(match lock.find(name) {
                None => {
                    Err(format!("the plugin {name} is not in plugins.lock; to allow the plugin, run `trunkline lock`"))
                }
                Some(entry) if entry.allow != plugin.allow.written() => Err(format!(
                    "the grants of the plugin {name} differ from the grants in plugins.lock; to accept the new grants, run `trunkline lock`"
                )),
                Some(entry) => Ok(entry.clone()),
            }),
        };
    }
}
