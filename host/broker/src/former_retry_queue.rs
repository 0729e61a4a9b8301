//! The retry queues that earlier builds declared on RabbitMQ for each queue of a route, named `QUEUE.retry.MILLISECONDS`.

use std::time::Duration;

use trunkline_event::QueueName;

/// The retry queues that earlier builds may have declared for one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerRetryQueues {
    /// The queue of a route.
    pub queue: QueueName,
    /// The TTLs of the retry queues.
    pub delays: Vec<Duration>,
}

/// A retry queue of an earlier build that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerRetryQueue {
    /// The name of the retry queue.
    pub queue: QueueName,
    /// Events that still wait in the retry queue.
    pub ready: u64,
    /// The command that deletes the retry queue.
    pub command: String,
}

impl FormerRetryQueues {
    /// The names of the retry queues.
    pub(crate) fn names(&self) -> impl Iterator<Item = QueueName> {
        let names = self.delays.iter().map(|delay| format!("{}.retry.{}", self.queue, delay.as_millis()));
        names.filter_map(|name| QueueName::new(name).ok())
    }

    /// Whether a queue has the name of a retry queue, with any TTL.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        let rest = name.strip_prefix(self.queue.as_str()).and_then(|rest| rest.strip_prefix(".retry."));
        rest.is_some_and(|millis| !millis.is_empty() && millis.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_earlier_builds() {
        let queue = QueueName::new("tasks").expect("a name");
        let retries = FormerRetryQueues { queue, delays: vec![Duration::from_secs(1), Duration::from_millis(1_250)] };
        let names: Vec<String> = retries.names().map(|name| name.to_string()).collect();
        assert_eq!(names, ["tasks.retry.1000", "tasks.retry.1250"]);
        assert!(names.iter().all(|name| retries.has_name(name)));
        assert!(retries.has_name("tasks.retry.77"), "the configuration may have changed");
        for other in ["tasks", "tasks.retry.", "tasks.retry.1s", "tasks.retry", "mytasks.retry.1000", "tasks.dlq"] {
            assert!(!retries.has_name(other), "{other}");
        }
    }
}
