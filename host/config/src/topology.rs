//! What has to be on the broker for the routes to work: the queues of the file, and those that follow from them.
//!
//! Every queue that is consumed has a dead-letter target, and every distinct retry delay a queue that holds messages
//! for as long. Both live in the broker, so that waiting survives a restart of either side.

use std::collections::{BTreeMap, BTreeSet};

use super::check_bindings;
use super::check_exchanges::{Exchanges, codec_word};
use super::check_queues::{Described, QueueKeys, Target, queue_name};
use super::check_routes::{RawRoute, Source};
use super::checked::{Binding, Codec, Match, Overflow, Queue, QueueKind, QueuePurpose};
use super::checked_routes::DeadLetter;
use super::codes::Code;
use super::diagnostics::Place;
use super::walk::{Context, Text};
use trunkline_event::{ExchangeName, QueueName, RouteName};

const PREFETCH: u16 = 200;
const DELIVERY_LIMIT: u32 = 20;

/// The queues and bindings, and which route consumes which queue.
#[derive(Debug, Default)]
pub(super) struct Derived {
    pub(super) queues: BTreeMap<QueueName, Queue>,
    pub(super) bindings: Vec<Binding>,
    pub(super) consumed: BTreeMap<RouteName, QueueName>,
    /// Described queues whose dead letters RabbitMQ may lose, and where they are described.
    may_lose: Vec<(QueueName, Place)>,
}

/// Derives all of it but the retry queues, which [`Derived::hold`] adds.
pub(super) fn derive(
    cx: &mut Context<'_>,
    exchanges: &Exchanges,
    mut described: BTreeMap<QueueName, Described>,
    routes: &[RawRoute],
    defaults: &QueueKeys,
) -> Derived {
    let mut derived = Derived { consumed: consume(cx, exchanges, &mut described, routes), ..Derived::default() };
    let consumed = derived.consumed.values().cloned().collect::<BTreeSet<_>>();
    let targets = targets(cx, &described, &consumed, defaults);
    for (name, queue) in &described {
        for (exchange, matches) in &queue.bindings {
            let binding = Binding { exchange: exchange.clone(), queue: name.clone(), matches: matches.clone() };
            if !derived.bindings.contains(&binding) {
                derived.bindings.push(binding);
            }
        }
        let target = targets.get(name);
        // A dead-letter queue keeps what it gets: the time to live and the length of `[defaults]` are not for it.
        let keys = if target.is_some() { queue.keys.or(defaults) } else { queue.keys.clone() };
        let fallback = target.map(|_| DELIVERY_LIMIT);
        let purpose = if consumed.contains(name) { QueuePurpose::Consumed } else { QueuePurpose::Kept };
        let checked = Queue {
            purpose,
            // Priorities are a thing of classic queues.
            kind: if keys.max_priority.is_some() { QueueKind::Classic } else { keys.kind.unwrap_or_default() },
            ttl: keys.ttl,
            max_length: keys.max_length,
            overflow: keys.overflow.unwrap_or_default(),
            delivery_limit: keys.delivery_limit.or(fallback),
            limit_is_written: keys.delivery_limit.is_some(),
            dead_letter: target.map(dead_letter),
            prefetch: keys.prefetch.or(defaults.prefetch).unwrap_or(PREFETCH),
            max_priority: keys.max_priority,
            single_consumer: false,
            codec: codec(cx, exchanges, queue, defaults),
        };
        if may_lose(&checked) {
            derived.may_lose.push((name.clone(), queue.place.clone()));
        }
        derived.queues.insert(name.clone(), checked);
    }
    for (source, target) in &targets {
        derived.keep(cx, source, target, described.contains_key(&target.queue));
    }
    find_loops(cx, &described, &targets);
    derived
}

/// Which queue each route consumes; queues of routes with `from` join the described ones.
fn consume(
    cx: &mut Context<'_>,
    exchanges: &Exchanges,
    described: &mut BTreeMap<QueueName, Described>,
    routes: &[RawRoute],
) -> BTreeMap<RouteName, QueueName> {
    let mut consumed = BTreeMap::<RouteName, QueueName>::new();
    let mut owners = BTreeMap::<QueueName, &RawRoute>::new();
    for route in routes {
        let queue = match &route.source {
            Source::Keys(keys) => own_queue(cx, exchanges, described, route, keys),
            Source::Queue(text) => known_queue(cx, described, text),
        };
        let Some(queue) = queue else { continue };
        if let (Some(owner), Source::Queue(text)) = (owners.get(&queue), &route.source) {
            let message = format!("route \"{}\" consumes queue \"{queue}\" already", owner.name);
            cx.error(Code::SharedQueue, &text.place, message)
                .also(&owner.place, "by this route")
                .help("each would get only some of the messages: give this route its own queue with `from`");
            continue;
        }
        owners.insert(queue.clone(), route);
        consumed.insert(route.name.clone(), queue);
    }
    consumed
}

