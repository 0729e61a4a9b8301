//! `[routes.NAME]` and the same keys in `[defaults]`.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::check_archive;
use super::check_flow::FlowKeys;
use super::check_rollout::RolloutKeys;
use super::check_schema;
use super::checked_routes::{Handler, SchemaRule, Unroutable};
use super::codes::Code;
use super::diagnostics::Place;
use super::walk::{At, Context, Table, Text};
use trunkline_event::{PluginName, RouteName, RoutingKey};

pub(super) const CONCURRENCY: RangeInclusive<u16> = 1..=1024;
/// Bytes; RabbitMQ takes messages up to 128 MiB.
pub(super) const BODY: RangeInclusive<u64> = 1..=128 * 1024 * 1024;
const HOPS: RangeInclusive<u32> = 1..=1000;
/// Every distinct delay is a queue on the broker.
const RETRIES: RangeInclusive<u32> = 0..=100;
const RETRY_DELAY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(7 * 24 * 3600);
const MULTIPLIER: RangeInclusive<f64> = 1.0..=100.0;

/// The keys that `[defaults]` may have too.
pub(super) const KEYS: [&str; 10] =
    ["emit", "retry", "concurrency", "max-hops", "max-body", "dedupe", "order-by", "rate", "tenant", "circuit"];
pub(super) const LATER: [&str; 1] = ["when"];

/// What one table says about a route; every key may be absent.
#[derive(Debug, Clone, Default)]
pub(super) struct RouteKeys {
    pub(super) emit: EmitKeys,
    pub(super) retry: RetryKeys,
    pub(super) concurrency: Option<u16>,
    pub(super) hops_max: Option<u32>,
    pub(super) body_max_bytes: Option<u64>,
    pub(super) flow: FlowKeys,
}

/// `emit`
#[derive(Debug, Clone, Default)]
pub(super) struct EmitKeys {
    pub(super) exchange: Option<Text>,
    pub(super) key: Option<Text>,
    pub(super) types: Option<Vec<String>>,
    pub(super) unroutable: Option<Unroutable>,
}

/// `retry`
#[derive(Debug, Clone, Default)]
pub(super) struct RetryKeys {
    pub(super) max: Option<u32>,
    pub(super) delay: Option<At<Duration>>,
    pub(super) multiplier: Option<f64>,
    pub(super) delay_max: Option<At<Duration>>,
    pub(super) jitter: Option<bool>,
}

/// Where the events of a route come from.
#[derive(Debug)]
pub(super) enum Source {
    /// `from`: keys on the default exchange, over a queue of its own.
    Keys(Vec<Text>),
    /// `queue`
    Queue(Text),
}

/// One `[routes.NAME]`.
#[derive(Debug)]
pub(super) struct RawRoute {
    pub(super) name: RouteName,
    pub(super) place: Place,
    pub(super) source: Source,
    pub(super) handler: Handler,
    pub(super) keys: RouteKeys,
    pub(super) rollout: RolloutKeys,
    pub(super) schema: Option<SchemaRule>,
}

impl RawRoute {
    /// The plugins that it names.
    pub(super) fn plugins(&self) -> impl Iterator<Item = PluginName> {
        let stable = match &self.handler {
            Handler::Plugin(plugin) => Some(plugin.clone()),
            Handler::Archive(_) => None,
        };
        self.rollout.plugins().chain(stable)
    }
}

impl RouteKeys {
    pub(super) fn read(cx: &mut Context<'_>, table: &Table<'_>) -> Self {
        Self {
            emit: table.table(cx, "emit").map(|table| EmitKeys::read(cx, &table)).unwrap_or_default(),
            retry: table.table(cx, "retry").map(|table| RetryKeys::read(cx, &table)).unwrap_or_default(),
            concurrency: table.integer(cx, "concurrency", CONCURRENCY).map(|at| at.value),
            hops_max: table.integer(cx, "max-hops", HOPS).map(|at| at.value),
            body_max_bytes: table.size(cx, "max-body", &BODY).map(|at| at.value),
            flow: FlowKeys::read(cx, table),
        }
    }

    /// The own keys, and those of `[defaults]` where there is none; `emit` and `retry` are merged key by key.
    fn or(self, defaults: &Self) -> Self {
        Self {
            emit: EmitKeys {
                exchange: self.emit.exchange.or_else(|| defaults.emit.exchange.clone()),
                key: self.emit.key.or_else(|| defaults.emit.key.clone()),
                types: self.emit.types.or_else(|| defaults.emit.types.clone()),
                unroutable: self.emit.unroutable.or(defaults.emit.unroutable),
            },
            retry: RetryKeys {
                max: self.retry.max.or(defaults.retry.max),
                delay: self.retry.delay.or_else(|| defaults.retry.delay.clone()),
                multiplier: self.retry.multiplier.or(defaults.retry.multiplier),
                delay_max: self.retry.delay_max.or_else(|| defaults.retry.delay_max.clone()),
                jitter: self.retry.jitter.or(defaults.retry.jitter),
            },
            concurrency: self.concurrency.or(defaults.concurrency),
            hops_max: self.hops_max.or(defaults.hops_max),
            body_max_bytes: self.body_max_bytes.or(defaults.body_max_bytes),
            flow: self.flow.or(&defaults.flow),
        }
    }
}

