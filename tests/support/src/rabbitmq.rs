//! The RabbitMQ that the tests share. Tests that break a node start nodes of their own.

use std::path::PathBuf;
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

/// The URL of a new virtual host, for tests with fixed names of queues: on the private node that
/// `TRUNKLINE_TEST_RABBITMQ_NODE` names by its directory, else on a private node of this process.
///
/// # Panics
/// When the virtual host cannot be made.
#[must_use]
pub fn virtual_host() -> String {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let shared = std::env::var_os("TRUNKLINE_TEST_RABBITMQ_NODE").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let shared = shared.map(|dir| NodeControl::open(&dir).expect("the directory of a node"));
    let node = shared.unwrap_or_else(|| own().control().clone());
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
