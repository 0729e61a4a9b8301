//! The engine of a configuration.

use anyhow::Context;
use tempfile::TempDir;

use trunkline_config::Config;
use trunkline_config::state_dir;
use trunkline_plugin_host::{CompileReport, Compiler, Engine};

/// Starts the engine with the compiled code of the state directory.
pub(crate) fn start_engine(config: &Config) -> anyhow::Result<Engine> {
    state_dir::prepare(&config.state_dir)?;
    engine_of_state_dir(config, Compiler::in_children())
}

fn engine_of_state_dir(config: &Config, compiler: Compiler) -> anyhow::Result<Engine> {
    Ok(Engine::new(&config.state_dir.join("compiled"), compiler)?)
}

/// Starts an engine for a check. If the state directory cannot be used, as on a machine without a daemon, the compiled code
/// goes to a temporary directory, which lives as long as the second value.
pub(super) fn engine_to_check(config: &Config) -> anyhow::Result<(Engine, Option<TempDir>)> {
    let compiler = Compiler::in_children().reporting(print);
    match state_dir::prepare(&config.state_dir) {
        Err(state_dir::StateDirError::Unusable { .. }) => {
            let compiled = tempfile::tempdir().context("no directory is available for compiled code")?;
            Ok((Engine::new(compiled.path(), compiler)?, Some(compiled)))
        }
        Ok(()) => Ok((engine_of_state_dir(config, compiler)?, None)),
        Err(error) => Err(error.into()),
    }
}

/// Prints a report about a long compilation, because a command has no log.
fn print(report: &CompileReport<'_>) {
    let CompileReport { plugin, elapsed, .. } = report;
    eprintln!("plugin {plugin}: {report} ({:.1} s)", elapsed.as_secs_f64());
}