impl EmitKeys {
    fn read(cx: &mut Context<'_>, table: &Table<'_>) -> Self {
        table.check_keys(cx, &["exchange", "key", "types", "unroutable"], &[]);
        let words =
            [("accept", Unroutable::Accept), ("retry", Unroutable::Retry), ("dead-letter", Unroutable::DeadLetter)];
        Self {
            exchange: table.text(cx, "exchange"),
            key: table.text(cx, "key").filter(|key| check_template(cx, key)),
            types: table.texts(cx, "types").map(|types| types.into_iter().map(|text| text.value).collect()),
            unroutable: table.word(cx, "unroutable", &words).map(|at| at.value),
        }
    }
}

/// `{type}` is the only placeholder, and what is around it is part of a routing key.
fn check_template(cx: &mut Context<'_>, key: &Text) -> bool {
    let fixed = key.value.replace("{type}", "");
    if fixed.contains(['{', '}']) {
        let message = format!("`key` is {}, but {{type}} is the only placeholder", key.shown());
        cx.error(Code::Template, &key.place, message).help("write a fixed key, or {type} for the type of the emission");
        return false;
    }
    key.name(cx, |_| RoutingKey::new(&fixed)).is_some()
}

impl RetryKeys {
    fn read(cx: &mut Context<'_>, table: &Table<'_>) -> Self {
        table.check_keys(cx, &["max", "delay", "multiplier", "max-delay", "jitter"], &[]);
        Self {
            max: table.integer(cx, "max", RETRIES).map(|at| at.value),
            delay: table.duration(cx, "delay", &RETRY_DELAY),
            multiplier: table.number(cx, "multiplier", MULTIPLIER),
            delay_max: table.duration(cx, "max-delay", &RETRY_DELAY),
            jitter: table.boolean(cx, "jitter"),
        }
    }
}

/// Reads all routes; one that lacks what it needs is reported and left out.
pub(super) fn read(cx: &mut Context<'_>, top: &Table<'_>, defaults: &RouteKeys, directory: &Path) -> Vec<RawRoute> {
    let mut routes = Vec::new();
    for (name, table) in top.tables(cx, "routes") {
        let own = ["from", "queue", "plugin", "archive", "schema", "canary", "shadow"];
        table.check_keys(cx, &[KEYS.as_slice(), &own].concat(), &LATER);
        let handler = handler(cx, &table, directory);
        let plugin = handler.as_ref().and_then(|handler| match handler {
            Handler::Plugin(plugin) => Some(plugin),
            Handler::Archive(_) => None,
        });
        let source = source(cx, &table);
        let keys = RouteKeys::read(cx, &table).or(defaults);
        let rollout = RolloutKeys::read(cx, &table, plugin);
        let schema = check_schema::rule(cx, &table, directory);
        let known = name.name(cx, |text| RouteName::new(text));
        if let (Some(known), Some(handler), Some(source)) = (known, handler, source) {
            routes.push(RawRoute { name: known, place: name.place, source, handler, keys, rollout, schema });
        }
    }
    routes
}

/// `plugin` or `archive`.
fn handler(cx: &mut Context<'_>, table: &Table<'_>, directory: &Path) -> Option<Handler> {
    if !table.has("archive") {
        table.require(cx, "plugin", "plugin = \"NAME\"");
        let plugin = table.text(cx, "plugin").and_then(|text| text.name(cx, |text| PluginName::new(text)));
        return plugin.map(Handler::Plugin);
    }
    for key in ["plugin", "emit", "canary", "shadow"].into_iter().filter(|key| table.has(key)) {
        let message = format!("{} has `archive`, so `{key}` means nothing", table.title);
        cx.error(Code::BadArchive, &table.key_place(key), message)
            .also(&table.key_place("archive"), "because of this")
            .help("remove one of them");
    }
    check_archive::read(cx, table, directory).map(Handler::Archive)
}

fn source(cx: &mut Context<'_>, table: &Table<'_>) -> Option<Source> {
    let (keys, queue) = (table.texts(cx, "from"), table.text(cx, "queue"));
    match (table.has("from"), table.has("queue")) {
        (true, true) => {
            let message = format!("{} has both `from` and `queue`", table.title);
            cx.error(Code::FromOrQueue, &table.key_place("queue"), message)
                .also(&table.key_place("from"), "and this here")
                .help("keep `from` for a queue of its own, or `queue` for one of [queues]");
            None
        }
        (false, false) => {
            let message = format!("{} has neither `from` nor `queue`", table.title);
            cx.error(Code::FromOrQueue, &table.place, message).help("write `from = \"KEY\"` or `queue = \"NAME\"`");
            None
        }
        (true, false) => keys.map(Source::Keys),
        (false, true) => queue.map(Source::Queue),
    }
}
