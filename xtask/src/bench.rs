//! Benchmarks, in the release profile.

use std::process::Command;

use anyhow::{Result, bail};
use xtask::root;

use crate::demo::build_plugins;

pub(crate) fn run() -> Result<()> {
    let plugins = build_plugins()?;
    let status = Command::new("cargo")
        .current_dir(root())
        .args(["bench", "--package", "trunkline", "--bench", "invoke"])
        .env("TRUNKLINE_BENCH_PLUGINS", plugins)
        .status()?;
    if status.success() { Ok(()) } else { bail!("the benchmark failed ({status})") }
}
