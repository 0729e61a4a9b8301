//! Canaries and shadows.

use metrics::{counter, gauge};
use tracing::{info, warn};

use trunkline_event::RouteName;

/// A message went to the canary. `result`: `good`, `slow`, `bad` or `both` (both plugins failed).
pub fn canary_seen(route: &RouteName, result: &'static str) {
    counter!("trunkline_canary_messages_total", "route" => route.to_string(), "result" => result).increment(1);
}

/// A trial begins.
pub fn rollout_begun(route: &RouteName, stable: &str, canary: &str) {
    gauge!("trunkline_rollout_state", "route" => route.to_string()).set(0.0);
    info!(%route, stable, canary, "canary on trial");
}

/// A trial ended: the canary gets everything, or nothing.
pub fn rollout_ended(route: &RouteName, promoted: bool, reason: &str) {
    gauge!("trunkline_rollout_state", "route" => route.to_string()).set(if promoted { 1.0 } else { -1.0 });
    if promoted {
        info!(%route, reason, "canary promoted: it gets every event; name it as the route's plugin now");
    } else {
        warn!(%route, reason, "canary rolled back: it gets nothing more");
    }
}

/// A shadow's answer was compared; `fields` are those that differ.
pub fn shadow_compared(route: &RouteName, event: &str, fields: &[&'static str]) {
    // Who sees that it was compared sees what differs too.
    for field in fields {
        counter!("trunkline_shadow_mismatches_total", "route" => route.to_string(), "field" => *field).increment(1);
    }
    let result = if fields.is_empty() { "same" } else { "different" };
    counter!("trunkline_shadow_compared_total", "route" => route.to_string(), "result" => result).increment(1);
    if !fields.is_empty() {
        tracing::debug!(%route, event, ?fields, "the shadow's answer differs");
    }
}

/// A shadow was left out, because too many of its calls run.
pub fn shadow_skipped(route: &RouteName) {
    counter!("trunkline_shadow_compared_total", "route" => route.to_string(), "result" => "skipped").increment(1);
}
