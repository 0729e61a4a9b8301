//! `[queues.NAME]` and the same keys in `[defaults]`.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::DeValue;

use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::keys::section::Listed;
use crate::keys::top::QUEUES;
use crate::keys::topology::queue::{
    ARGUMENTS, BIND, BINDING, BINDING_EXCHANGE, BINDING_HEADERS, BINDING_KEYS, BINDING_MATCH, CODEC, DEAD_LETTER,
    DELIVERY_LIMIT, KIND, MAX_LENGTH, MAX_PRIORITY, OVERFLOW, OWNED, PREFETCH, TARGET_EXCHANGE, TARGET_QUEUE, TTL,
};
use crate::model::broker::codec::Codec;
use crate::model::broker::topology::{Overflow, QueueKind, QueueOwnership};
use crate::parse::context::{ReadContext, Text};
use crate::parse::table::Table;
use crate::parse::value::{TomlValue, dotted, place, text, word, wrong};
use trunkline_event::HeaderValue;

/// The arguments that have a key, each with its key.
const ARGUMENT_KEYS: [(&str, &str); 6] = [
    ("x-queue-type", "type"),
    ("x-message-ttl", "ttl"),
    ("x-max-length", "max-length"),
    ("x-overflow", "overflow"),
    ("x-delivery-limit", "delivery-limit"),
    ("x-max-priority", "max-priority"),
];
/// The longest name of an argument in AMQP.
const ARGUMENT_NAME_MAX_BYTES: usize = 255;

/// The keys of a queue in one table; every key may be absent. `T` is a dead-letter target, raw or resolved.
#[derive(Debug, Clone)]
pub(crate) struct QueueKeys<T> {
    pub(crate) kind: Option<QueueKind>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) max_length: Option<u32>,
    pub(crate) overflow: Option<Overflow>,
    pub(crate) delivery_limit: Option<u32>,
    pub(crate) dead_letter: Option<T>,
    pub(crate) prefetch: Option<u16>,
    pub(crate) codec: Option<Codec>,
    pub(crate) max_priority: Option<u8>,
}

/// `dead-letter`: a queue, or an exchange and the queue behind it. A part that is missing or not a text is reported already.
#[derive(Debug, Clone)]
pub(crate) enum RawTarget {
    Queue(Text),
    Exchange { exchange: Option<Text>, queue: Option<Text>, place: ValuePlace },
}

/// One `[queues.NAME]`.
#[derive(Debug)]
pub(crate) struct RawQueue {
    pub(crate) name: Text,
    pub(crate) keys: QueueKeys<RawTarget>,
    /// `owned`, unless it is absent.
    pub(crate) owned: Option<QueueOwnership>,
    pub(crate) arguments: BTreeMap<String, HeaderValue>,
    pub(crate) bindings: Vec<RawBinding>,
}

/// One item of `bind`.
#[derive(Debug)]
pub(crate) enum RawBinding {
    /// A key on the default exchange.
    Key(Text),
    /// `{ exchange, keys, headers, match }`
    Table(RawBindingTable),
}

#[derive(Debug)]
pub(crate) struct RawBindingTable {
    pub(crate) place: ValuePlace,
    /// `None` when the key cannot be used and was reported; the default exchange when it is absent.
    pub(crate) exchange: Option<BindingExchange>,
    pub(crate) keys: Option<Vec<Text>>,
    pub(crate) keys_place: Option<ValuePlace>,
    pub(crate) headers: Option<HeaderValues>,
    pub(crate) headers_place: Option<ValuePlace>,
    pub(crate) match_place: Option<ValuePlace>,
}

#[derive(Debug)]
pub(crate) enum BindingExchange {
    Default,
    Named(Text),
}

/// `headers` and `match`
#[derive(Debug)]
pub(crate) struct HeaderValues {
    pub(crate) all: bool,
    pub(crate) values: Vec<(String, HeaderValue)>,
}

impl<T> Default for QueueKeys<T> {
    fn default() -> Self {
        Self {
            kind: None,
            ttl: None,
            max_length: None,
            overflow: None,
            delivery_limit: None,
            dead_letter: None,
            prefetch: None,
            codec: None,
            max_priority: None,
        }
    }
}

impl<T> QueueKeys<T> {
    /// The same keys with another form of the dead-letter target.
    pub(crate) fn with_target<U>(self, change: impl FnOnce(T) -> Option<U>) -> QueueKeys<U> {
        QueueKeys {
            kind: self.kind,
            ttl: self.ttl,
            max_length: self.max_length,
            overflow: self.overflow,
            delivery_limit: self.delivery_limit,
            dead_letter: self.dead_letter.and_then(change),
            prefetch: self.prefetch,
            codec: self.codec,
            max_priority: self.max_priority,
        }
    }
}

