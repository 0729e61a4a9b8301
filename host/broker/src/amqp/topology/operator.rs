//! The commands with which an operator prepares a RabbitMQ for a topology.

use super::commands::CommandWriter;
use crate::amqp::delay;
use crate::amqp::queue::DeadLetterPolicy;
use crate::{BrokerServer, ServerVersion};
use trunkline_config::{QueueOwnership, QueuePurpose, Topology, TopologyMode};
use trunkline_event::QueueName;

/// The commands for a topology, each a line of a POSIX shell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OperatorCommands {
    /// With `topology = "check"`, the commands that make every exchange, queue and binding.
    pub parts: Vec<String>,
    /// The commands that set the policies for dead letters of queues that other programs declare.
    pub policies: Vec<String>,
}

impl OperatorCommands {
    /// The commands for a topology in a virtual host.
    #[must_use]
    pub fn new(topology: &Topology, vhost: &str) -> Self {
        let policies = policies(topology, vhost).into_iter().map(|(_, command)| command).collect();
        match topology.mode {
            TopologyMode::Declare => Self { parts: Vec::new(), policies },
            TopologyMode::Check => Self { parts: parts(topology, vhost), policies },
        }
    }
}

/// The policy of each queue whose dead-letter arguments other programs choose.
pub(crate) fn policies<'t>(topology: &'t Topology, vhost: &str) -> Vec<(&'t QueueName, String)> {
    let of_others = topology.queues.iter().filter(|(_, settings)| settings.ownership.is_of_other_programs());
    of_others
        .filter_map(|(queue, settings)| Some((queue, DeadLetterPolicy::of(settings)?.command(queue, vhost))))
        .collect()
}

/// Whether a topology needs the parts of delayed publishing: a route consumes a queue.
pub(crate) fn needs_delays(topology: &Topology) -> bool {
    topology.queues.values().any(|queue| queue.purpose == QueuePurpose::Consumed)
}

fn parts(topology: &Topology, vhost: &str) -> Vec<String> {
    // Only RabbitMQ from 4.0 on needs a delivery limit on every quorum queue, and earlier versions accept the limit.
    let server = BrokerServer { product: "RabbitMQ".to_owned(), version: ServerVersion::new("4.0") };
    let writer = CommandWriter { vhost, server: Some(&server) };
    let exchanges = topology.exchanges.iter().filter(|(_, settings)| settings.owned);
    let queues = topology.queues.iter().filter(|(_, settings)| settings.ownership != QueueOwnership::Others);
    let delays = if needs_delays(topology) { delay::needed_parts() } else { Vec::new() };
    exchanges
        .map(|(name, settings)| writer.exchange(name, settings))
        .chain(queues.flat_map(|(name, settings)| writer.queue(topology, name, settings)))
        .chain(delays.iter().map(|part| part.command(&writer)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_config::{DeadLetter, Queue, QueueKind};
    use trunkline_event::{ExchangeName, RoutingKey};

    fn topology(mode: TopologyMode, ownership: QueueOwnership) -> Topology {
        let key = RoutingKey::new("work.dlq").expect("a key");
        let dead_letter = Some(DeadLetter { exchange: ExchangeName::default_exchange(), key });
        let work = Queue { ownership, dead_letter, ..Queue::unlimited(QueuePurpose::Consumed, QueueKind::Quorum) };
        let letters = Queue::unlimited(QueuePurpose::Kept, QueueKind::Quorum);
        let name = |text: &str| QueueName::new(text).expect("a name");
        let queues = [(name("work"), work), (name("work.dlq"), letters)].into();
        Topology { mode, queues, ..Topology::default() }
    }

    #[test]
    fn commands_make_what_the_daemon_does_not_declare() {
        let commands = |mode, ownership| OperatorCommands::new(&topology(mode, ownership), "/");
        assert_eq!(commands(TopologyMode::Declare, QueueOwnership::Daemon), OperatorCommands::default());
        let checked = commands(TopologyMode::Check, QueueOwnership::Daemon);
        assert!(checked.policies.is_empty());
        for part in [
            "queues/%2F/work ",
            "queues/%2F/work.dlq ",
            "queues/%2F/trunkline.delay.due ",
            "exchanges/%2F/trunkline.delay.26 ",
        ] {
            assert_eq!(checked.parts.iter().filter(|command| command.contains(part)).count(), 1, "{part}");
        }
        let letters = checked.parts.iter().find(|command| command.contains("work.dlq ")).expect("a command");
        assert!(letters.contains("\"x-delivery-limit\":1000000"), "{letters}");
        for ownership in [QueueOwnership::Shared, QueueOwnership::Others] {
            let policies = commands(TopologyMode::Declare, ownership).policies;
            assert!(matches!(policies.as_slice(), [one] if one.contains("trunkline-work")), "{policies:?}");
        }
        let others = commands(TopologyMode::Check, QueueOwnership::Others);
        assert!(!others.parts.iter().any(|command| command.contains("queues/%2F/work ")), "others declare it");
    }
}
