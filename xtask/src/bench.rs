//! Benchmarks, in the release profile.

use anyhow::{Result, bail};

use crate::demo::build_plugins;

pub(crate) fn run() -> Result<()> {
    let plugins = build_plugins()?;
    let status = xtask::cargo()
        .args(["bench", "--package", "trunkline", "--bench", "invoke"])
        .env("TRUNKLINE_BENCH_PLUGINS", plugins)
        .status()?;
    if status.success() { Ok(()) } else { bail!("the benchmark failed ({status})") }
}
