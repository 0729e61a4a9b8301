//! `[defaults]`.

use super::exchange::RawDefaultExchange;
use super::plugin::LimitKeys;
use super::queue::{QueueKeys, RawTarget};
use super::route::RouteKeys;
use crate::diagnostics::codes::Code;
use crate::keys::defaults::LIMITS_TABLE;
use crate::keys::plugins::limits::LIMIT_KEYS;
use crate::keys::top::DEFAULTS_TABLE;
use crate::parse::context::ReadContext;
use crate::parse::table::Table;

/// Defaults of queues, routes and plugins.
#[derive(Debug, Default)]
pub(crate) struct RawDefaults {
    pub(crate) exchange: RawDefaultExchange,
    pub(crate) queue: QueueKeys<RawTarget>,
    pub(crate) route: RouteKeys,
    pub(crate) limits: LimitKeys,
}

impl RawDefaults {
    pub(super) fn read(cx: &mut ReadContext<'_>, top: &Table<'_>) -> Self {
        let Some(table) = top.table(cx, &DEFAULTS_TABLE) else { return Self::default() };
        Self {
            exchange: RawDefaultExchange::read(cx, &table),
            queue: QueueKeys::read(cx, &table),
            route: RouteKeys::read(cx, &table),
            limits: limits(cx, &table),
        }
    }
}

/// Each limit stands in the table itself or in `limits`, but not in both.
fn limits(cx: &mut ReadContext<'_>, table: &Table<'_>) -> LimitKeys {
    let beside = LimitKeys::read(cx, table);
    let Some(limits) = table.table(cx, &LIMITS_TABLE) else { return beside };
    for key in LIMIT_KEYS.iter().filter(|key| limits.has(**key) && table.has(**key)) {
        cx.error(
            Code::TwoTypes,
            &table.key_place(*key),
            format!("`{}` is both in [defaults] and in `limits` of [defaults]", key.name()),
        )
        .also(&limits.key_place(*key), "the other value")
        .help("remove one of the two values");
    }
    LimitKeys::read(cx, &limits).or(beside)
}
