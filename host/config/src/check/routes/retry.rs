//! The retry steps of a route. The broker holds the copies back, so a step needs no queue.

use std::time::Duration;

use super::settings::RouteSettings;
use crate::diagnostics::codes::Code;
use crate::keys::routes::route::{RETRY_DELAY, RETRY_JITTER, RETRY_MAX, RETRY_MAX_DELAY, RETRY_MULTIPLIER};
use crate::model::routes::route::{Retry, RetryStep};
use crate::parse::context::ReadContext;
use crate::parse::raw::route::RetryKeys;
use crate::quantity::show_duration;

/// Jitter makes a wait longer by up to this part of it. RabbitMQ's delay queues round a wait up by up to a sixteenth, so that a
/// wait is at most a quarter longer.
const JITTER_SHARE: u32 = 8;

/// The steps of a route. An ordered route has no jitter, because its copies come back in rounds of the first delay.
pub(super) fn check(cx: &mut ReadContext<'_>, route: &RouteSettings) -> Retry {
    let keys = &route.keys.retry;
    let max = keys.max.unwrap_or(RETRY_MAX.fallback());
    let is_ordered = route.keys.flow.order_by.is_some();
    let has_jitter = keys.jitter.unwrap_or(RETRY_JITTER.fallback()) && !is_ordered;
    let step =
        |delay: Duration| RetryStep { delay, spread: if has_jitter { delay / JITTER_SHARE } else { Duration::ZERO } };
    Retry { max, steps: delays(cx, max, keys).into_iter().map(step).collect() }
}

/// One delay a retry, in whole milliseconds.
fn delays(cx: &mut ReadContext<'_>, max: u32, keys: &RetryKeys) -> Vec<Duration> {
    let delay_max = keys.delay_max.as_ref().map_or(RETRY_MAX_DELAY.fallback(), |at| at.value);
    let first = keys.delay.as_ref().map_or(RETRY_DELAY.fallback(), |at| at.value);
    if first > delay_max {
        let message = format!(
            "`delay` is {}, but must be at most `max-delay`, which is {}",
            show_duration(first),
            show_duration(delay_max)
        );
        if let Some(at) = keys.delay.as_ref().or(keys.delay_max.as_ref()) {
            cx.error(Code::OutOfBounds, &at.place, message).help(format!(
                "write at most `delay = \"{}\"`, or at least `max-delay = \"{}\"`",
                show_duration(delay_max),
                show_duration(first)
            ));
        }
    }
    let multiplier = keys.multiplier.unwrap_or(RETRY_MULTIPLIER.fallback());
    let step = |retry: i32| {
        let seconds = (first.as_secs_f64() * multiplier.powi(retry)).min(delay_max.as_secs_f64());
        let exact = Duration::from_secs_f64(seconds);
        // To the nearest millisecond, which is AMQP's unit, and never 0.
        let ms = (exact + Duration::from_micros(500)).as_millis().max(1);
        Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
    };
    (0..i32::try_from(max).unwrap_or(i32::MAX)).map(step).collect()
}
