//! `trunkline lock`: what the plugins of a configuration are, and how that differs from the lock that is there.

use std::path::Path;

use anyhow::Context;

use super::engine_to_check;
use trunkline_config::{Config, Entry, Lock, Locked, Plugin};
use trunkline_event::PluginName;
use trunkline_plugin_host::{Compiled, Engine, Expected};

/// The lock as it should be, and a line for each difference to the one beside routes.toml.
///
/// # Errors
/// When a plugin cannot run: then there is nothing to lock.
pub async fn lock_plugins(config: &Config) -> anyhow::Result<(Lock, Vec<String>)> {
    let (engine, _beside) = engine_to_check(config)?;
    let directory = std::path::absolute(&config.file)?.parent().map(Path::to_owned).unwrap_or_default();
    let mut entries = Vec::new();
    for (name, plugin) in &config.plugins {
        entries.push(entry(&engine, &directory, name, plugin).await?);
    }
    let lock = Lock::new(entries);
    let old = match Locked::beside(&config.file) {
        Locked::To(old) => Some(old),
        Locked::No | Locked::Broken(_) => None,
    };
    let changes = changes(old.as_ref(), &lock);
    Ok((lock, changes))
}

async fn entry(engine: &Engine, directory: &Path, name: &PluginName, plugin: &Plugin) -> anyhow::Result<Entry> {
    // The digest and the signature hold for a new lock too; only the old lock does not.
    let expected = Expected::new(name, &Plugin { locked: None, ..plugin.clone() });
    let compiled = Compiled::read(engine, &plugin.file, expected).await.with_context(|| format!("plugin {name}"))?;
    let (sha256, size, imports) = compiled.facts(engine);
    let sha256 = sha256.to_owned();
    compiled.link(engine, &plugin.allow).with_context(|| format!("plugin {name}"))?;
    let file = plugin.file.strip_prefix(directory).unwrap_or(&plugin.file).display().to_string();
    Ok(Entry { name: name.clone(), file, sha256, size, imports, allow: plugin.allow.written() })
}

fn changes(old: Option<&Lock>, new: &Lock) -> Vec<String> {
    let mut changes = Vec::new();
    for entry in &new.plugins {
        let name = &entry.name;
        let Some(known) = old.and_then(|old| old.find(name)) else {
            changes.push(format!("{name}: new, sha256 {}", entry.sha256));
            continue;
        };
        if known.sha256 != entry.sha256 {
            changes.push(format!("{name}: sha256 {} becomes {}", known.sha256, entry.sha256));
        }
        if known.allow != entry.allow {
            changes.push(format!("{name}: grants {:?} become {:?}", known.allow, entry.allow));
        }
        for import in entry.imports.iter().filter(|import| !known.imports.contains(import)) {
            changes.push(format!("{name}: imports {import} now"));
        }
        for import in known.imports.iter().filter(|import| !entry.imports.contains(import)) {
            changes.push(format!("{name}: does not import {import} any more"));
        }
        if known.file != entry.file {
            changes.push(format!("{name}: file {} becomes {}", known.file, entry.file));
        }
    }
    let gone = old.into_iter().flat_map(|old| &old.plugins).filter(|known| new.find(&known.name).is_none());
    changes.extend(gone.map(|known| format!("{}: not used any more", known.name)));
    changes
}
