//! Loading of plugins.

use std::path::Path;
use std::time::Duration;

use metrics::{counter, histogram};
use tracing::{error, info, warn};
use trunkline_event::PluginName;

use crate::series_owner::SeriesOwner;

/// Where the machine code of a plugin came from, the `cache` label of `trunkline_plugin_loads_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompiledCode {
    /// The state directory had the compiled code.
    Cached,
    /// The component was compiled.
    Fresh,
}

impl CompiledCode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Cached => "hit",
            Self::Fresh => "miss",
        }
    }
}

/// A plugin is ready to run.
pub fn plugin_loaded(plugin: &PluginName, digest: &str, code: CompiledCode, took: Duration) {
    SeriesOwner::Plugin.enters(plugin.as_str());
    let cache = code.as_str();
    counter!("trunkline_plugin_loads_total", "plugin" => plugin.to_string(), "result" => "ok", "cache" => cache)
        .increment(1);
    histogram!("trunkline_plugin_load_duration_seconds", "plugin" => plugin.to_string()).record(took.as_secs_f64());
    info!(%plugin, digest, cache, took_ms = took.as_millis(), "the daemon loaded a plugin");
}

/// A plugin cannot run; its routes stay down.
pub fn plugin_refused(plugin: &PluginName, error: &str) {
    SeriesOwner::Plugin.enters(plugin.as_str());
    counter!("trunkline_plugin_loads_total", "plugin" => plugin.to_string(), "result" => "refused", "cache" => "miss")
        .increment(1);
    error!(%plugin, error, "the daemon refused a plugin; the routes of the plugin stay down, or the reload is refused");
}

/// The file of a plugin is gone; the loaded plugin runs on.
pub fn plugin_orphaned(plugin: &PluginName, file: &Path) {
    warn!(%plugin, file = %file.display(),
        "the file of the plugin is missing; the plugin continues to run from memory until the daemon ends");
}
