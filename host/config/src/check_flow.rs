//! The keys of a route that say when and in which order events run: `dedupe`, `order-by`, `rate`,
//! `tenant`, `circuit`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::checked_routes::{CircuitBreaker, DedupeWindow, OrderBy, Rate, Tenant};
use super::codes::Code;
use super::values;
use super::walk::{Context, Table};

const WINDOW: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(30 * 24 * 3600);
/// Every remembered id is a record on disk.
const IDS: RangeInclusive<u32> = 1..=100_000_000;
pub(super) const IDS_MAX: u32 = 1_000_000;
const FAILURES: RangeInclusive<u32> = 1..=1_000_000;
const CIRCUIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
const CIRCUIT_FAILURES: u32 = 10;
const CIRCUIT_WINDOW: Duration = Duration::from_secs(60);
const CIRCUIT_PAUSE: Duration = Duration::from_secs(30);
const ORDER_HELP: &str = "write \"tenant\", \"user\", \"subject\", \"type\", \"source\", \"routing-key\", \"attributes.NAME\" or \"data.FIELD\"";

/// What one table says; every key may be absent.
#[derive(Debug, Clone, Default)]
pub(super) struct FlowKeys {
    pub(super) dedupe: Option<DedupeWindow>,
    pub(super) order_by: Option<OrderBy>,
    pub(super) rate: Option<Rate>,
    pub(super) tenant: Option<Tenant>,
    pub(super) circuit: Option<CircuitBreaker>,
}

impl FlowKeys {
    pub(super) fn read(cx: &mut Context<'_>, table: &Table<'_>) -> Self {
        Self {
            dedupe: dedupe(cx, table),
            order_by: order_by(cx, table),
            rate: rate(cx, table),
            tenant: tenant(cx, table),
            circuit: circuit(cx, table),
        }
    }

    pub(super) fn or(self, defaults: &Self) -> Self {
        Self {
            dedupe: self.dedupe.or(defaults.dedupe),
            order_by: self.order_by.or_else(|| defaults.order_by.clone()),
            rate: self.rate.or(defaults.rate),
            tenant: self.tenant.or_else(|| defaults.tenant.clone()),
            circuit: self.circuit.or(defaults.circuit),
        }
    }
}

/// `"10m"`, or `{window = "10m", max = 1000000}`.
pub(super) fn dedupe(cx: &mut Context<'_>, table: &Table<'_>) -> Option<DedupeWindow> {
    let value = table.value("dedupe")?;
    let Some(inner) = Table::inline(value, "`dedupe`") else {
        let window = table.duration(cx, "dedupe", &WINDOW)?.value;
        return Some(DedupeWindow { window, max: IDS_MAX });
    };
    inner.check_keys(cx, &["window", "max"], &[]);
    inner.require(cx, "window", "window = \"10m\"");
    let max = inner.integer(cx, "max", IDS).map_or(IDS_MAX, |at| at.value);
    Some(DedupeWindow { window: inner.duration(cx, "window", &WINDOW)?.value, max })
}

fn order_by(cx: &mut Context<'_>, table: &Table<'_>) -> Option<OrderBy> {
    key(cx, table, "order-by")
}

/// What of an event is its key.
pub(super) fn key(cx: &mut Context<'_>, table: &Table<'_>, name: &str) -> Option<OrderBy> {
    let text = table.text(cx, name)?;
    let order = match text.value.as_str() {
        "tenant" => Some(OrderBy::Tenant),
        "user" => Some(OrderBy::User),
        "subject" => Some(OrderBy::Subject),
        "type" => Some(OrderBy::Type),
        "source" => Some(OrderBy::Source),
        "routing-key" => Some(OrderBy::RoutingKey),
        other => match other.split_once('.') {
            Some(("attributes", name)) if !name.is_empty() => Some(OrderBy::Attribute(name.to_owned())),
            Some(("data", path)) if path.split('.').all(|part| !part.is_empty()) => {
                Some(OrderBy::Data(path.split('.').map(str::to_owned).collect()))
            }
            Some(_) | None => None,
        },
    };
    if order.is_none() {
        let message = format!("`{name}` is {}, which names nothing of an event", text.shown());
        cx.error(Code::UnknownWord, &text.place, message).help(ORDER_HELP);
    }
    order
}

/// `"100/s"`, `"600/m"`, `"10/h"`.
fn rate(cx: &mut Context<'_>, table: &Table<'_>) -> Option<Rate> {
    let text = table.text(cx, "rate")?;
    match values::rate(&text.value) {
        Ok((events, per)) => Some(Rate { events, per }),
        Err(problem) => {
            cx.error(Code::BadDuration, &text.place, format!("`rate` {problem}"));
            None
        }
    }
}

/// `"data.instance"`, or `{by = "data.instance", rate = "20/s"}`.
fn tenant(cx: &mut Context<'_>, table: &Table<'_>) -> Option<Tenant> {
    let value = table.value("tenant")?;
    let Some(inner) = Table::inline(value, "`tenant`") else {
        return Some(Tenant { by: key(cx, table, "tenant")?, rate: None });
    };
    inner.check_keys(cx, &["by", "rate"], &[]);
    let by = if inner.has("by") { key(cx, &inner, "by")? } else { OrderBy::Tenant };
    let tenant = Tenant { by, rate: rate(cx, &inner) };
    if tenant.rate.is_some() && table.has("order-by") {
        let message = format!("{} has both `order-by` and a rate for each tenant", table.title);
        cx.error(Code::OrderedTenants, &inner.key_place("rate"), message)
            .also(&table.key_place("order-by"), "and this here")
            .help("keep one of them");
    }
    Some(tenant)
}

fn circuit(cx: &mut Context<'_>, table: &Table<'_>) -> Option<CircuitBreaker> {
    let inner = table.table(cx, "circuit")?;
    inner.check_keys(cx, &["failures", "window", "pause"], &[]);
    Some(CircuitBreaker {
        failures: inner.integer(cx, "failures", FAILURES).map_or(CIRCUIT_FAILURES, |at| at.value),
        window: inner.duration(cx, "window", &CIRCUIT).map_or(CIRCUIT_WINDOW, |at| at.value),
        pause: inner.duration(cx, "pause", &CIRCUIT).map_or(CIRCUIT_PAUSE, |at| at.value),
    })
}
