//! The queues and bindings that the routes need: described ones, and those that follow from the routes.
//!
//! Every consumed queue has a dead-letter target. Retries wait in the broker and need no queue of the topology: RabbitMQ's delay
//! queues are shared by the whole virtual host.

use std::collections::{BTreeMap, BTreeSet};

use super::exchanges::{Exchanges, codec_word};
use super::queues::{self, DeadLetterTarget, DescribedQueue, queue_name};
use super::{bindings, dead_letters};
use crate::check::routes::settings::RouteSettings;
use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::keys::topology::queue::{DELIVERY_LIMIT, KIND, OVERFLOW, PREFETCH};
use crate::model::broker::codec::Codec;
use crate::model::broker::topology::{Binding, Match, Queue, QueueKind, QueueOwnership, QueuePurpose};
use crate::parse::context::{ReadContext, Text};
use crate::parse::raw::queue::QueueKeys;
use crate::parse::raw::route::RouteInput;
use trunkline_event::{HeaderValue, QueueName, RouteName};

/// The argument with which a queue has one active consumer at a time.
const SINGLE_CONSUMER: &str = "x-single-active-consumer";

/// The queues and bindings, and which route consumes which queue.
#[derive(Debug, Default)]
pub(crate) struct Derived {
    pub(crate) queues: BTreeMap<QueueName, Queue>,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) consumed: BTreeMap<RouteName, QueueName>,
    /// Described queues whose dead letters RabbitMQ may lose, and where they are described.
    may_lose: Vec<(QueueName, ValuePlace)>,
    /// Queues with `owned = false`, and where they are described.
    of_others: Vec<(QueueName, ValuePlace)>,
}

/// Derives everything but the waiting lists, which [`Derived::list`] adds.
pub(crate) fn derive(
    cx: &mut ReadContext<'_>,
    exchanges: &Exchanges,
    mut described: BTreeMap<QueueName, DescribedQueue>,
    routes: &[RouteSettings],
    defaults: &QueueKeys<DeadLetterTarget>,
) -> Derived {
    let mut derived = Derived { consumed: consume(cx, exchanges, &mut described, routes), ..Derived::default() };
    let consumed = derived.consumed.values().cloned().collect::<BTreeSet<_>>();
    let targets = dead_letters::targets(cx, &described, &consumed, defaults);
    let dead_letter_queues = targets.values().map(|target| target.queue.clone()).collect::<BTreeSet<_>>();
    for (name, queue) in &described {
        for (exchange, matches) in &queue.bindings {
            let binding = Binding { exchange: exchange.clone(), queue: name.clone(), matches: matches.clone() };
            if !derived.bindings.contains(&binding) {
                derived.bindings.push(binding);
            }
        }
        let target = targets.get(name);
        let is_dead_letter_queue = dead_letter_queues.contains(name);
        let purpose = if consumed.contains(name) { QueuePurpose::Consumed } else { QueuePurpose::Kept };
        let is_recommended = purpose == QueuePurpose::Consumed || is_dead_letter_queue;
        let ownership =
            queue.owned.unwrap_or(if is_recommended { QueueOwnership::Daemon } else { QueueOwnership::Plain });
        // A dead-letter queue keeps its messages: `ttl` and `max-length` of `[defaults]` do not apply to it.
        let is_kept = is_dead_letter_queue && target.is_none();
        let takes_defaults = !is_kept && !ownership.is_of_other_programs();
        let keys = if takes_defaults { queues::or(&queue.keys, defaults) } else { queue.keys.clone() };
        // The limit is no argument of a queue of other programs. The embedded broker and the policy for RabbitMQ use the limit.
        let fallback = target.filter(|_| ownership != QueueOwnership::Plain).map(|_| DELIVERY_LIMIT.fallback());
        let checked = Queue {
            purpose,
            ownership,
            kind: kind(ownership, &keys),
            ttl: keys.ttl,
            max_length: keys.max_length,
            overflow: keys.overflow.unwrap_or(OVERFLOW.fallback()),
            overflow_is_written: keys.overflow.is_some(),
            delivery_limit: keys.delivery_limit.or(fallback),
            limit_is_written: keys.delivery_limit.is_some(),
            dead_letter: target.map(dead_letters::dead_letter),
            prefetch: keys.prefetch.or(defaults.prefetch).unwrap_or(PREFETCH.fallback()),
            max_priority: keys.max_priority,
            single_consumer: false,
            arguments: queue.arguments.clone(),
            codec: codec(cx, exchanges, queue, defaults),
        };
        if ownership == QueueOwnership::Others && is_dead_letter_queue {
            let message = format!("the queue \"{name}\" is a dead-letter queue, which the daemon must declare");
            cx.error(Code::QueueOwner, &queue.place, message).help("write `owned = \"shared\"`, or remove `owned`");
        }
        derived.add(cx, name, checked, &queue.place);
    }
    for (source, target) in &targets {
        derived.keep(cx, source, target, described.contains_key(&target.queue));
    }
    dead_letters::find_loops(cx, &described, &targets);
    derived
}

