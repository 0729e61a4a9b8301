//! Dead-letter targets of queues, and their problems.

use std::collections::{BTreeMap, BTreeSet};

use super::queues::{DeadLetterTarget, DescribedQueue, queue_name};
use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::model::broker::topology::{DeadLetter, Overflow, Queue, QueueKind, QueueOwnership};
use crate::parse::context::{ReadContext, Text};
use crate::parse::raw::queue::QueueKeys;
use trunkline_event::{ExchangeName, QueueName};

/// The dead-letter target of each queue that has one: its own, else that of `[defaults]`. A queue that is consumed or that the
/// file calls the daemon's own has `NAME.dlq` otherwise. Queues that are targets themselves have none, unless they name one or
/// are consumed.
pub(super) fn targets(
    cx: &mut ReadContext<'_>,
    described: &BTreeMap<QueueName, DescribedQueue>,
    consumed: &BTreeSet<QueueName>,
    defaults: &QueueKeys<DeadLetterTarget>,
) -> BTreeMap<QueueName, DeadLetterTarget> {
    let mut targets = BTreeMap::new();
    for (name, queue) in described {
        let is_consumed = consumed.contains(name);
        let default = defaults.dead_letter.clone().filter(|target| target.queue != *name);
        // `[defaults]` names no argument of other programs' queues, but a route needs a target in every case.
        let default = default.filter(|_| is_consumed || !queue.is_of_other_programs());
        if let Some(target) = queue.keys.dead_letter.clone().or(default) {
            targets.insert(name.clone(), target);
            continue;
        }
        if !is_consumed && queue.owned != Some(QueueOwnership::Daemon) {
            continue;
        }
        let text = Text { value: format!("{name}.dlq"), place: queue.place.clone(), literal: true };
        if let Some(own) = queue_name(cx, &text) {
            targets.insert(name.clone(), DeadLetterTarget { exchange: None, queue: own, place: queue.place.clone() });
        }
    }
    let addressed = targets.values().map(|target| target.queue.clone()).collect::<BTreeSet<_>>();
    targets.retain(|name, _| {
        let says_so = described.get(name).is_some_and(|queue| queue.keys.dead_letter.is_some());
        says_so || consumed.contains(name) || !addressed.contains(name)
    });
    targets
}

pub(super) fn dead_letter(target: &DeadLetterTarget) -> DeadLetter {
    let exchange = target.exchange.clone().unwrap_or_else(ExchangeName::default_exchange);
    DeadLetter { exchange, key: target.queue.as_key() }
}

/// Whether RabbitMQ moves dead letters of the queue without waiting for the target's confirm.
pub(super) fn may_lose(queue: &Queue) -> bool {
    let has_limit = queue.kind == Some(QueueKind::Quorum) && queue.delivery_limit.is_some();
    let gives_up = drops_messages(queue) || has_limit;
    gives_up && queue.dead_letter.is_some() && !queue.passes_on_at_least_once()
}

/// Whether the broker removes messages that expire or that do not fit, where there is no dead-letter queue.
pub(super) fn drops_messages(queue: &Queue) -> bool {
    queue.ttl.is_some() || queue.max_length.is_some() && queue.overflow == Overflow::DropHead
}

/// Reports queues whose dead letters come back to them.
pub(super) fn find_loops(
    cx: &mut ReadContext<'_>,
    described: &BTreeMap<QueueName, DescribedQueue>,
    targets: &BTreeMap<QueueName, DeadLetterTarget>,
) {
    for (name, target) in targets {
        let mut queue = &target.queue;
        let mut way = vec![name.as_str()];
        while queue != name && way.len() <= targets.len() {
            way.push(queue.as_str());
            match targets.get(queue) {
                Some(next) => queue = &next.queue,
                None => break,
            }
        }
        // A loop is reported once, at its first queue.
        if queue == name && way.iter().all(|other| *other >= name.as_str()) {
            let said = described.get(name).is_some_and(|queue| queue.keys.dead_letter.is_some());
            let place: &ValuePlace =
                if said { &target.place } else { described.get(name).map_or(&target.place, |queue| &queue.place) };
            way.push(name.as_str());
            let message =
                format!("the dead letters of queue \"{name}\" come back to the same queue: {}", way.join(" -> "));
            cx.error(Code::DeadLetterLoop, place, message)
                .help("write `dead-letter = \"NAME\"` with the name of a queue outside this circle");
        }
    }
}
