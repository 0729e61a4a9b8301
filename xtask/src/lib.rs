//! Functions that the project's commands and the tests share: building components, and finding a RabbitMQ and the tools of other
//! languages.

pub mod apt;
pub mod languages;
pub mod pages;
pub mod progress;
pub mod rabbitmq;
pub mod strip;
pub mod tools;
pub mod wasm;

use std::path::PathBuf;
use std::process::Command;

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}

/// A command `cargo` in the workspace, with the environment of the shell that started this program.
#[must_use]
pub fn cargo() -> Command {
    command("cargo")
}

/// A command in the workspace that may run cargo, with the environment of the shell that started this program. `cargo run` adds
/// variables about the package `xtask`. Some build scripts read such variables (ring's does), so an inner cargo would build them anew.
#[must_use]
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "CARGO" || text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Builds binaries of the workspace, with arguments of `cargo build` such as `--bin NAME`. The features are those of the whole
/// workspace, so that nothing is compiled again after the tests.
///
/// # Errors
/// When cargo fails.
pub fn build(arguments: &[&str]) -> anyhow::Result<()> {
    let built = progress::run(cargo().args(["build", "--workspace"]).args(arguments), "the daemon")?;
    if !built.success() {
        anyhow::bail!("`cargo build {}` failed ({built})", arguments.join(" "));
    }
    Ok(())
}