/// The type of a queue. A queue that has only arguments of the file has no type that the file does not name.
fn kind(ownership: QueueOwnership, keys: &QueueKeys<DeadLetterTarget>) -> Option<QueueKind> {
    // Only classic queues have priorities, and only quorum queues have a delivery limit.
    let by_priority = keys.max_priority.map(|_| QueueKind::Classic);
    match ownership {
        QueueOwnership::Daemon => by_priority.or(keys.kind).or(Some(KIND.fallback())),
        QueueOwnership::Plain | QueueOwnership::Shared | QueueOwnership::Others => match keys.kind {
            Some(named) => by_priority.or(Some(named)),
            None if by_priority.is_some() => None,
            None => keys.delivery_limit.map(|_| QueueKind::Quorum),
        },
    }
}

/// Which queue each route consumes; queues of routes with `from` join the described ones.
fn consume(
    cx: &mut ReadContext<'_>,
    exchanges: &Exchanges,
    described: &mut BTreeMap<QueueName, DescribedQueue>,
    routes: &[RouteSettings],
) -> BTreeMap<RouteName, QueueName> {
    let mut consumed = BTreeMap::<RouteName, QueueName>::new();
    let mut owners = BTreeMap::<QueueName, &RouteSettings>::new();
    for route in routes {
        let queue = match &route.input {
            RouteInput::Keys(keys) => own_queue(cx, exchanges, described, route, keys),
            RouteInput::Queue(text) => known_queue(cx, described, text),
        };
        let Some(queue) = queue else { continue };
        if let (Some(owner), RouteInput::Queue(text)) = (owners.get(&queue), &route.input) {
            let message = format!("the route \"{}\" already consumes the queue \"{queue}\"", owner.name);
            cx.error(Code::SharedQueue, &text.place, message).also(&owner.place, "the other route").help(
                "write `from = \"KEY\"` for a queue that only this route uses: each of the two routes would receive only some messages",
            );
            continue;
        }
        owners.insert(queue.clone(), route);
        consumed.insert(route.name.clone(), queue);
    }
    consumed
}

fn own_queue(
    cx: &mut ReadContext<'_>,
    exchanges: &Exchanges,
    described: &mut BTreeMap<QueueName, DescribedQueue>,
    route: &RouteSettings,
    keys: &[Text],
) -> Option<QueueName> {
    let text = Text { value: route.name.to_string(), place: route.place.clone(), literal: true };
    let name = queue_name(cx, &text)?;
    let bindings = bindings::on_default(cx, keys, exchanges);
    if let Some(taken) = described.get(&name) {
        let message = format!("the queue of this route and a queue of [queues] have the same name \"{name}\"");
        cx.error(Code::TakenQueue, &route.place, message).also(&taken.place, "the queue of [queues]").help(format!(
            "write `queue = \"{name}\"` instead of `from`, and add the keys to `bind` of [queues.\"{name}\"]"
        ));
        return None;
    }
    let (keys, place) = (QueueKeys::default(), route.place.clone());
    let queue = DescribedQueue { keys, owned: None, arguments: BTreeMap::new(), bindings, place };
    described.insert(name.clone(), queue);
    Some(name)
}

