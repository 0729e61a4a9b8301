//! The RabbitMQ that the tests share, and nodes of their own for those that break them.

use std::sync::OnceLock;

pub use xtask::rabbitmq::{Node, ensure, free_port};

/// Where the shared RabbitMQ is: given by `TRUNKLINE_TEST_RABBITMQ_URL` or `RABBITMQ_URL`, or a private node of this
/// process, which ends with it. Tests keep out of each other's way by the names of their queues.
///
/// # Panics
/// When there is none: tests do not skip.
#[must_use]
pub fn url() -> String {
    static SHARED: OnceLock<Node> = OnceLock::new();
    let given = ["TRUNKLINE_TEST_RABBITMQ_URL", "RABBITMQ_URL"].into_iter().find_map(|name| std::env::var(name).ok());
    if let Some(url) = given.filter(|url| !url.is_empty()) {
        return url;
    }
    let start = || xtask::rabbitmq::ensure().and_then(|()| Node::start()).expect("a RabbitMQ for the tests");
    SHARED.get_or_init(start).url()
}
