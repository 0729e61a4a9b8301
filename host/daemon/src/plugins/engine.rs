//! The engine of a configuration.

use anyhow::Context;
use tempfile::TempDir;

use trunkline_config::Config;
use trunkline_config::state_dir;
use trunkline_plugin_host::{Compiler, Engine};

/// Starts the engine with the compiled code of the state directory.
pub(crate) fn start_engine(config: &Config) -> anyhow::Result<Engine> {
    state_dir::prepare(&config.state_dir)?;
    Ok(Engine::new(&config.state_dir.join("compiled"), Compiler::in_children())?)
}

/// Starts an engine for a check. If the state directory cannot be used, as on a machine without a daemon, the compiled code
/// goes to a temporary directory, which lives as long as the second value.
pub(super) fn engine_to_check(config: &Config) -> anyhow::Result<(Engine, Option<TempDir>)> {
    match state_dir::prepare(&config.state_dir) {
        Err(state_dir::StateDirError::Unusable { .. }) => {
            let compiled = tempfile::tempdir().context("no directory is available for compiled code")?;
            Ok((Engine::new(compiled.path(), Compiler::in_children())?, Some(compiled)))
        }
        Ok(()) | Err(_) => Ok((start_engine(config)?, None)),
    }
}
