//! Every test. One RabbitMQ serves all test binaries that do not need to break theirs.

use anyhow::{Result, bail};
use xtask::rabbitmq::{self, Node};
use xtask::wasm;

/// Tests that measure latencies or rates: they run one by one, after all the others.
const ALONE: [&str; 9] = [
    "limits::neighbours",
    "faults::isolation",
    "limits::compile::a_bomb_ends",
    "reload::swaps",
    "told_within_a_second",
    "a_deadline_is_kept",
    "five_hundred_plugins",
    "slow_and_endless",
    "lateness",
];

/// With arguments, `cargo test` of the workspace with them; without, everything.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    wasm::ensure_target()?;
    rabbitmq::ensure()?;
    let given = std::env::var("RABBITMQ_URL").ok();
    let cargo = |arguments: &[&str]| -> Result<bool> {
        // A node for each run: those who measure would measure the queues that all others have left, too.
        let node = if given.is_none() { Some(Node::start()?) } else { None };
        let url = given.clone().or_else(|| node.as_ref().map(Node::url)).unwrap_or_default();
        let mut cargo = xtask::cargo();
        cargo.arg("test").args(arguments);
        Ok(cargo.env("TRUNKLINE_TEST_RABBITMQ_URL", &url).env_remove("RABBITMQ_URL").status()?.success())
    };
    let passed = if arguments.is_empty() {
        // Half of what a test does is to wait for others.
        let threads = format!("--test-threads={}", std::thread::available_parallelism().map_or(2, usize::from) * 2);
        let skipped = ALONE.iter().flat_map(|name| ["--skip", name]);
        // Of all targets both times: another choice has other features, and builds half the world anew.
        // Both run, whatever the first says: who reads the log wants every failure.
        let most = ["--workspace", "--no-fail-fast", "--", &threads].into_iter().chain(skipped).collect::<Vec<_>>();
        let alone = [&["--workspace", "--no-fail-fast", "--", "--test-threads=1"], ALONE.as_slice()].concat();
        let passed = cargo(&most)?;
        cargo(&alone)? && passed
    } else {
        cargo(&[&["--workspace"], arguments].concat())?
    };
    if passed { Ok(()) } else { bail!("tests failed") }
}
