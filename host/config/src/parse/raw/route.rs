//! `[routes.NAME]` and the same keys in `[defaults]`.

use std::time::Duration;

use super::archive::RawArchive;
use super::flow::FlowKeys;
use super::rollout::RolloutKeys;
use crate::diagnostics::codes::Code;
use crate::keys::routes::route::{
    ARCHIVE_TABLE, CANARY_TABLE, CONCURRENCY, EMIT_EXCHANGE, EMIT_KEY, EMIT_REPLY, EMIT_TABLE, EMIT_TYPES,
    EMIT_UNROUTABLE, FROM, MAX_BODY, MAX_HOPS, PLUGIN, QUEUE, RETRY_DELAY, RETRY_JITTER, RETRY_MAX, RETRY_MAX_DELAY,
    RETRY_MULTIPLIER, RETRY_TABLE, SCHEMA, SCHEMA_FILE, SCHEMA_VERSION, SHADOW_TABLE,
};
use crate::keys::section::Listed;
use crate::keys::top::ROUTES;
use crate::model::routes::route::Unroutable;
use crate::parse::context::{At, ReadContext, Text};
use crate::parse::table::Table;
use crate::parse::value::{text, wrong};
use trunkline_event::{PluginName, RoutingKey};

/// The keys of a route in one table; every key may be absent.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteKeys {
    pub(crate) emit: EmitKeys,
    pub(crate) retry: RetryKeys,
    pub(crate) concurrency: Option<u16>,
    pub(crate) hops_max: Option<u32>,
    pub(crate) body_max_bytes: Option<u64>,
    pub(crate) flow: FlowKeys,
}

/// `emit`
#[derive(Debug, Clone, Default)]
pub(crate) struct EmitKeys {
    pub(crate) exchange: Option<Text>,
    pub(crate) key: Option<Text>,
    pub(crate) types: Option<Vec<String>>,
    pub(crate) unroutable: Option<Unroutable>,
    pub(crate) reply: Option<bool>,
}

/// `retry`
#[derive(Debug, Clone, Default)]
pub(crate) struct RetryKeys {
    pub(crate) max: Option<u32>,
    pub(crate) delay: Option<At<Duration>>,
    pub(crate) multiplier: Option<f64>,
    pub(crate) delay_max: Option<At<Duration>>,
    pub(crate) jitter: Option<bool>,
}

/// Where the events of a route come from.
#[derive(Debug)]
pub(crate) enum RouteInput {
    /// `from`: keys on the default exchange, over a queue of the route's own.
    Keys(Vec<Text>),
    /// `queue`
    Queue(Text),
}

/// The plugin or the archive that handles events.
#[derive(Debug, Clone)]
pub(crate) enum RawHandler {
    Plugin(PluginName),
    Archive(RawArchive),
}

/// `schema`: a file, and the version that it is for.
#[derive(Debug)]
pub(crate) struct RawSchemaRule {
    pub(crate) file: Text,
    pub(crate) version: Option<u32>,
}

/// One `[routes.NAME]`. `None` stands for what was reported.
#[derive(Debug)]
pub(crate) struct RawRoute {
    pub(crate) name: Text,
    pub(crate) input: Option<RouteInput>,
    pub(crate) handler: Option<RawHandler>,
    pub(crate) keys: RouteKeys,
    pub(crate) rollout: RolloutKeys,
    pub(crate) schema: Option<RawSchemaRule>,
}