fn own_queue(
    cx: &mut Context<'_>,
    exchanges: &Exchanges,
    described: &mut BTreeMap<QueueName, Described>,
    route: &RawRoute,
    keys: &[Text],
) -> Option<QueueName> {
    let text = Text { value: route.name.to_string(), place: route.place.clone(), literal: true };
    let name = queue_name(cx, &text)?;
    let bindings = check_bindings::on_default(cx, keys, exchanges);
    if let Some(taken) = described.get(&name) {
        let message = format!("the route's own queue would be named \"{name}\", as a table in [queues] is");
        cx.error(Code::TakenQueue, &route.place, message)
            .also(&taken.place, "this queue")
            .help(format!("write `queue = \"{name}\"` instead of `from` and put the keys into `bind` there"));
        return None;
    }
    described.insert(name.clone(), Described { keys: QueueKeys::default(), bindings, place: route.place.clone() });
    Some(name)
}

fn known_queue(cx: &mut Context<'_>, described: &BTreeMap<QueueName, Described>, text: &Text) -> Option<QueueName> {
    let name = queue_name(cx, text)?;
    if described.contains_key(&name) {
        return Some(name);
    }
    let message = format!("there is no queue {}", text.shown());
    let known = described.keys().map(QueueName::as_str);
    let finding = cx.error(Code::UnknownQueue, &text.place, message).nearest(&text.value, known);
    if text.literal {
        finding.label(format!("[queues.\"{}\"] is missing", text.value.escape_debug()));
    }
    None
}

/// The dead-letter target of each queue that has one: its own, else that of `[defaults]`, else `NAME.dlq`. Queues that
/// are targets themselves have none, unless they say so or are consumed.
fn targets(
    cx: &mut Context<'_>,
    described: &BTreeMap<QueueName, Described>,
    consumed: &BTreeSet<QueueName>,
    defaults: &QueueKeys,
) -> BTreeMap<QueueName, Target> {
    let mut targets = BTreeMap::new();
    for (name, queue) in described {
        let default = defaults.dead_letter.clone().filter(|target| target.queue != *name);
        if let Some(target) = queue.keys.dead_letter.clone().or(default) {
            targets.insert(name.clone(), target);
            continue;
        }
        let text = Text { value: format!("{name}.dlq"), place: queue.place.clone(), literal: true };
        if let Some(own) = queue_name(cx, &text) {
            targets.insert(name.clone(), Target { exchange: None, queue: own, place: queue.place.clone() });
        }
    }
    let addressed = targets.values().map(|target| target.queue.clone()).collect::<BTreeSet<_>>();
    targets.retain(|name, _| {
        let says_so = described.get(name).is_some_and(|queue| queue.keys.dead_letter.is_some());
        says_so || consumed.contains(name) || !addressed.contains(name)
    });
    targets
}

fn dead_letter(target: &Target) -> DeadLetter {
    let exchange = target.exchange.clone().unwrap_or_else(ExchangeName::default_exchange);
    DeadLetter { exchange, key: target.queue.as_key() }
}

/// The queue's own codec, else that of the exchanges that feed it, else that of `[defaults]`, else raw.
fn codec(cx: &mut Context<'_>, exchanges: &Exchanges, queue: &Described, defaults: &QueueKeys) -> Codec {
    if let Some(codec) = queue.keys.codec {
        return codec;
    }
    let mut fed = queue.bindings.iter().filter_map(|(name, _)| Some((name, exchanges.by_name.get(name)?.codec)));
    let Some((first, codec)) = fed.next() else { return defaults.codec.unwrap_or_default() };
    if let Some((other, another)) = fed.find(|(_, another)| *another != codec) {
        let (one, two) = (codec_word(codec), codec_word(another));
        let message = format!("exchange \"{first}\" has codec {one}, but \"{other}\", which feeds it too, has {two}");
        cx.error(Code::MixedCodecs, &queue.place, message).help(format!("write `codec = \"{one}\"` for this queue"));
    }
    codec
}

