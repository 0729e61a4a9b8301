//! The row of the cost of a fresh instance and a call. `benches/invoke.rs` measures the cost.

use anyhow::{Result, bail};

use crate::bench::figures::Figure;
use crate::demo::build_plugins;

pub(crate) fn run() -> Result<Vec<Figure>> {
    let plugins = build_plugins()?;
    let status = xtask::cargo()
        .args(["bench", "--package", "trunkline", "--bench", "invoke"])
        .env("TRUNKLINE_BENCH_PLUGINS", plugins)
        .status()?;
    if status.success() { Ok(Vec::new()) } else { bail!("the benchmark failed ({status})") }
}
