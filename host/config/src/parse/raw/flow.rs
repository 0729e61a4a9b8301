//! The keys of a route that say when and in which order events run.

use crate::diagnostics::codes::Code;
use crate::keys::key::{self, Forms, Key};
use crate::keys::routes::flow::{
    CIRCUIT, CIRCUIT_FAILURES, CIRCUIT_PAUSE, CIRCUIT_WINDOW, DEDUPE, IDS, ORDER_BY, RATE, TENANT, TENANT_BY,
    TENANT_RATE, WINDOW,
};
use crate::model::routes::flow::{CircuitBreaker, DedupeWindow, OrderBy, Rate, Tenant};
use crate::parse::context::{ReadContext, Text};
use crate::parse::table::{Table, duration};
use crate::parse::value::text;
use crate::quantity;

const ORDER_HELP: &str = "write \"tenant\", \"user\", \"subject\", \"type\", \"source\", \"routing-key\", \"attributes.NAME\" or \"data.FIELD\"";

/// The keys of one table; every key may be absent.
#[derive(Debug, Clone, Default)]
pub(crate) struct FlowKeys {
    pub(crate) dedupe: Option<DedupeWindow>,
    pub(crate) order_by: Option<OrderBy>,
    pub(crate) rate: Option<Rate>,
    pub(crate) tenant: Option<Tenant>,
    pub(crate) circuit: Option<CircuitBreaker>,
}

impl FlowKeys {
    pub(super) fn read(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Self {
        Self {
            dedupe: dedupe(cx, table, &DEDUPE),
            order_by: event_field(cx, table, &ORDER_BY),
            rate: rate(cx, table, &RATE),
            tenant: tenant(cx, table),
            circuit: circuit(cx, table),
        }
    }

    /// The own keys, and those of `[defaults]` where there is none.
    pub(crate) fn or(self, defaults: &Self) -> Self {
        Self {
            dedupe: self.dedupe.or(defaults.dedupe),
            order_by: self.order_by.or_else(|| defaults.order_by.clone()),
            rate: self.rate.or(defaults.rate),
            tenant: self.tenant.or_else(|| defaults.tenant.clone()),
            circuit: self.circuit.or(defaults.circuit),
        }
    }
}

/// `"10m"`, or `{ window = "10m", max = 1000000 }`.
pub(super) fn dedupe(cx: &mut ReadContext<'_>, table: &Table<'_>, key: &'static Key<Forms>) -> Option<DedupeWindow> {
    let value = table.value(key)?;
    let Some(inner) = table.form(cx, key) else {
        let window = duration(cx, key.name, value, &WINDOW)?.value;
        return Some(DedupeWindow { window, max: IDS.fallback() });
    };
    inner.require(cx, &WINDOW, "window = \"10m\"");
    let max = inner.integer(cx, &IDS).map_or(IDS.fallback(), |at| at.value);
    Some(DedupeWindow { window: inner.duration(cx, &WINDOW)?.value, max })
}

/// A part of an event, as `order-by` names it.
pub(super) fn event_field(
    cx: &mut ReadContext<'_>,
    table: &Table<'_>,
    key: &'static Key<key::TextValue>,
) -> Option<OrderBy> {
    let text = table.text(cx, key)?;
    order_by(cx, key.name, &text)
}

fn order_by(cx: &mut ReadContext<'_>, name: &str, text: &Text) -> Option<OrderBy> {
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
        let message = format!("`{name}` is {}, which is not a field of an event", text.shown());
        cx.error(Code::UnknownWord, &text.place, message).help(ORDER_HELP);
    }
    order
}

/// `"100/s"`, `"600/m"`, `"10/h"`.
fn rate(cx: &mut ReadContext<'_>, table: &Table<'_>, key: &'static Key<key::TextValue>) -> Option<Rate> {
    let text = table.text(cx, key)?;
    match quantity::rate(&text.value) {
        Ok((events, per)) => Some(Rate { events, per }),
        Err(problem) => {
            cx.problem(Code::BadDuration, &text.place, &format!("`{}`: {}", key.name, text.shown()), &problem);
            None
        }
    }
}

/// `"data.instance"`, or `{ by = "data.instance", rate = "20/s" }`.
fn tenant(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Option<Tenant> {
    let value = table.value(&TENANT)?;
    let Some(inner) = table.form(cx, &TENANT) else {
        let text = text(cx, TENANT.name, value, "a string")?;
        return Some(Tenant { by: order_by(cx, TENANT.name, &text)?, rate: None });
    };
    let by = if inner.has(&TENANT_BY) { event_field(cx, &inner, &TENANT_BY)? } else { OrderBy::Tenant };
    let tenant = Tenant { by, rate: rate(cx, &inner, &TENANT_RATE) };
    if tenant.rate.is_some() && table.has(&ORDER_BY) {
        let message = format!("{} has `order-by`, so `tenant` cannot have `rate`", table.title);
        cx.error(Code::OrderedTenants, &inner.key_place(&TENANT_RATE), message)
            .also(&table.key_place(&ORDER_BY), "the order of the route")
            .help("remove `order-by`, or remove `rate` from `tenant`");
    }
    Some(tenant)
}

fn circuit(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Option<CircuitBreaker> {
    let inner = table.table(cx, &CIRCUIT)?;
    Some(CircuitBreaker {
        failures: inner.integer(cx, &CIRCUIT_FAILURES).map_or(CIRCUIT_FAILURES.fallback(), |at| at.value),
        window: inner.duration(cx, &CIRCUIT_WINDOW).map_or(CIRCUIT_WINDOW.fallback(), |at| at.value),
        pause: inner.duration(cx, &CIRCUIT_PAUSE).map_or(CIRCUIT_PAUSE.fallback(), |at| at.value),
    })
}
