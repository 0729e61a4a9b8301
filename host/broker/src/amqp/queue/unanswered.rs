//! Queues that did not answer a consumer before the session ended.

use std::collections::HashSet;

use parking_lot::Mutex;
use trunkline_event::QueueName;

/// Queues that a consumer waits for. The set outlives sessions. A queue that is in the set when a session begins did not answer
/// before an earlier session ended.
#[derive(Debug, Default)]
pub(crate) struct UnansweredQueues(Mutex<HashSet<QueueName>>);

impl UnansweredQueues {
    /// Whether the queue did not answer.
    pub(crate) fn contains(&self, queue: &QueueName) -> bool {
        self.0.lock().contains(queue)
    }

    /// Notes that a consumer waits for the answer of a queue.
    pub(crate) fn add(&self, queue: &QueueName) {
        self.0.lock().insert(queue.clone());
    }

    /// Notes that the queue answered.
    pub(crate) fn remove(&self, queue: &QueueName) {
        self.0.lock().remove(queue);
    }
}
