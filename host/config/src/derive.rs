//! Checked routes: where emissions go, which steps a retry takes, where dead letters end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check_exchanges::Exchanges;
use super::check_routes::{EmitKeys, RawRoute, RetryKeys};
use super::checked::ExchangeKind;
use super::checked_routes::{Emit, Handler, Retry, RetryStep, Route, Unroutable};
use super::codes::Code;
use super::topology::Derived;
use super::values::show_duration;
use super::walk::{Context, Text};
use trunkline_event::{ExchangeName, QueueName, RouteName};

const CONCURRENCY: u16 = 16;
/// Events in work at a time are a batch at most.
const ARCHIVE_CONCURRENCY: u16 = 256;
const HOPS_MAX: u32 = 16;
const BODY_MAX_BYTES: u64 = 1024 * 1024;
const RETRIES_MAX: u32 = 5;
const RETRY_DELAY: Duration = Duration::from_secs(1);
const RETRY_MULTIPLIER: f64 = 2.0;
const RETRY_DELAY_MAX: Duration = Duration::from_secs(300);
/// Jitter makes a wait longer by up to this part of it.
const JITTER_SHARE: u32 = 4;

/// Checks all routes that have a queue, and adds their retry queues to `derived`.
pub(super) fn routes(
    cx: &mut Context<'_>,
    exchanges: &Exchanges,
    derived: &mut Derived,
    raw: Vec<RawRoute>,
    native_delay: bool,
) -> BTreeMap<RouteName, Route> {
    let mut routes = BTreeMap::new();
    for raw in raw {
        let Some(queue) = derived.consumed.get(&raw.name).cloned() else { continue };
        let emit = emit(cx, exchanges, derived, &queue, &raw.keys.emit);
        let retry = retry(cx, derived, &queue, &raw, native_delay);
        let mut waiting = None;
        if raw.keys.flow.order_by.is_some() {
            if let Some(queue) = derived.queues.get_mut(&queue) {
                queue.single_consumer = true;
            }
            waiting = list(cx, derived, &queue, &raw);
            if waiting.is_none() {
                continue;
            }
        }
        let dead_letter = derived.queues.get(&queue).and_then(|queue| queue.dead_letter.clone());
        let (Some(emit), Some(dead_letter)) = (emit, dead_letter) else { continue };
        let concurrency = raw.keys.concurrency.unwrap_or(match &raw.handler {
            Handler::Plugin(_) => CONCURRENCY,
            Handler::Archive(_) => ARCHIVE_CONCURRENCY,
        });
        let body_max = raw.keys.body_max_bytes.unwrap_or(BODY_MAX_BYTES);
        let route = Route {
            queue,
            handler: raw.handler,
            schema: raw.schema,
            emit,
            retry,
            dead_letter,
            concurrency,
            hops_max: raw.keys.hops_max.unwrap_or(HOPS_MAX),
            body_max_bytes: usize::try_from(body_max).unwrap_or(usize::MAX),
            dedupe: raw.keys.flow.dedupe,
            order_by: raw.keys.flow.order_by,
            waiting,
            rate: raw.keys.flow.rate,
            tenant: raw.keys.flow.tenant,
            circuit: raw.keys.flow.circuit,
            canary: raw.rollout.canary,
            shadow: raw.rollout.shadow,
        };
        routes.insert(raw.name, route);
    }
    routes
}

/// Emissions go to the exchange that feeds the route, if it is only one, else to the default one.
fn emit(
    cx: &mut Context<'_>,
    exchanges: &Exchanges,
    derived: &Derived,
    queue: &QueueName,
    keys: &EmitKeys,
) -> Option<Emit> {
    let exchange = match &keys.exchange {
        Some(text) if text.value.is_empty() => ExchangeName::default_exchange(),
        Some(text) => exchanges.resolve(cx, text)?,
        None => {
            let mut fed = derived.bindings.iter().filter(|binding| binding.queue == *queue).map(|one| &one.exchange);
            match fed.next() {
                Some(first) if fed.all(|other| other == first) => first.clone(),
                Some(_) | None => exchanges.default.clone(),
            }
        }
    };
    let unroutable = keys.unroutable.unwrap_or(match exchanges.by_name.get(&exchange).map(|exchange| exchange.kind) {
        // Somebody was addressed who is not there.
        Some(ExchangeKind::Direct) | None => Unroutable::Retry,
        Some(ExchangeKind::Topic | ExchangeKind::Fanout | ExchangeKind::Headers) => Unroutable::Accept,
    });
    let key = keys.key.as_ref().map_or_else(|| "{type}".to_owned(), |key| key.value.clone());
    Some(Emit { exchange, key, types: keys.types.clone(), unroutable })
}

