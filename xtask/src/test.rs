//! Every test. One RabbitMQ serves all test binaries that do not need to break theirs.

use std::process::Command;

use anyhow::{Result, bail};
use xtask::rabbitmq::{self, Node};
use xtask::{root, wasm};

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    wasm::ensure_target()?;
    rabbitmq::ensure()?;
    let given = std::env::var("RABBITMQ_URL").ok();
    let node = if given.is_none() { Some(Node::start()?) } else { None };
    let url = given.or_else(|| node.as_ref().map(Node::url)).unwrap_or_default();
    let status = Command::new("cargo")
        .current_dir(root())
        .args(["test", "--workspace"])
        .args(arguments)
        .env("TRUNKLINE_TEST_RABBITMQ_URL", url)
        .env_remove("RABBITMQ_URL")
        .status()?;
    drop(node);
    if status.success() { Ok(()) } else { bail!("tests failed ({status})") }
}
