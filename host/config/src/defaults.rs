//! `[defaults]`: what queues, routes and plugins take when they say nothing themselves, with the environment laid over.

use super::check_exchanges::{CODECS, DefaultExchange, Exchanges};
use super::check_plugins::{LIMIT_KEYS, LimitKeys};
use super::check_queues::QueueKeys;
use super::check_routes::RouteKeys;
use super::checked::Codec;
use super::codes::Code;
use super::environment::Overlay;
use super::walk::{Context, Table};
use super::{check_queues, check_routes};

/// The table after its keys were checked; read part by part, because queues need exchanges and those need this.
pub(super) struct Defaults<'t>(Option<Table<'t>>);

impl<'t> Defaults<'t> {
    pub(super) fn open(cx: &mut Context<'_>, top: &Table<'t>) -> Self {
        let table = top.table(cx, "defaults");
        if let Some(table) = &table {
            let known =
                [check_queues::KEYS.as_slice(), &check_routes::KEYS, &LIMIT_KEYS, &["limits", "exchange"]].concat();
            table.check_keys(cx, &known, &check_routes::LATER);
        }
        Self(table)
    }

    pub(super) fn exchange(&self, cx: &mut Context<'_>) -> DefaultExchange {
        self.0.as_ref().map(|table| DefaultExchange::read(cx, table)).unwrap_or_default()
    }

    /// Silent about a wrong word, because the queue's keys are read from the same table.
    pub(super) fn codec(&self) -> Option<Codec> {
        let written = self.0.as_ref()?.value("codec")?.get_ref().as_str()?;
        CODECS.iter().find(|(word, _)| *word == written).map(|(_, codec)| *codec)
    }

    pub(super) fn queue(&self, cx: &mut Context<'_>, exchanges: &Exchanges, overlay: &Overlay) -> QueueKeys {
        let read = self.0.as_ref().map(|table| QueueKeys::read(cx, table, exchanges)).unwrap_or_default();
        QueueKeys {
            ttl: overlay.ttl.as_ref().map(|ttl| ttl.value).or(read.ttl),
            max_length: overlay.max_length.as_ref().map(|length| length.value).or(read.max_length),
            prefetch: overlay.prefetch.as_ref().map(|prefetch| prefetch.value).or(read.prefetch),
            ..read
        }
    }

    pub(super) fn route(&self, cx: &mut Context<'_>, overlay: &Overlay) -> RouteKeys {
        let read = self.0.as_ref().map(|table| RouteKeys::read(cx, table)).unwrap_or_default();
        RouteKeys { concurrency: overlay.concurrency.as_ref().map(|count| count.value).or(read.concurrency), ..read }
    }

    /// The five limits stand in the table itself or in `limits`, but none in both.
    pub(super) fn limits(&self, cx: &mut Context<'_>) -> LimitKeys {
        let Some(table) = &self.0 else { return LimitKeys::default() };
        let (beside, inside) = (LimitKeys::read(cx, table), LimitKeys::read_table(cx, table));
        let limits = table.value("limits").and_then(|value| Table::inline(value, "`limits`"));
        for key in LIMIT_KEYS {
            if let Some(limits) = limits.as_ref().filter(|limits| limits.has(key) && table.has(key)) {
                cx.error(Code::TwoTypes, &table.key_place(key), format!("`{key}` is in [defaults] twice"))
                    .also(&limits.key_place(key), "and this here")
                    .help("keep one");
            }
        }
        inside.or(beside)
    }
}
