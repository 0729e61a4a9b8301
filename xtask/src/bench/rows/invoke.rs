//! The row of the cost of a fresh instance and a call. `benches/invoke.rs` measures the cost, with the code of the daemon.

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::bench::figures::{Figure, Target};
use crate::demo::build_plugins;

/// The bytes of data from which the targets for large events apply.
const LARGE_BYTES: u32 = 32 * 1024;

pub(crate) fn run() -> Result<Vec<Figure>> {
    let plugins = build_plugins()?;
    let mut cargo = xtask::cargo();
    cargo.args(["bench", "--package", "trunkline", "--bench", "invoke"]).env("TRUNKLINE_BENCH_PLUGINS", plugins);
    let output = cargo.stderr(Stdio::inherit()).output().context("cargo cannot be run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    if !output.status.success() {
        bail!("the benchmark failed ({})", output.status);
    }
    let figures: Vec<Figure> = text.lines().filter_map(figures).flatten().collect();
    if figures.is_empty() { bail!("the benchmark printed no figures") } else { Ok(figures) }
}

/// The figures of a line such as `a task: median 9.9 us p99 19.0 us (200 bytes, ...)`.
fn figures(line: &str) -> Option<[Figure; 2]> {
    let (case, rest) = line.split_once(": median ")?;
    let (median, rest) = rest.split_once(" us p99 ")?;
    let (p99, rest) = rest.split_once(" us (")?;
    let bytes: u32 = rest.split(' ').next()?.parse().ok()?;
    let targets = if bytes < LARGE_BYTES {
        [Target::AtMost(8.0), Target::AtMost(16.0)]
    } else {
        [Target::AtMost(40.0), Target::None]
    };
    let figure = |name: &str, value: f64, target| Figure {
        row: "invoke",
        name: format!("{name} us of a call, {bytes} bytes, {case}"),
        ours: vec![value],
        peer: None,
        target,
    };
    let [median, p99] = [median.parse().ok()?, p99.parse().ok()?];
    Some([figure("median", median, targets[0]), figure("p99", p99, targets[1])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_benchmark_are_read() {
        let line = "a task: median 9.9 us p99 19.0 us (200 bytes, 50000 calls, middle of 5 rounds)";
        let [median, p99] = figures(line).expect("a line with figures");
        assert_eq!(
            (median.ours, median.target, median.name),
            (vec![9.9], Target::AtMost(8.0), "median us of a call, 200 bytes, a task".to_owned())
        );
        assert_eq!((p99.is_met(), p99.ours), (Some(false), vec![19.0]));
        assert!(figures("loaded in 3 ms").is_none());
    }
}
