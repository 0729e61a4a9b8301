//! Chaos: the real daemon under faults. Builds both, and lets `tests/chaos` do the rest.

use std::process::Command;

use anyhow::{Result, bail};
use xtask::{root, wasm};

/// `--release` is ours; everything else goes to `chaos`, whose `--help` tells it.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    wasm::ensure_target()?;
    let is_release = arguments.contains(&"--release");
    // With the features that the whole workspace has: after the tests nothing is compiled again.
    let mut build = xtask::cargo();
    build.args(["build", "--quiet", "--workspace", "--bin", "trunkline", "--bin", "chaos"]);
    build.args(is_release.then_some("--release"));
    let built = build.status()?;
    if !built.success() {
        bail!("the daemon or the harness does not build ({built})");
    }
    let chaos = root().join("target").join(if is_release { "release" } else { "debug" }).join("chaos");
    let rest = arguments.iter().filter(|argument| **argument != "--release");
    let status = Command::new(chaos).current_dir(root()).args(rest).status()?;
    if status.success() { Ok(()) } else { bail!("chaos failed ({status})") }
}
