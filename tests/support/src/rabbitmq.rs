//! The RabbitMQ that the tests share. Tests that break a node start nodes of their own.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use xtask::rabbitmq::{NodeControl, RabbitmqNode, RabbitmqServer, ensure, free_port};

/// The URL of the shared RabbitMQ: `TRUNKLINE_TEST_RABBITMQ_URL`, else `RABBITMQ_URL`, else the URL of a private node of this
/// process, which ends with the process. Tests keep apart by the names of their queues.
///
/// # Panics
/// When no RabbitMQ can be started: tests do not skip.
#[must_use]
pub fn url() -> String {
    let given = ["TRUNKLINE_TEST_RABBITMQ_URL", "RABBITMQ_URL"].into_iter().find_map(|name| std::env::var(name).ok());
    given.filter(|url| !url.is_empty()).unwrap_or_else(|| own().url())
}

/// The node of [`virtual_host`]: the private node that `TRUNKLINE_TEST_RABBITMQ_NODE` names by its directory, else a private
/// node of this process.
///
/// # Panics
/// When no RabbitMQ can be started.
#[must_use]
pub fn control() -> NodeControl {
    let shared = std::env::var_os("TRUNKLINE_TEST_RABBITMQ_NODE").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let shared = shared.map(|dir| NodeControl::open(&dir).expect("the directory of a node"));
    shared.unwrap_or_else(|| own().control().clone())
}

/// Runs a printed `rabbitmqctl` command on a node, with the words that a shell makes of the command.
///
/// # Panics
/// When RabbitMQ refuses the command.
pub fn paste(node: &NodeControl, command: &str) {
    let script = format!("rabbitmqctl() {{ printf '%s\\n' \"$@\"; }}\n{command}");
    let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    let words = String::from_utf8(output.stdout).expect("a text");
    node.ctl(&words.lines().collect::<Vec<_>>()).expect("RabbitMQ accepts the command");
}

/// The URL of a new virtual host, for tests with fixed names of queues.
///
/// # Panics
/// When the virtual host cannot be made.
#[must_use]
pub fn virtual_host() -> String {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let node = control();
    let name = format!("host-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    node.ctl(&["add_vhost", &name]).expect("a virtual host");
    node.ctl(&["set_permissions", "-p", &name, "guest", ".*", ".*", ".*"]).expect("permissions");
    node.url().replace("%2f", &name)
}

/// The private node of this process.
fn own() -> &'static RabbitmqNode {
    static OWN: OnceLock<RabbitmqNode> = OnceLock::new();
    OWN.get_or_init(|| ensure().and_then(|()| RabbitmqNode::start()).expect("a RabbitMQ for the tests"))
}
