//! Settings of queues that the topology does not name.

use trunkline_config as config;

/// Settings of a queue of an earlier configuration. The queue keeps its messages.
pub(crate) fn unconfigured_queue() -> config::Queue {
    config::Queue::unlimited(config::QueuePurpose::Kept, config::QueueKind::Quorum)
}
