//! `trunkline lock`

use clap::Args;
use trunkline::plugins;
use trunkline_config as config;

use super::exit::{self, failed};
use super::paths::Paths;
use super::runtime;

#[derive(Args)]
pub(super) struct LockArguments {
    #[command(flatten)]
    paths: Paths,
    /// Compare plugins.lock without writing the file. The exit code is 1 when the file differs.
    #[arg(long)]
    check: bool,
}

/// Writes plugins.lock, or compares it.
pub(super) fn run(arguments: &LockArguments) -> u8 {
    let loaded = match arguments.paths.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let file = config::PluginLock::beside(&loaded.config.file);
    let runtime = match runtime::start() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let (lock, changes) = match runtime.block_on(plugins::lock_plugins(&loaded.config)) {
        Ok(made) => made,
        Err(error) => return failed(&error),
    };
    for change in &changes {
        println!("{change}");
    }
    if arguments.check {
        if changes.is_empty() {
            return exit::OK;
        }
        eprintln!(
            "error: {} differs from the configuration; write the file again with `trunkline lock`",
            file.display()
        );
        return exit::FAILED;
    }
    match lock.write(&file) {
        Ok(()) => {
            println!("{}: {} plugins", file.display(), lock.plugins.len());
            exit::OK
        }
        Err(error) => failed(&error),
    }
}
