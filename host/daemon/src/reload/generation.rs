//! A generation and its plugins.

use std::collections::BTreeMap;
use std::sync::Arc;

use trunkline_config::{self as config, Config};
use trunkline_event::PluginName;
use trunkline_plugin_host::Ready;
use trunkline_telemetry as telemetry;

use super::file_stamp::FileStamp;
use super::inputs::Inputs;

/// One checked set of routes and plugins. A change makes another generation.
#[derive(Clone)]
pub struct Generation {
    /// The number of the generation in this process, from 1. 0 before the first one.
    pub number: u64,
    /// The time when the generation was prepared, RFC 3339.
    pub since: String,
    /// The configuration.
    pub config: Arc<Config>,
    /// Every plugin of the configuration.
    pub plugins: BTreeMap<PluginName, InstalledPlugin>,
}

/// A plugin of a generation.
#[derive(Clone)]
pub struct InstalledPlugin {
    pub(super) settings: config::Plugin,
    /// The stamps of the component and its signature.
    pub(super) stamps: Vec<Option<FileStamp>>,
    /// The plugin, or the error why it cannot run.
    pub state: Result<Ready, String>,
    /// The file is gone; the plugin runs on from memory.
    pub orphaned: bool,
}

impl Generation {
    /// The state before the first generation: the configuration without a plugin.
    #[must_use]
    pub fn before_first(config: Arc<Config>) -> Self {
        Self { number: 0, since: now(), config, plugins: BTreeMap::new() }
    }

    /// The files of the generation.
    #[must_use]
    pub fn inputs(&self) -> Inputs {
        Inputs::of(&self.config)
    }

    /// The digest of a plugin, if the plugin can run.
    #[must_use]
    pub fn digest(&self, plugin: &PluginName) -> Option<&str> {
        Some(&self.plugins.get(plugin)?.state.as_ref().ok()?.digest)
    }

    /// The plugins whose digest or settings differ from those in `before`.
    #[must_use]
    pub fn changed_plugins(&self, before: &Self) -> Vec<PluginName> {
        let is_same = |name: &PluginName, now: &InstalledPlugin| match (before.plugins.get(name), &now.state) {
            (Some(InstalledPlugin { settings, state: Ok(old), .. }), Ok(new)) => {
                old.digest == new.digest && *settings == now.settings
            }
            (Some(InstalledPlugin { state: Err(old), .. }), Err(new)) => old == new,
            (Some(_) | None, Ok(_) | Err(_)) => false,
        };
        self.plugins.iter().filter(|(name, now)| !is_same(name, now)).map(|(name, _)| name.clone()).collect()
    }
}

impl InstalledPlugin {
    /// A copy, if the files are unchanged, or if the component is gone while the plugin is in memory.
    pub(super) fn kept(&self, name: &PluginName, stamps: &[Option<FileStamp>]) -> Option<Self> {
        let is_gone = stamps.first().is_none_or(Option::is_none);
        if stamps == self.stamps {
            return Some(Self { orphaned: self.orphaned && is_gone, ..self.clone() });
        }
        if is_gone && self.state.is_ok() {
            if !self.orphaned {
                telemetry::plugin_orphaned(name, &self.settings.file);
            }
            return Some(Self { orphaned: true, ..self.clone() });
        }
        None
    }
}

/// The present time, RFC 3339.
pub(super) fn now() -> String {
    jiff::Timestamp::now().to_string()
}