impl RouteKeys {
    pub(super) fn read(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Self {
        Self {
            emit: table.table(cx, &EMIT_TABLE).map(|table| EmitKeys::read(cx, &table)).unwrap_or_default(),
            retry: table.table(cx, &RETRY_TABLE).map(|table| RetryKeys::read(cx, &table)).unwrap_or_default(),
            concurrency: table.integer(cx, &CONCURRENCY).map(|at| at.value),
            hops_max: table.integer(cx, &MAX_HOPS).map(|at| at.value),
            body_max_bytes: table.size(cx, &MAX_BODY).map(|at| at.value),
            flow: FlowKeys::read(cx, table),
        }
    }

    /// The own keys, and those of `[defaults]` where there is none; `emit` and `retry` are merged key by key.
    pub(crate) fn or(self, defaults: &Self) -> Self {
        Self {
            emit: EmitKeys {
                exchange: self.emit.exchange.or_else(|| defaults.emit.exchange.clone()),
                key: self.emit.key.or_else(|| defaults.emit.key.clone()),
                types: self.emit.types.or_else(|| defaults.emit.types.clone()),
                unroutable: self.emit.unroutable.or(defaults.emit.unroutable),
                reply: self.emit.reply.or(defaults.emit.reply),
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
    fn read(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Self {
        Self {
            exchange: table.text(cx, &EMIT_EXCHANGE),
            key: table.text(cx, &EMIT_KEY).filter(|key| check_template(cx, key)),
            types: table.texts(cx, &EMIT_TYPES).map(|types| types.into_iter().map(|text| text.value).collect()),
            unroutable: table.word(cx, &EMIT_UNROUTABLE).map(|at| at.value),
            reply: table.boolean(cx, &EMIT_REPLY),
        }
    }
}

/// `{type}` is the only placeholder, and what is around it is part of a routing key.
fn check_template(cx: &mut ReadContext<'_>, key: &Text) -> bool {
    let fixed = key.value.replace("{type}", "");
    if fixed.contains(['{', '}']) {
        let message = format!("`key` is {}, but {{type}} is the only placeholder of `key`", key.shown());
        cx.error(Code::Template, &key.place, message)
            .help("write a key without placeholders, or write {type} in the key, as in \"orders.{type}\"");
        return false;
    }
    key.name(cx, "routing key", |_| RoutingKey::new(&fixed)).is_some()
}

impl RetryKeys {
    fn read(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Self {
        Self {
            max: table.integer(cx, &RETRY_MAX).map(|at| at.value),
            delay: table.duration(cx, &RETRY_DELAY),
            multiplier: table.number(cx, &RETRY_MULTIPLIER),
            delay_max: table.duration(cx, &RETRY_MAX_DELAY),
            jitter: table.boolean(cx, &RETRY_JITTER),
        }
    }
}

pub(super) fn read(cx: &mut ReadContext<'_>, top: &Table<'_>) -> Vec<RawRoute> {
    let mut routes = Vec::new();
    for (name, table) in top.named(cx, &ROUTES) {
        let handler = RawHandler::read(cx, &table);
        let stable = match &handler {
            Some(RawHandler::Plugin(plugin)) => Some(plugin),
            Some(RawHandler::Archive(_)) | None => None,
        };
        let input = RouteInput::read(cx, &table);
        let keys = RouteKeys::read(cx, &table);
        let rollout = RolloutKeys::read(cx, &table, stable);
        let schema = RawSchemaRule::read(cx, &table);
        routes.push(RawRoute { name, input, handler, keys, rollout, schema });
    }
    routes
}

impl RawHandler {
    /// `plugin` or `archive`.
    fn read(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Option<Self> {
        if !table.has(&ARCHIVE_TABLE) {
            table.require(cx, &PLUGIN, "plugin = \"NAME\"");
            let plugin =
                table.text(cx, &PLUGIN).and_then(|text| text.name(cx, "plugin name", |text| PluginName::new(text)));
            return plugin.map(Self::Plugin);
        }
        let of_plugins: [&dyn Listed; 4] = [&PLUGIN, &EMIT_TABLE, &CANARY_TABLE, &SHADOW_TABLE];
        for key in of_plugins.into_iter().filter(|key| table.has(*key)) {
            let message = format!("{} has `archive`, so `{}` has no effect", table.title, key.name());
            cx.error(Code::BadArchive, &table.key_place(key), message)
                .also(&table.key_place(&ARCHIVE_TABLE), "the archive of the route")
                .help(format!("remove `{}` or `archive`", key.name()));
        }
        RawArchive::read(cx, table).map(Self::Archive)
    }
}

impl RouteInput {
    fn read(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Option<Self> {
        let (keys, queue) = (from(cx, table), table.text(cx, &QUEUE));
        match (table.has(&FROM), table.has(&QUEUE)) {
            (true, true) => {
                let message = format!("{} has both `from` and `queue`", table.title);
                cx.error(Code::FromOrQueue, &table.key_place(&QUEUE), message)
                    .also(&table.key_place(&FROM), "`from` of the route")
                    .help("keep `from` for a queue that only this route uses, or `queue` for a queue of [queues]");
                None
            }
            (false, false) => {
                let message = format!("{} has neither `from` nor `queue`", table.title);
                cx.error(Code::FromOrQueue, &table.place, message).help("write `from = \"KEY\"` or `queue = \"NAME\"`");
                None
            }
            (true, false) => keys.map(Self::Keys),
            (false, true) => queue.map(Self::Queue),
        }
    }
}

/// The keys of `from`. A table with an exchange is a binding, which belongs to `[queues.NAME]`.
fn from(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Option<Vec<Text>> {
    let value = table.value(&FROM)?;
    if value.get_ref().is_table() {
        wrong(cx, FROM.name, value, "a string or a list of strings")
            .help("write `queue = \"NAME\"` instead of `from`, and write the exchange and the keys as `bind` in [queues.NAME]");
        return None;
    }
    table.texts(cx, &FROM)
}

impl RawSchemaRule {
    /// `"schemas/call-ended.json"`, or `{ file = "schemas/call-ended.json", version = 1 }`.
    fn read(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Option<Self> {
        let value = table.value(&SCHEMA)?;
        let Some(inner) = table.form(cx, &SCHEMA) else {
            return text(cx, SCHEMA.name, value, "a string").map(|file| Self { file, version: None });
        };
        inner.require(cx, &SCHEMA_FILE, "file = \"schemas/NAME.json\"");
        let version = inner.integer(cx, &SCHEMA_VERSION).map(|at| at.value);
        Some(Self { file: inner.text(cx, &SCHEMA_FILE)?, version })
    }
}
