//! `trunkline lock`: the lock of a configuration's plugins, and its differences from the present lock.

use std::path::Path;

use anyhow::Context;

use trunkline_config::{Config, LockPolicy, LockedPlugin, Plugin, PluginLock};
use trunkline_event::PluginName;
use trunkline_plugin_host::{Compiled, Engine, FileRequirements};

use super::engine::engine_to_check;

/// The new lock, and a line for each difference from the lock beside routes.toml.
///
/// # Errors
/// When a plugin cannot run.
pub async fn lock_plugins(config: &Config) -> anyhow::Result<(PluginLock, Vec<String>)> {
    let (engine, _compiled) = engine_to_check(config)?;
    let directory = std::path::absolute(&config.file)?.parent().map(Path::to_owned).unwrap_or_default();
    let mut entries = Vec::new();
    for (name, plugin) in &config.plugins {
        entries.push(entry(&engine, &directory, name, plugin).await?);
    }
    let lock = PluginLock::new(entries);
    let old = match LockPolicy::beside(&config.file) {
        LockPolicy::Only(old) => Some(old),
        LockPolicy::Unlocked | LockPolicy::Unusable(_) => None,
    };
    let changes = changes(old.as_ref(), &lock);
    Ok((lock, changes))
}

async fn entry(engine: &Engine, directory: &Path, name: &PluginName, plugin: &Plugin) -> anyhow::Result<LockedPlugin> {
    // A new lock ignores the old lock, but checks the digest and the signature of routes.toml.
    let requirements = FileRequirements::new(name, &Plugin { locked: None, ..plugin.clone() });
    let compiled =
        Compiled::read(engine, &plugin.file, requirements).await.with_context(|| format!("plugin {name}"))?;
    let (size, imports) = (compiled.size_bytes(), compiled.imports(engine));
    let sha256 = compiled.digest().to_owned();
    compiled.link(engine, &plugin.allow).with_context(|| format!("plugin {name}"))?;
    let file = plugin.file.strip_prefix(directory).unwrap_or(&plugin.file).display().to_string();
    Ok(LockedPlugin { name: name.clone(), file, sha256, size, imports, allow: plugin.allow.written() })
}

fn changes(old: Option<&PluginLock>, new: &PluginLock) -> Vec<String> {
    let mut changes = Vec::new();
    for entry in &new.plugins {
        let name = &entry.name;
        let Some(known) = old.and_then(|old| old.find(name)) else {
            changes.push(format!("{name}: new, sha256 {}", entry.sha256));
            continue;
        };
        if known.sha256 != entry.sha256 {
            changes.push(format!("{name}: the sha256 {} becomes {}", known.sha256, entry.sha256));
        }
        if known.allow != entry.allow {
            changes.push(format!("{name}: the grants {:?} become {:?}", known.allow, entry.allow));
        }
        for import in entry.imports.iter().filter(|import| !known.imports.contains(import)) {
            changes.push(format!("{name}: the plugin now imports {import}"));
        }
        for import in known.imports.iter().filter(|import| !entry.imports.contains(import)) {
            changes.push(format!("{name}: the plugin no longer imports {import}"));
        }
        if known.file != entry.file {
            changes.push(format!("{name}: the file {} becomes {}", known.file, entry.file));
        }
    }
    let gone = old.into_iter().flat_map(|old| &old.plugins).filter(|known| new.find(&known.name).is_none());
    changes.extend(gone.map(|known| format!("{}: no route uses the plugin any more", known.name)));
    changes
}
