//! Queues that are described by hand.

use std::collections::BTreeMap;

use super::bindings;
use super::exchanges::Exchanges;
use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::model::broker::topology::{Match, QueueOwnership};
use crate::parse::context::{ReadContext, Text};
use crate::parse::environment::Overlay;
use crate::parse::raw::queue::{QueueKeys, RawQueue, RawTarget};
use trunkline_event::{ExchangeName, HeaderValue, QueueName};

/// A dead-letter target: a queue, or an exchange and the queue behind it.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetterTarget {
    pub(crate) exchange: Option<ExchangeName>,
    pub(crate) queue: QueueName,
    pub(crate) place: ValuePlace,
}

/// A queue of the file, or one that a route derives.
#[derive(Debug)]
pub(crate) struct DescribedQueue {
    pub(crate) keys: QueueKeys<DeadLetterTarget>,
    /// `owned`, unless it is absent.
    pub(crate) owned: Option<QueueOwnership>,
    pub(crate) arguments: BTreeMap<String, HeaderValue>,
    pub(crate) bindings: Vec<(ExchangeName, Match)>,
    pub(crate) place: ValuePlace,
}

impl DescribedQueue {
    /// Whether the file says that other programs declare the queue. The keys of `[defaults]` are not arguments of such a queue.
    pub(super) fn is_of_other_programs(&self) -> bool {
        self.owned.is_some_and(QueueOwnership::is_of_other_programs)
    }
}

/// The keys of a queue, and those of `[defaults]` where there is none. Codec and dead-letter target have rules of their own
/// and are left out.
pub(super) fn or(
    keys: &QueueKeys<DeadLetterTarget>,
    defaults: &QueueKeys<DeadLetterTarget>,
) -> QueueKeys<DeadLetterTarget> {
    QueueKeys {
        kind: keys.kind.or(defaults.kind),
        ttl: keys.ttl.or(defaults.ttl),
        max_length: keys.max_length.or(defaults.max_length),
        overflow: keys.overflow.or(defaults.overflow),
        delivery_limit: keys.delivery_limit.or(defaults.delivery_limit),
        dead_letter: keys.dead_letter.clone(),
        prefetch: keys.prefetch.or(defaults.prefetch),
        codec: keys.codec,
        max_priority: keys.max_priority.or(defaults.max_priority),
    }
}

/// The keys of `[defaults]`, with the environment laid over them.
pub(crate) fn defaults(
    cx: &mut ReadContext<'_>,
    raw: QueueKeys<RawTarget>,
    exchanges: &Exchanges,
    overlay: &Overlay,
) -> QueueKeys<DeadLetterTarget> {
    let keys = raw.with_target(|raw| target(cx, &raw, exchanges));
    QueueKeys {
        ttl: overlay.ttl.as_ref().map(|ttl| ttl.value).or(keys.ttl),
        max_length: overlay.max_length.as_ref().map(|length| length.value).or(keys.max_length),
        prefetch: overlay.prefetch.as_ref().map(|prefetch| prefetch.value).or(keys.prefetch),
        ..keys
    }
}

/// Checks all described queues.
pub(crate) fn check(
    cx: &mut ReadContext<'_>,
    raw: Vec<RawQueue>,
    exchanges: &Exchanges,
) -> BTreeMap<QueueName, DescribedQueue> {
    let mut queues = BTreeMap::new();
    for raw in raw {
        let keys = raw.keys.with_target(|raw| target(cx, &raw, exchanges));
        let bindings = bindings::check(cx, raw.bindings, exchanges);
        if let Some(name) = queue_name(cx, &raw.name) {
            let (owned, arguments, place) = (raw.owned, raw.arguments, raw.name.place);
            queues.insert(name, DescribedQueue { keys, owned, arguments, bindings, place });
        }
    }
    queues
}

fn target(cx: &mut ReadContext<'_>, raw: &RawTarget, exchanges: &Exchanges) -> Option<DeadLetterTarget> {
    match raw {
        RawTarget::Queue(text) => {
            let queue = queue_name(cx, text)?;
            Some(DeadLetterTarget { exchange: None, queue, place: text.place.clone() })
        }
        RawTarget::Exchange { exchange, queue, place } => {
            let exchange = exchange.as_ref().and_then(|text| target_exchange(cx, text, exchanges));
            let queue = queue.as_ref().and_then(|text| queue_name(cx, text));
            Some(DeadLetterTarget { exchange: Some(exchange?), queue: queue?, place: place.clone() })
        }
    }
}

fn target_exchange(cx: &mut ReadContext<'_>, text: &Text, exchanges: &Exchanges) -> Option<ExchangeName> {
    if text.value.is_empty() {
        return Some(ExchangeName::default_exchange());
    }
    let name = exchanges.resolve(cx, text)?;
    bindings::takes_keys(cx, exchanges, &name, &text.place).then_some(name)
}

/// Checks a queue's name; the broker's own names are refused.
pub(super) fn queue_name(cx: &mut ReadContext<'_>, text: &Text) -> Option<QueueName> {
    if text.value.starts_with("amq.") {
        let message =
            format!("{} is not a valid queue name: names that begin with \"amq.\" belong to the broker", text.shown());
        cx.error(Code::BadName, &text.place, message)
            .help("write a name that does not begin with \"amq.\", such as \"orders\"");
        return None;
    }
    text.name(cx, "queue name", |text| QueueName::new(text))
}
