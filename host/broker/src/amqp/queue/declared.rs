//! Queues that the declaration of the topology found or made a moment ago, so that their first consumers need no
//! declaration.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use trunkline_config::{Binding, QueueOwnership, Topology};
use trunkline_event::QueueName;

/// The time after the declaration of the topology in which a queue counts as declared. An operator may delete the queue or its
/// bindings later.
const DECLARED_FOR: Duration = Duration::from_secs(60);

/// The queues of the last declaration of a session.
#[derive(Debug, Default)]
pub(crate) struct DeclaredQueues(Mutex<Option<Declaration>>);

#[derive(Debug)]
struct Declaration {
    topology: Arc<Topology>,
    at: Instant,
    /// Queues that no consumer has used since.
    unused: HashSet<QueueName>,
}

impl DeclaredQueues {
    /// Notes that the broker has the queues and bindings of a topology, except for queues that `is_refused` names and queues
    /// that only other programs declare.
    pub(crate) fn note(&self, topology: &Arc<Topology>, is_refused: impl Fn(&QueueName) -> bool) {
        let declared = topology.queues.iter().filter(|(_, settings)| settings.ownership != QueueOwnership::Others);
        let unused = declared.map(|(queue, _)| queue).filter(|queue| !is_refused(queue)).cloned().collect();
        *self.0.lock() = Some(Declaration { topology: topology.clone(), at: Instant::now(), unused });
    }

    /// Whether a queue was declared a moment ago as `topology` has it, with its bindings. A second question about the same
    /// queue gives `false`, because the queue may be gone when its consumer begins again.
    pub(crate) fn take(&self, queue: &QueueName, topology: &Topology) -> bool {
        let mut last = self.0.lock();
        let Some(declaration) = last.as_mut().filter(|declaration| declaration.at.elapsed() < DECLARED_FOR) else {
            return false;
        };
        declaration.unused.remove(queue) && is_same(queue, &declaration.topology, topology)
    }
}

/// Whether two topologies have the same queue with the same bindings.
fn is_same(queue: &QueueName, one: &Topology, other: &Topology) -> bool {
    let is_of_queue = |binding: &&Binding| binding.queue == *queue;
    one.mode == other.mode
        && one.queues.get(queue) == other.queues.get(queue)
        && one.bindings.iter().filter(is_of_queue).eq(other.bindings.iter().filter(is_of_queue))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_config::{Match, Queue, QueueKind, QueuePurpose};
    use trunkline_event::{ExchangeName, RoutingKey};

    fn name(text: &str) -> QueueName {
        QueueName::new(text).expect("a name")
    }

    fn topology(ownership: QueueOwnership, key: &str) -> Arc<Topology> {
        let queue = Queue { ownership, ..Queue::unlimited(QueuePurpose::Consumed, QueueKind::Quorum) };
        let exchange = ExchangeName::new("events").expect("a name");
        let matches = Match::Key(RoutingKey::new(key).expect("a key"));
        let bindings = vec![Binding { exchange, queue: name("work"), matches }];
        let queues = [(name("work"), queue.clone()), (name("other"), queue)].into();
        Arc::new(Topology { queues, bindings, ..Topology::default() })
    }

    #[test]
    fn a_queue_counts_as_declared_once() {
        let (declared, wanted) = (DeclaredQueues::default(), topology(QueueOwnership::Daemon, "a"));
        assert!(!declared.take(&name("work"), &wanted), "nothing is declared");
        declared.note(&wanted, |queue| *queue == name("other"));
        assert!(!declared.take(&name("other"), &wanted), "the broker refused the queue");
        assert!(!declared.take(&name("unknown"), &wanted));
        assert!(declared.take(&name("work"), &topology(QueueOwnership::Daemon, "a")), "an equal topology");
        assert!(!declared.take(&name("work"), &wanted), "a consumer used the queue");
    }

    #[test]
    fn another_queue_is_declared_again() {
        let declared = DeclaredQueues::default();
        for other in [topology(QueueOwnership::Daemon, "b"), topology(QueueOwnership::Plain, "a")] {
            declared.note(&topology(QueueOwnership::Daemon, "a"), |_| false);
            assert!(!declared.take(&name("work"), &other), "{other:?}");
        }
        let of_others = topology(QueueOwnership::Others, "a");
        declared.note(&of_others, |_| false);
        assert!(!declared.take(&name("work"), &of_others), "the daemon does not declare the queue");
    }
}