fn known_queue(
    cx: &mut ReadContext<'_>,
    described: &BTreeMap<QueueName, DescribedQueue>,
    text: &Text,
) -> Option<QueueName> {
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

/// The queue's own codec, else that of the exchanges that feed it, else that of `[defaults]`, else raw.
fn codec(
    cx: &mut ReadContext<'_>,
    exchanges: &Exchanges,
    queue: &DescribedQueue,
    defaults: &QueueKeys<DeadLetterTarget>,
) -> Codec {
    if let Some(codec) = queue.keys.codec {
        return codec;
    }
    let mut fed = queue.bindings.iter().filter_map(|(name, _)| Some((name, exchanges.by_name.get(name)?.codec)));
    let Some((first, codec)) = fed.next() else { return defaults.codec.unwrap_or_default() };
    if let Some((other, another)) = fed.find(|(_, another)| *another != codec) {
        let (one, two) = (codec_word(codec), codec_word(another));
        let message = format!(
            "this queue receives messages of the exchanges \"{first}\" and \"{other}\" with the different codecs {one} and {two}"
        );
        cx.error(Code::MixedCodecs, &queue.place, message).help(format!("write `codec = \"{one}\"` for this queue"));
    }
    codec
}

impl Derived {
    /// Adds a described queue, and notes the warnings about it.
    fn add(&mut self, cx: &mut ReadContext<'_>, name: &QueueName, queue: Queue, place: &ValuePlace) {
        if !queue.ownership.is_of_other_programs() && dead_letters::may_lose(&queue) {
            self.may_lose.push((name.clone(), place.clone()));
        }
        if queue.ownership == QueueOwnership::Plain
            && queue.dead_letter.is_none()
            && dead_letters::drops_messages(&queue)
        {
            let message = format!(
                "the queue \"{name}\" has no dead-letter queue, so its messages that expire or do not fit are lost"
            );
            cx.findings
                .warning(Code::MayLose, place, message)
                .help(format!("write `dead-letter = \"{name}.dlq\"`, or remove `ttl` and `max-length`"));
        }
        if queue.ownership == QueueOwnership::Others {
            self.of_others.push((name.clone(), place.clone()));
        }
        self.queues.insert(name.clone(), queue);
    }

    /// Adds the dead-letter queue of `source` and its binding, if they are missing.
    fn keep(&mut self, cx: &mut ReadContext<'_>, source: &QueueName, target: &DeadLetterTarget, is_described: bool) {
        let codec = self.queues.get(source).map(|queue| queue.codec).unwrap_or_default();
        match self.queues.get(&target.queue) {
            None => {
                self.queues.insert(target.queue.clone(), ours(QueuePurpose::Kept, codec));
            }
            Some(known) if !is_described && known.codec != codec => {
                let (one, two) = (codec_word(known.codec), codec_word(codec));
                let message = format!(
                    "the queue \"{}\" receives dead letters with the different codecs {one} and {two}",
                    target.queue
                );
                cx.error(Code::MixedCodecs, &target.place, message)
                    .help(format!("add a table [queues.\"{}\"] with `codec = \"{one}\"`", target.queue));
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
    pub(crate) fn warn_of_losses(&self, cx: &mut ReadContext<'_>) {
        for (name, place) in &self.may_lose {
            let Some(queue) = self.queues.get(name) else { continue };
            let target = queue.dead_letter.as_ref().map_or("", |target| target.key.as_str());
            let message = format!(
                "the dead letters of queue \"{name}\" are lost while the queue \"{target}\" is missing or full"
            );
            let help = match (queue.kind, queue.max_priority) {
                (_, Some(_)) => {
                    "remove `max-priority`: only a quorum queue keeps a message until the dead letter is confirmed"
                }
                (Some(QueueKind::Classic), None) => {
                    "remove `type = \"classic\"`: RabbitMQ keeps a message of a quorum queue until the dead letter is confirmed"
                }
                (Some(QueueKind::Quorum) | None, None) if queue.ownership == QueueOwnership::Plain => {
                    "write `owned = true`: the daemon then declares a queue that keeps a message until the dead letter is confirmed"
                }
                (Some(QueueKind::Quorum) | None, None) => {
                    "write `overflow = \"reject-publish\"` beside `max-length`, or remove `max-length`"
                }
            };
            cx.findings.warning(Code::MayLose, place, message).help(help);
        }
    }

    /// Warns of queues that only other programs declare, on the embedded broker, which other programs cannot reach.
    pub(crate) fn warn_of_queues_of_others(&self, cx: &mut ReadContext<'_>) {
        for (name, place) in &self.of_others {
            let message = format!(
                "other programs cannot reach the embedded broker, so the daemon makes the queue \"{name}\" without bindings"
            );
            cx.findings
                .warning(Code::QueueOwner, place, message)
                .help("set `url` in [broker], or write `owned = \"shared\"` and `bind`");
        }
    }

    /// Gives a queue one active consumer at a time, which `order-by` needs. `place` is the place of the route.
    pub(crate) fn consume_alone(&mut self, cx: &mut ReadContext<'_>, name: &QueueName, place: &ValuePlace) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        queue.single_consumer = true;
        let says_so = queue.arguments.get(SINGLE_CONSUMER) == Some(&HeaderValue::Bool(true));
        if queue.ownership.is_of_other_programs() && !says_so {
            let message = format!(
                "`order-by` needs a queue with a single active consumer, but other programs declare the queue \"{name}\""
            );
            let owned = if queue.ownership == QueueOwnership::Shared { "" } else { "`owned = \"shared\"` and " };
            cx.error(Code::QueueOwner, place, message).help(format!(
                "write {owned}`arguments = {{ {SINGLE_CONSUMER} = true }}` in [queues.\"{name}\"], and declare the same argument \
                 in the other programs"
            ));
        }
    }

    /// Adds a waiting list. False when another queue has its name.
    pub(crate) fn list(&mut self, name: &QueueName) -> bool {
        let queue = Queue { single_consumer: true, ..ours(QueuePurpose::List, Codec::Raw) };
        !self.queues.contains_key(name) && self.queues.insert(name.clone(), queue).is_none()
    }
}

/// A queue that the file does not describe. It has no TTL, no length and no delivery limit.
fn ours(purpose: QueuePurpose, codec: Codec) -> Queue {
    Queue { prefetch: PREFETCH.fallback(), codec, ..Queue::unlimited(purpose, QueueKind::Quorum) }
}
