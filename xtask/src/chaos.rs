//! Chaos: the real daemon under faults. Builds both, and lets `tests/chaos` do the rest.

use std::process::Command;

use anyhow::{Result, bail};
use xtask::{root, wasm};

/// `--release` is ours; everything else goes to `chaos`, whose `--help` tells it.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    wasm::ensure_target()?;
    let profile = arguments.iter().filter(|argument| **argument == "--release");
    let cargo = |verb: &str| {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(root()).args([verb, "--quiet", "--package", "trunkline-chaos"]).args(profile.clone());
        cargo
    };
    let built = cargo("build").args(["--package", "trunkline"]).status()?;
    if !built.success() {
        bail!("the daemon or the harness does not build ({built})");
    }
    let rest = arguments.iter().filter(|argument| **argument != "--release");
    let status = cargo("run").args(["--bin", "chaos", "--"]).args(rest).status()?;
    if status.success() { Ok(()) } else { bail!("chaos failed ({status})") }
}