impl QueueKeys<RawTarget> {
    pub(super) fn read(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Self {
        Self {
            kind: table.word(cx, &KIND).map(|at| at.value),
            ttl: table.duration(cx, &TTL).map(|at| at.value),
            max_length: table.integer(cx, &MAX_LENGTH).map(|at| at.value),
            overflow: table.word(cx, &OVERFLOW).map(|at| at.value),
            delivery_limit: table.integer(cx, &DELIVERY_LIMIT).map(|at| at.value),
            dead_letter: RawTarget::read(cx, table),
            prefetch: table.integer(cx, &PREFETCH).map(|at| at.value),
            codec: table.word(cx, &CODEC).map(|at| at.value),
            max_priority: table.integer(cx, &MAX_PRIORITY).map(|at| at.value),
        }
    }
}

impl RawTarget {
    fn read(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Option<Self> {
        let value = table.value(&DEAD_LETTER)?;
        let Some(inner) = table.form(cx, &DEAD_LETTER) else {
            return text(cx, DEAD_LETTER.name, value, "a queue's name or a table {exchange, queue}").map(Self::Queue);
        };
        inner.require(cx, &TARGET_EXCHANGE, "exchange = \"NAME\"");
        inner.require(cx, &TARGET_QUEUE, "queue = \"NAME\"");
        let (exchange, queue) = (inner.text(cx, &TARGET_EXCHANGE), inner.text(cx, &TARGET_QUEUE));
        Some(Self::Exchange { exchange, queue, place: inner.place })
    }
}

pub(super) fn read(cx: &mut ReadContext<'_>, top: &Table<'_>) -> Vec<RawQueue> {
    let mut queues = Vec::new();
    for (name, table) in top.named(cx, &QUEUES) {
        let keys = QueueKeys::read(cx, &table);
        if let (Some(_), Some(QueueKind::Quorum)) = (keys.max_priority, keys.kind) {
            let message = format!("{} has `max-priority`, but a quorum queue has no priorities", table.title);
            cx.error(Code::QuorumPriority, &table.key_place(&MAX_PRIORITY), message)
                .help("write `type = \"classic\"`, or use another queue and route for urgent events");
        }
        let owned = owned(cx, &table);
        let arguments = arguments(cx, &table, owned);
        let bindings = table.value(&BIND).map(|bind| bindings(cx, bind)).unwrap_or_default();
        if owned == Some(QueueOwnership::Others) {
            refuse_keys_of_a_declaration(cx, &table);
        }
        queues.push(RawQueue { name, keys, owned, arguments, bindings });
    }
    queues
}

/// `owned`: `true`, `false` or `"shared"`. A variable of the environment can only be a string.
fn owned(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Option<QueueOwnership> {
    const WANTED: &str = "true, false or \"shared\"";
    const WORDS: &[(&str, QueueOwnership)] =
        &[("shared", QueueOwnership::Shared), ("true", QueueOwnership::Daemon), ("false", QueueOwnership::Others)];
    let value = table.value(&OWNED)?;
    match value.get_ref() {
        DeValue::Boolean(true) => Some(QueueOwnership::Daemon),
        DeValue::Boolean(false) => Some(QueueOwnership::Others),
        DeValue::String(_) => {
            let text = text(cx, OWNED.name, value, WANTED)?;
            word(cx, "`owned`", &text, WORDS)
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            wrong(cx, OWNED.name, value, WANTED).help("write `owned = true`, `owned = \"shared\"` or `owned = false`");
            None
        }
    }
}

/// `arguments`, which only a shared queue may have.
fn arguments(
    cx: &mut ReadContext<'_>,
    table: &Table<'_>,
    owned: Option<QueueOwnership>,
) -> BTreeMap<String, HeaderValue> {
    let mut arguments = BTreeMap::new();
    for (name, value) in table.entries(cx, &ARGUMENTS).unwrap_or_default() {
        if let Some((argument, key)) = ARGUMENT_KEYS.iter().find(|(argument, _)| *argument == name.value) {
            let message = format!("`arguments` has `{argument}`, which is the key `{key}`");
            cx.error(Code::QueueOwner, &name.place, message)
                .help(format!("write `{key}` in {}, outside of `arguments`", table.title));
        } else if !name.value.starts_with("x-") || name.value.len() > ARGUMENT_NAME_MAX_BYTES {
            let message = format!("`{}` is not the name of a queue argument", name.value.escape_debug());
            cx.error(Code::QueueOwner, &name.place, message)
                .help("write a name that begins with `x-`, such as `x-dead-letter-exchange`");
        } else if let Some(value) = header(cx, name.value, value) {
            arguments.insert(name.value.to_owned(), value);
        }
    }
    let is_wrong_owner = match owned {
        Some(QueueOwnership::Shared | QueueOwnership::Others) => false,
        Some(QueueOwnership::Daemon | QueueOwnership::Plain) => true,
        // A wrong value of `owned` was reported.
        None => !table.has(&OWNED),
    };
    if table.has(&ARGUMENTS) && is_wrong_owner {
        let message = format!("{} has `arguments`, but not `owned = \"shared\"`", table.title);
        cx.error(Code::QueueOwner, &table.key_place(&ARGUMENTS), message)
            .help("write `owned = \"shared\"`: the daemon chooses the arguments of its own queues");
    }
    arguments
}

/// Reports the keys of a declaration on a queue that the daemon does not declare.
fn refuse_keys_of_a_declaration(cx: &mut ReadContext<'_>, table: &Table<'_>) {
    let keys: [&dyn Listed; 8] =
        [&KIND, &TTL, &MAX_LENGTH, &OVERFLOW, &DELIVERY_LIMIT, &MAX_PRIORITY, &ARGUMENTS, &BIND];
    for key in keys.into_iter().filter(|key| table.has(*key)) {
        let name = key.name();
        let message = format!(
            "{} has `{name}`, but `owned = false` lets only other programs declare and bind the queue",
            table.title
        );
        cx.error(Code::QueueOwner, &table.key_place(key), message)
            .help(format!("remove `{name}`, or write `owned = \"shared\"`"));
    }
}

/// `bind`: a key, a table, or a list of either.
fn bindings(cx: &mut ReadContext<'_>, value: &TomlValue<'_>) -> Vec<RawBinding> {
    const WANTED: &str = "a key, a table {exchange, keys}, or a list of keys and tables";
    let items = match value.get_ref() {
        DeValue::Array(items) if items.is_empty() => {
            cx.error(Code::MissingKey, &place(value), "the list `bind` is empty")
                .help("write `bind = \"KEY\"`, or remove `bind`: a queue needs no binding");
            return Vec::new();
        }
        DeValue::Array(items) => items.iter().collect(),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => vec![value],
    };
    let mut bindings = Vec::new();
    for item in items {
        bindings.extend(match Table::open(cx, item, &BINDING, "`bind`") {
            Some(table) => Some(RawBinding::Table(RawBindingTable::read(cx, table))),
            None => text(cx, BIND.name, item, WANTED).map(RawBinding::Key),
        });
    }
    bindings
}

impl RawBindingTable {
    fn read(cx: &mut ReadContext<'_>, table: Table<'_>) -> Self {
        let exchange = match table.has(&BINDING_EXCHANGE) {
            true => table.text(cx, &BINDING_EXCHANGE).map(BindingExchange::Named),
            false => Some(BindingExchange::Default),
        };
        Self {
            exchange,
            keys: table.texts(cx, &BINDING_KEYS),
            keys_place: table.has(&BINDING_KEYS).then(|| table.key_place(&BINDING_KEYS)),
            headers: headers(cx, &table),
            headers_place: table.has(&BINDING_HEADERS).then(|| table.key_place(&BINDING_HEADERS)),
            match_place: table.has(&BINDING_MATCH).then(|| table.key_place(&BINDING_MATCH)),
            place: table.place,
        }
    }
}

fn headers(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Option<HeaderValues> {
    let all = table.word(cx, &BINDING_MATCH).map_or(BINDING_MATCH.fallback(), |word| word.value);
    let entries = table.entries(cx, &BINDING_HEADERS)?;
    if entries.is_empty() {
        cx.error(Code::MissingKey, &table.key_place(&BINDING_HEADERS), "the table `headers` is empty")
            .help("write `headers = { NAME = \"VALUE\" }`");
        return None;
    }
    let mut values = Vec::new();
    for (name, value) in entries {
        if name.value == "x-match" {
            cx.error(Code::UnknownKey, &name.place, "`x-match` is not allowed in `headers`")
                .help("write `match = \"all\"` or `match = \"any\"` beside `headers`");
        } else if let Some(value) = header(cx, name.value, value) {
            values.push((name.value.to_owned(), value));
        }
    }
    Some(HeaderValues { all, values })
}

fn header(cx: &mut ReadContext<'_>, name: &str, value: &TomlValue<'_>) -> Option<HeaderValue> {
    const WANTED: &str = "a string, a number or a boolean";
    match value.get_ref() {
        DeValue::String(_) => text(cx, name, value, WANTED).map(|text| HeaderValue::Text(text.value)),
        DeValue::Boolean(value) => Some(HeaderValue::Bool(*value)),
        DeValue::Float(number) => number.as_str().parse().ok().map(HeaderValue::Float),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Some(HeaderValue::Int(number)),
            Err(_) => {
                let message = format!("`{name}` is {number}, but must be an integer of 64 bits");
                cx.error(Code::OutOfBounds, &place(value), message).help(format!(
                    "write a number from {} to {}",
                    i64::MIN,
                    i64::MAX
                ));
                None
            }
        },
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            wrong(cx, name, value, WANTED).help(format!("write `{} = \"VALUE\"`", dotted(name)));
            None
        }
    }
}
