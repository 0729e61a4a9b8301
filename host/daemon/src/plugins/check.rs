//! `trunkline check`: loading every plugin.

use trunkline_config::Config;
use trunkline_event::PluginName;
use trunkline_plugin_host::{self as plugin, Ready};

use super::engine::engine_to_check;

/// Loads every plugin. Returns the name and the error of each plugin that cannot run.
///
/// # Errors
/// When the engine does not start.
pub async fn check_plugins(config: &Config) -> anyhow::Result<Vec<(PluginName, String)>> {
    let (engine, _compiled) = engine_to_check(config)?;
    let loaded = plugin::load(&engine, &config.plugins).await;
    let refused = |(name, result): (PluginName, Result<Ready, plugin::Error>)| Some((name, result.err()?.to_string()));
    Ok(loaded.into_iter().filter_map(refused).collect())
}
