//! What the broker tells of its queues, with what routes.toml says they are for.

use std::collections::{BTreeMap, BTreeSet};

use trunkline_broker::{QueueStatistics, Rates, Statistics};
use trunkline_config::{Config, DeadLetter, Match, Topology};
use trunkline_event::QueueName;
use trunkline_http::{QueueView, QueuesView, RatesView, Role};

pub(super) fn view(config: &Config, statistics: Statistics) -> QueuesView {
    let retries: BTreeSet<&QueueName> =
        config.routes.values().flat_map(|route| &route.retry.steps).flat_map(|step| &step.queues).collect();
    let targets: BTreeMap<&QueueName, &QueueName> = config
        .topology
        .queues
        .iter()
        .filter(|(name, _)| !retries.contains(name))
        .filter_map(|(name, queue)| Some((name, target(&config.topology, queue.dead_letter.as_ref()?)?)))
        .collect();
    let dead: BTreeSet<&QueueName> = targets.values().copied().collect();
    let depths: BTreeMap<QueueName, u64> =
        statistics.queues.iter().map(|queue| (queue.queue.clone(), depth(queue))).collect();
    let view = |queue: QueueStatistics| {
        let target = targets.get(&queue.queue);
        QueueView {
            role: match () {
                () if retries.contains(&queue.queue) => Role::Retry,
                () if dead.contains(&queue.queue) => Role::DeadLetter,
                () => Role::Work,
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
    let mut queues: Vec<QueueView> = statistics.queues.into_iter().map(view).collect();
    queues.sort_by(|one, two| one.name.cmp(&two.name));
    QueuesView { source: statistics.source.as_str(), problems: statistics.problems, queues }
}

fn depth(queue: &QueueStatistics) -> u64 {
    queue.ready + queue.unacknowledged.unwrap_or_default()
}

/// The queue that dead letters come to: the one of that name, or the one that is bound with that key.
fn target<'t>(topology: &'t Topology, to: &DeadLetter) -> Option<&'t QueueName> {
    if to.exchange.is_default() {
        return topology.queues.get_key_value(to.key.as_str()).map(|(name, _)| name);
    }
    let is_bound = |matches: &Match| matches!(matches, Match::Key(key) if *key == to.key);
    let mut bound = topology.bindings.iter().filter(|binding| binding.exchange == to.exchange);
    bound.find(|binding| is_bound(&binding.matches)).map(|binding| &binding.queue)
}
