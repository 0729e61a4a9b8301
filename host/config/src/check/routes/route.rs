//! Routes with their queues, emissions and retries.

use std::collections::BTreeMap;

use super::retry;
use super::settings::RouteSettings;
use crate::check::topology::derived::Derived;
use crate::check::topology::exchanges::Exchanges;
use crate::diagnostics::codes::Code;
use crate::keys::routes::route::{ARCHIVE_CONCURRENCY, CONCURRENCY, EMIT_KEY, EMIT_REPLY, MAX_BODY, MAX_HOPS};
use crate::model::broker::topology::ExchangeKind;
use crate::model::routes::route::{Emit, Handler, Route, Unroutable};
use crate::parse::context::{ReadContext, Text};
use crate::parse::raw::route::EmitKeys;
use trunkline_event::{ExchangeName, QueueName, RouteName};

/// Checks all routes that have a queue, and adds the waiting lists of ordered routes to `derived`.
pub(crate) fn check(
    cx: &mut ReadContext<'_>,
    exchanges: &Exchanges,
    derived: &mut Derived,
    settings: Vec<RouteSettings>,
) -> BTreeMap<RouteName, Route> {
    let mut routes = BTreeMap::new();
    for settings in settings {
        let Some(queue) = derived.consumed.get(&settings.name).cloned() else { continue };
        let emit = emit(cx, exchanges, derived, &queue, &settings.keys.emit);
        let retry = retry::check(cx, &settings);
        let mut waiting = None;
        if settings.keys.flow.order_by.is_some() {
            derived.consume_alone(cx, &queue, &settings.place);
            waiting = list(cx, derived, &queue, &settings);
            if waiting.is_none() {
                continue;
            }
        }
        let dead_letter = derived.queues.get(&queue).and_then(|queue| queue.dead_letter.clone());
        let (Some(emit), Some(dead_letter)) = (emit, dead_letter) else { continue };
        let RouteSettings { name, handler, keys, rollout, schema, .. } = settings;
        let concurrency = keys.concurrency.unwrap_or(match &handler {
            Handler::Plugin(_) => CONCURRENCY.fallback(),
            Handler::Archive(_) => ARCHIVE_CONCURRENCY,
        });
        let body_max = keys.body_max_bytes.unwrap_or(MAX_BODY.fallback());
        let route = Route {
            queue,
            handler,
            schema,
            emit,
            retry,
            dead_letter,
            concurrency,
            hops_max: keys.hops_max.unwrap_or(MAX_HOPS.fallback()),
            body_max_bytes: usize::try_from(body_max).unwrap_or(usize::MAX),
            dedupe: keys.flow.dedupe,
            order_by: keys.flow.order_by,
            waiting,
            rate: keys.flow.rate,
            tenant: keys.flow.tenant,
            circuit: keys.flow.circuit,
            canary: rollout.canary,
            shadow: rollout.shadow,
        };
        routes.insert(name, route);
    }
    routes
}

/// Emissions go to the exchange that feeds the route, if there is only one, else to the default exchange.
fn emit(
    cx: &mut ReadContext<'_>,
    exchanges: &Exchanges,
    derived: &Derived,
    queue: &QueueName,
    keys: &EmitKeys,
) -> Option<Emit> {
    let exchange = match &keys.exchange {
        Some(text) if text.value.is_empty() => ExchangeName::default_exchange(),
        Some(text) => exchanges.resolve(cx, text)?,
        None => {
            let mut feeding =
                derived.bindings.iter().filter(|binding| binding.queue == *queue).map(|one| &one.exchange);
            match feeding.next() {
                Some(first) if feeding.all(|other| other == first) => first.clone(),
                Some(_) | None => exchanges.default.clone(),
            }
        }
    };
    let unroutable = keys.unroutable.unwrap_or(match exchanges.by_name.get(&exchange).map(|exchange| exchange.kind) {
        // An emission to a direct exchange addresses a queue, which is missing.
        Some(ExchangeKind::Direct) | None => Unroutable::Retry,
        Some(ExchangeKind::Topic | ExchangeKind::Fanout | ExchangeKind::Headers) => Unroutable::Accept,
    });
    let default_key = EMIT_KEY.value.default.unwrap_or_default();
    let key = keys.key.as_ref().map_or_else(|| default_key.to_owned(), |key| key.value.clone());
    let reply = keys.reply.unwrap_or(EMIT_REPLY.fallback());
    Some(Emit { exchange, key, types: keys.types.clone(), unroutable, reply })
}

/// Adds the queue that lists the events of an ordered route that wait.
fn list(
    cx: &mut ReadContext<'_>,
    derived: &mut Derived,
    queue: &QueueName,
    route: &RouteSettings,
) -> Option<QueueName> {
    let text = Text { value: format!("{queue}.waiting"), place: route.place.clone(), literal: true };
    let name = text.name(cx, "queue name", |text| QueueName::new(text))?;
    if !derived.list(&name) {
        let message = format!("the waiting list of this route and a queue of [queues] have the same name \"{name}\"");
        cx.error(Code::TakenQueue, &route.place, message).help(format!("rename [queues.\"{name}\"]"));
        return None;
    }
    Some(name)
}