impl Derived {
    /// Sees to it that the dead-letter queue of `source` is there and reached.
    fn keep(&mut self, cx: &mut Context<'_>, source: &QueueName, target: &Target, is_described: bool) {
        let codec = self.queues.get(source).map(|queue| queue.codec).unwrap_or_default();
        match self.queues.get(&target.queue) {
            None => {
                self.queues.insert(target.queue.clone(), ours(QueuePurpose::Kept, codec));
            }
            Some(known) if !is_described && known.codec != codec => {
                let (one, two) = (codec_word(known.codec), codec_word(codec));
                let message =
                    format!("dead letters of codec {one} and of codec {two} come to queue \"{}\"", target.queue);
                cx.error(Code::MixedCodecs, &target.place, message)
                    .help(format!("describe [queues.\"{}\"] and say which `codec` it has", target.queue));
            }
            Some(_) => {}
        }
        if let Some(exchange) = target.exchange.clone().filter(|exchange| !exchange.is_default()) {
            let matches = Match::Key(target.queue.as_key());
            let binding = Binding { exchange, queue: target.queue.clone(), matches };
            if !self.bindings.contains(&binding) {
                self.bindings.push(binding);
            }
        }
    }

    /// Warns of queues whose dead letters RabbitMQ may lose. The embedded broker moves them in one transaction.
    pub(super) fn warn_of_losses(&self, cx: &mut Context<'_>) {
        for (name, place) in &self.may_lose {
            let Some(queue) = self.queues.get(name) else { continue };
            let target = queue.dead_letter.as_ref().map_or("", |target| target.key.as_str());
            let message =
                format!("what RabbitMQ gives up of queue \"{name}\" is lost while \"{target}\" is away or full");
            let help = match (queue.kind, queue.max_priority) {
                (QueueKind::Quorum, _) => {
                    "write `overflow = \"reject-publish\"` beside `max-length`, or leave `max-length` out"
                }
                (QueueKind::Classic, None) => {
                    "leave `type = \"classic\"` out: a quorum queue passes them on until they are confirmed"
                }
                (QueueKind::Classic, Some(_)) => "leave `max-priority` out, so that the queue can be a quorum queue",
            };
            cx.findings.warning(Code::MayLose, place, message).help(help);
        }
    }

    /// Adds the queue that lists the events of an ordered route that wait. False when another queue has its name.
    pub(super) fn list(&mut self, name: &QueueName) -> bool {
        let queue = Queue { single_consumer: true, ..ours(QueuePurpose::List, Codec::Raw) };
        !self.queues.contains_key(name) && self.queues.insert(name.clone(), queue).is_none()
    }

    /// Adds the queue that holds messages of `source` for one retry delay. False when another queue has its name.
    pub(super) fn hold(&mut self, source: &QueueName, name: &QueueName, delay: std::time::Duration) -> bool {
        let codec = self.queues.get(source).map(|queue| queue.codec).unwrap_or_default();
        let queue = Queue {
            ttl: Some(delay),
            overflow: Overflow::RejectPublish,
            dead_letter: Some(DeadLetter { exchange: ExchangeName::default_exchange(), key: source.as_key() }),
            ..ours(QueuePurpose::Holding, codec)
        };
        // The same queue again is another step of the same delay.
        match self.queues.get(name) {
            Some(known) => *known == queue,
            None => self.queues.insert(name.clone(), queue).is_none(),
        }
    }
}

/// A queue that the file does not describe: it gives nothing up.
fn ours(purpose: QueuePurpose, codec: Codec) -> Queue {
    Queue {
        purpose,
        kind: QueueKind::Quorum,
        ttl: None,
        max_length: None,
        overflow: Overflow::DropHead,
        delivery_limit: None,
        limit_is_written: false,
        dead_letter: None,
        prefetch: PREFETCH,
        codec,
        max_priority: None,
        single_consumer: false,
    }
}

/// Whether a queue gives messages up that RabbitMQ passes on once, without waiting for the target's confirm.
fn may_lose(queue: &Queue) -> bool {
    let has_limit = queue.kind == QueueKind::Quorum && queue.delivery_limit.is_some();
    let gives_up =
        queue.ttl.is_some() || queue.max_length.is_some() && queue.overflow == Overflow::DropHead || has_limit;
    gives_up && queue.dead_letter.is_some() && !queue.passes_on_at_least_once()
}

/// Reports queues whose dead letters come back to them.
fn find_loops(cx: &mut Context<'_>, described: &BTreeMap<QueueName, Described>, targets: &BTreeMap<QueueName, Target>) {
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
        // A loop is told once, at its first queue.
        if queue == name && way.iter().all(|other| *other >= name.as_str()) {
            let said = described.get(name).is_some_and(|queue| queue.keys.dead_letter.is_some());
            let place: &Place =
                if said { &target.place } else { described.get(name).map_or(&target.place, |queue| &queue.place) };
            way.push(name.as_str());
            let message = format!("dead letters go round in a circle: {}", way.join(" -> "));
            cx.error(Code::DeadLetterLoop, place, message).help("name another queue in `dead-letter`");
        }
    }
}
