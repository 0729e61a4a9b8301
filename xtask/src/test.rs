//! Every test. One RabbitMQ serves all test binaries that do not need to break theirs.

use std::process::Command;

use anyhow::{Result, bail};
use xtask::rabbitmq::{self, Node};
use xtask::{root, wasm};

/// Tests that measure latencies: they run one by one, after all the others.
const ALONE: [&str; 2] = ["limits::neighbours", "faults::isolation"];

/// With arguments, `cargo test` of the workspace with them; without, everything.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    wasm::ensure_target()?;
    rabbitmq::ensure()?;
    let given = std::env::var("RABBITMQ_URL").ok();
    let node = if given.is_none() { Some(Node::start()?) } else { None };
    let url = given.or_else(|| node.as_ref().map(Node::url)).unwrap_or_default();
    let cargo = |arguments: &[&str]| -> Result<bool> {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(root()).arg("test").args(arguments);
        Ok(cargo.env("TRUNKLINE_TEST_RABBITMQ_URL", &url).env_remove("RABBITMQ_URL").status()?.success())
    };
    let passed = if arguments.is_empty() {
        let [first, second] = ALONE;
        // Of all targets both times: another choice has other features, and builds half the world anew.
        // Both run, whatever the first says: who reads the log wants every failure.
        let most = cargo(&["--workspace", "--no-fail-fast", "--", "--skip", first, "--skip", second])?;
        cargo(&["--workspace", "--no-fail-fast", "--", "--test-threads=1", first, second])? && most
    } else {
        cargo(&[&["--workspace"], arguments].concat())?
    };
    drop(node);
    if passed { Ok(()) } else { bail!("tests failed") }
}
