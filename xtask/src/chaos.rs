//! Builds the daemon and `tests/chaos`, and runs the daemon under faults.

use std::process::Command;

use anyhow::{Result, bail};
use xtask::{root, wasm};

/// Takes `--release` for the builds. All other arguments go to `chaos`; `chaos --help` lists them.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    wasm::ensure_target()?;
    let is_release = arguments.contains(&"--release");
    let release = is_release.then_some("--release");
    xtask::build(&["--bin", "trunkline", "--bin", "chaos"].into_iter().chain(release).collect::<Vec<_>>())?;
    let chaos = root().join("target").join(if is_release { "release" } else { "debug" }).join("chaos");
    let rest = arguments.iter().filter(|argument| **argument != "--release");
    let status = Command::new(chaos).current_dir(root()).args(rest).status()?;
    if status.success() { Ok(()) } else { bail!("chaos failed ({status})") }
}
