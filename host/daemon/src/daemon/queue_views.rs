//! The broker's figures of queues, with the roles of the queues in routes.toml.

use std::collections::{BTreeMap, BTreeSet};

use trunkline_broker::{DELAYED_DEAD_LETTERS, QueueStatistics, Rates, Statistics};
use trunkline_config::{Config, DeadLetter, Match, Topology};
use trunkline_event::QueueName;
use trunkline_http::{QueueView, QueuesView, RatesView, Role};

/// The queues of routes.toml.
pub(super) fn queues(config: &Config, statistics: Statistics) -> QueuesView {
    let Statistics { source, queues: reported, delayed, problems } = statistics;
    let targets: BTreeMap<&QueueName, &QueueName> = config
        .topology
        .queues
        .iter()
        .filter_map(|(name, queue)| Some((name, target(&config.topology, queue.dead_letter.as_ref()?)?)))
        .collect();
    let dead: BTreeSet<&QueueName> = targets.values().copied().collect();
    let depths: BTreeMap<QueueName, u64> = reported.iter().map(|queue| (queue.queue.clone(), depth(queue))).collect();
    let view = |queue: QueueStatistics| {
        let target = targets.get(&queue.queue);
        QueueView {
            role: if dead.contains(&queue.queue) || queue.queue.as_str() == DELAYED_DEAD_LETTERS {
                Role::DeadLetter
            } else {
                Role::Work
            },
            ready: queue.ready,
            unacknowledged: queue.unacknowledged,
            retrying: queue.retrying,
            consumers: queue.consumers,
            oldest_age_seconds: queue.oldest_age.map(|age| age.as_secs_f64()),
            rates: queue.rates.map(|Rates { published, delivered, acknowledged }| RatesView {
                publish: published,
                deliver: delivered,
                acknowledge: acknowledged,
            }),
            dead_letter_queue: target.map(ToString::to_string),
            dead_letters: target.and_then(|target| depths.get(*target)).copied(),
            name: queue.queue.to_string(),
        }
    };
    let mut queues: Vec<QueueView> = reported.into_iter().map(view).collect();
    queues.sort_by(|one, two| one.name.cmp(&two.name));
    QueuesView { source: source.as_str(), delayed, problems, queues, removable: Vec::new() }
}

fn depth(queue: &QueueStatistics) -> u64 {
    queue.ready + queue.unacknowledged.unwrap_or_default()
}

/// The queue that gets the dead letters: the queue of that name, or the queue that is bound with that key.
fn target<'t>(topology: &'t Topology, to: &DeadLetter) -> Option<&'t QueueName> {
    if to.exchange.is_default() {
        return topology.queues.get_key_value(to.key.as_str()).map(|(name, _)| name);
    }
    let is_bound = |matches: &Match| matches!(matches, Match::Key(key) if *key == to.key);
    let mut bound = topology.bindings.iter().filter(|binding| binding.exchange == to.exchange);
    bound.find(|binding| is_bound(&binding.matches)).map(|binding| &binding.queue)
}
