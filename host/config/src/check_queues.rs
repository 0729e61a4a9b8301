//! `[queues.NAME]` and the same keys in `[defaults]`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::check_bindings;
use super::check_exchanges::{CODECS, Exchanges};
use super::checked::{Codec, Match, Overflow, QueueKind};
use super::codes::Code;
use super::diagnostics::Place;
use super::walk::{At, Context, Table, Text, text};
use trunkline_event::{ExchangeName, QueueName};

/// AMQP's field is 16 bits wide; 0 would mean without bound.
pub(super) const PREFETCH: RangeInclusive<u16> = 1..=u16::MAX;
pub(super) const MAX_LENGTH: RangeInclusive<u32> = 1..=u32::MAX;
/// RabbitMQ takes milliseconds in 32 bits, which is 49 days and some; 0 would drop what is not consumed at once.
pub(super) const TTL: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(49 * 24 * 3600);

/// RabbitMQ keeps a queue for each priority; more than 10 are advised against.
const PRIORITY: RangeInclusive<u8> = 1..=255;

/// The keys that `[defaults]` may have too.
pub(super) const KEYS: [&str; 9] =
    ["type", "ttl", "max-length", "overflow", "delivery-limit", "dead-letter", "prefetch", "codec", "max-priority"];

/// What one table says about a queue; every key may be absent.
#[derive(Debug, Clone, Default)]
pub(super) struct QueueKeys {
    pub(super) kind: Option<QueueKind>,
    pub(super) ttl: Option<Duration>,
    pub(super) max_length: Option<u32>,
    pub(super) overflow: Option<Overflow>,
    pub(super) delivery_limit: Option<u32>,
    pub(super) dead_letter: Option<Target>,
    pub(super) prefetch: Option<u16>,
    pub(super) codec: Option<Codec>,
    pub(super) max_priority: Option<u8>,
}

/// `dead-letter`: a queue, or an exchange and the queue behind it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) exchange: Option<ExchangeName>,
    pub(super) queue: QueueName,
    pub(super) place: Place,
}

/// A queue of the file, or one that a route derives.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) keys: QueueKeys,
    pub(super) bindings: Vec<(ExchangeName, Match)>,
    pub(super) place: Place,
}

impl QueueKeys {
    /// Reads the keys. `exchanges` resolves the one of `dead-letter`.
    pub(super) fn read(cx: &mut Context<'_>, table: &Table<'_>, exchanges: &Exchanges) -> Self {
        let value = |at: At<u32>| at.value;
        Self {
            kind: table
                .word(cx, "type", &[("quorum", QueueKind::Quorum), ("classic", QueueKind::Classic)])
                .map(|at| at.value),
            ttl: table.duration(cx, "ttl", &TTL).map(|at| at.value),
            max_length: table.integer(cx, "max-length", MAX_LENGTH).map(value),
            overflow: table
                .word(cx, "overflow", &[("drop-head", Overflow::DropHead), ("reject-publish", Overflow::RejectPublish)])
                .map(|at| at.value),
            delivery_limit: table.integer(cx, "delivery-limit", 1..=1_000_000).map(value),
            dead_letter: dead_letter(cx, table, exchanges),
            prefetch: table.integer(cx, "prefetch", PREFETCH).map(|at| at.value),
            codec: table.word(cx, "codec", CODECS).map(|at| at.value),
            max_priority: table.integer(cx, "max-priority", PRIORITY).map(|at| at.value),
        }
    }

    /// The own keys, and those of `[defaults]` where there is none. Codec and dead-letter target have rules of their
    /// own and are left out.
    pub(super) fn or(&self, defaults: &Self) -> Self {
        Self {
            kind: self.kind.or(defaults.kind),
            ttl: self.ttl.or(defaults.ttl),
            max_length: self.max_length.or(defaults.max_length),
            overflow: self.overflow.or(defaults.overflow),
            delivery_limit: self.delivery_limit.or(defaults.delivery_limit),
            dead_letter: self.dead_letter.clone(),
            prefetch: self.prefetch.or(defaults.prefetch),
            codec: self.codec,
            max_priority: self.max_priority.or(defaults.max_priority),
        }
    }
}

fn dead_letter(cx: &mut Context<'_>, table: &Table<'_>, exchanges: &Exchanges) -> Option<Target> {
    let value = table.value("dead-letter")?;
    let Some(inner) = Table::inline(value, "`dead-letter`") else {
        let text = text(cx, "dead-letter", value, "a queue's name or a table {exchange, queue}")?;
        let queue = queue_name(cx, &text)?;
        return Some(Target { exchange: None, queue, place: text.place });
    };
    inner.check_keys(cx, &["exchange", "queue"], &[]);
    inner.require(cx, "exchange", "exchange = \"NAME\"");
    inner.require(cx, "queue", "queue = \"NAME\"");
    let exchange = inner.text(cx, "exchange").and_then(|text| match text.value.is_empty() {
        true => Some(ExchangeName::default_exchange()),
        false => {
            let name = exchanges.resolve(cx, &text)?;
            check_bindings::takes_keys(cx, exchanges, &name, &text.place).then_some(name)
        }
    });
    let queue = inner.text(cx, "queue").and_then(|text| queue_name(cx, &text));
    Some(Target { exchange: Some(exchange?), queue: queue?, place: inner.place })
}

/// Checks a queue's name; those of the broker are refused.
pub(super) fn queue_name(cx: &mut Context<'_>, text: &Text) -> Option<QueueName> {
    if text.value.starts_with("amq.") {
        let message = format!("queue {} cannot begin with \"amq.\": such names belong to the broker", text.shown());
        cx.error(Code::BadName, &text.place, message);
        return None;
    }
    text.name(cx, |text| QueueName::new(text))
}

/// Reads all tables.
pub(super) fn read(cx: &mut Context<'_>, top: &Table<'_>, exchanges: &Exchanges) -> BTreeMap<QueueName, Described> {
    let mut queues = BTreeMap::new();
    for (name, table) in top.tables(cx, "queues") {
        table.check_keys(cx, &[KEYS.as_slice(), &["bind"]].concat(), &[]);
        let keys = QueueKeys::read(cx, &table, exchanges);
        if let (Some(_), Some(QueueKind::Quorum)) = (keys.max_priority, keys.kind) {
            let message = format!("`max-priority` in {}, which is a quorum queue", table.title);
            cx.error(Code::QuorumPriority, &table.key_place("max-priority"), message)
                .help("write `type = \"classic\"`, or give urgent events a queue and a route of their own");
        }
        let bindings = table.value("bind").map(|bind| check_bindings::read(cx, bind, exchanges)).unwrap_or_default();
        if let Some(known) = queue_name(cx, &name) {
            queues.insert(known, Described { keys, bindings, place: name.place });
        }
    }
    queues
}
