//! Runs every test with nextest, and starts the RabbitMQ nodes that the tests share. Tests that break a node start nodes of their
//! own. `.config/nextest.toml` holds the groups of tests.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Result, bail};
use xtask::rabbitmq::{self, RabbitmqNode};
use xtask::{tools, wasm};

/// The variable with the URL of the RabbitMQ that the tests share.
pub(crate) const URL_VARIABLE: &str = "TRUNKLINE_TEST_RABBITMQ_URL";
/// The variable with the directory of the private node that the tests share.
pub(crate) const NODE_VARIABLE: &str = "TRUNKLINE_TEST_RABBITMQ_NODE";

/// `cargo nextest run` of the workspace, with the search path that finds nextest.
pub(crate) fn nextest(path: &OsStr) -> Command {
    let mut cargo = xtask::cargo();
    cargo.env("PATH", path).args(["nextest", "run", "--workspace"]).env_remove("RABBITMQ_URL");
    cargo
}

/// The number of tests that run at a time. Tests wait for other processes about half of the time. With three tests for each processor
/// a run took 444 s instead of 574 s, but a confirm of a cluster took more than 30 s.
pub(crate) fn threads() -> String {
    (std::thread::available_parallelism().map_or(2, usize::from) * 2).to_string()
}

/// Without arguments, all tests: first all groups but `measured`, then that group, then the examples in the documentation of the
/// SDK. With arguments, `cargo nextest run` of the workspace with these arguments.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    wasm::ensure_target()?;
    rabbitmq::ensure()?;
    let path = tools::NEXTEST.path()?;
    let given = std::env::var("RABBITMQ_URL").ok();
    let run = |arguments: &[&str]| -> Result<bool> {
        // A node for each run: the queues that other tests leave behind slow down the tests that measure.
        let node = if given.is_none() { Some(RabbitmqNode::start()?) } else { None };
        let url = given.clone().or_else(|| node.as_ref().map(RabbitmqNode::url)).unwrap_or_default();
        let mut cargo = nextest(&path);
        cargo.args(arguments).env(URL_VARIABLE, &url);
        if let Some(node) = &node {
            cargo.env(NODE_VARIABLE, node.dir());
        }
        Ok(cargo.status()?.success())
    };
    let passed = if arguments.is_empty() {
        let most = run(&["--test-threads", &threads(), "-E", "not group(measured)"])?;
        // No run depends on the one before, so that one log shows all failures.
        let measured = run(&["-E", "group(measured)"])?;
        examples()? && measured && most
    } else {
        run(arguments)?
    };
    if passed { Ok(()) } else { bail!("tests failed") }
}

/// Runs the examples in the documentation of the SDK, which nextest cannot run. The other crates have none.
fn examples() -> Result<bool> {
    let arguments = ["test", "--doc", "--quiet", "--package", "trunkline-plugin", "--all-features"];
    Ok(xtask::cargo().args(arguments).status()?.success())
}