/// The steps of a route. On an ordered one they share the first one's queue, without jitter: what waits must come back
/// in the order in which it went, and the time that is still missing is waited in further rounds.
fn retry(cx: &mut Context<'_>, derived: &mut Derived, queue: &QueueName, raw: &RawRoute, native_delay: bool) -> Retry {
    let max = raw.keys.retry.max.unwrap_or(RETRIES_MAX);
    let is_ordered = raw.keys.flow.order_by.is_some();
    let has_jitter = raw.keys.retry.jitter.unwrap_or(true) && !is_ordered;
    let all = delays(cx, max, &raw.keys.retry);
    let first = all.first().copied().or(is_ordered.then_some(RETRY_DELAY));
    let mut steps = Vec::new();
    for delay in all {
        let spread = if has_jitter { delay / JITTER_SHARE } else { Duration::ZERO };
        let held = if is_ordered { vec![first.unwrap_or(delay)] } else { vec![delay, delay + spread] };
        let held = if native_delay { Vec::new() } else { held };
        let Some(queues) = hold(cx, derived, queue, raw, held) else { break };
        steps.push(RetryStep { delay, spread, queues });
    }
    Retry { max, steps }
}

/// Sees to the queue that lists the events of an ordered route that wait.
fn list(cx: &mut Context<'_>, derived: &mut Derived, queue: &QueueName, raw: &RawRoute) -> Option<QueueName> {
    let text = Text { value: format!("{queue}.waiting"), place: raw.place.clone(), literal: true };
    let name = text.name(cx, |text| QueueName::new(text))?;
    if !derived.list(&name) {
        let message =
            format!("the queue \"{name}\", which lists what waits on this route, is described as another queue");
        cx.error(Code::TakenQueue, &raw.place, message).help(format!("rename [queues.\"{name}\"]"));
        return None;
    }
    Some(name)
}

/// Sees to the queues that hold messages for the given times.
fn hold(
    cx: &mut Context<'_>,
    derived: &mut Derived,
    queue: &QueueName,
    raw: &RawRoute,
    delays: Vec<Duration>,
) -> Option<Vec<QueueName>> {
    let mut queues: Vec<QueueName> = Vec::new();
    for delay in delays {
        let text = format!("{queue}.retry.{}", delay.as_millis());
        let text = Text { value: text, place: raw.place.clone(), literal: true };
        let name = text.name(cx, |text| QueueName::new(text))?;
        if queues.contains(&name) {
            continue;
        }
        if !derived.hold(queue, &name, delay) {
            let message = format!("the retry queue \"{name}\" of this route is described as another queue");
            cx.error(Code::TakenQueue, &raw.place, message).help(format!("rename [queues.\"{name}\"]"));
            return None;
        }
        queues.push(name);
    }
    Some(queues)
}

/// One delay a retry, in whole milliseconds.
fn delays(cx: &mut Context<'_>, max: u32, keys: &RetryKeys) -> Vec<Duration> {
    let delay_max = keys.delay_max.as_ref().map_or(RETRY_DELAY_MAX, |at| at.value);
    let first = keys.delay.as_ref().map_or(RETRY_DELAY, |at| at.value);
    if first > delay_max {
        let message =
            format!("`delay` is {}, more than `max-delay` ({})", show_duration(first), show_duration(delay_max));
        if let Some(at) = keys.delay.as_ref().or(keys.delay_max.as_ref()) {
            cx.error(Code::OutOfBounds, &at.place, message).help("set `max-delay` to at least `delay`");
        }
    }
    let multiplier = keys.multiplier.unwrap_or(RETRY_MULTIPLIER);
    let step = |retry: i32| {
        let seconds = (first.as_secs_f64() * multiplier.powi(retry)).min(delay_max.as_secs_f64());
        let exact = Duration::from_secs_f64(seconds);
        // To the nearest millisecond, which is AMQP's unit, and never 0.
        let ms = (exact + Duration::from_micros(500)).as_millis().max(1);
        Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
    };
    (0..i32::try_from(max).unwrap_or(i32::MAX)).map(step).collect()
}
