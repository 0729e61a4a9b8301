//! Canaries and shadows.

use metrics::{counter, gauge};
use tracing::{info, warn};
use trunkline_event::RouteName;

/// The counters of a route with a canary begin at 0.
pub fn canary_loaded(route: &RouteName) {
    for result in ["good", "slow", "bad", "both"] {
        counter!("trunkline_canary_messages_total", "route" => route.to_string(), "result" => result).absolute(0);
    }
}

/// The counters of a route with a shadow begin at 0.
pub fn shadow_loaded(route: &RouteName) {
    for result in ["same", "different", "skipped"] {
        counter!("trunkline_shadow_compared_total", "route" => route.to_string(), "result" => result).absolute(0);
    }
}

/// An event went to the canary. `result` is `good`, `slow`, `bad` or `both` (both plugins failed).
pub fn canary_seen(route: &RouteName, result: &'static str) {
    counter!("trunkline_canary_messages_total", "route" => route.to_string(), "result" => result).increment(1);
}

/// A trial begins.
pub fn rollout_begun(route: &RouteName, stable: &str, canary: &str) {
    gauge!("trunkline_rollout_state", "route" => route.to_string()).set(0.0);
    info!(%route, stable, canary, "the trial of a canary began; the canary handles a share of the events");
}

/// A trial ended: the canary gets every event.
pub fn rollout_promoted(route: &RouteName, reason: &str) {
    gauge!("trunkline_rollout_state", "route" => route.to_string()).set(1.0);
    info!(%route, reason, "the canary is promoted and handles every event; set `plugin` of the route to the canary in routes.toml");
}

/// A trial ended: the canary gets no event.
pub fn rollout_rolled_back(route: &RouteName, reason: &str) {
    gauge!("trunkline_rollout_state", "route" => route.to_string()).set(-1.0);
    warn!(%route, reason, "the canary is rolled back; the stable plugin handles every event");
}

/// The emissions of a shadow were compared. `fields` are the fields that differ.
pub fn shadow_compared(route: &RouteName, event: &str, fields: &[&'static str]) {
    // The differences are counted first: a scrape that shows the comparison shows its differences too.
    for field in fields {
        counter!("trunkline_shadow_mismatches_total", "route" => route.to_string(), "field" => *field).increment(1);
    }
    let result = if fields.is_empty() { "same" } else { "different" };
    counter!("trunkline_shadow_compared_total", "route" => route.to_string(), "result" => result).increment(1);
    if !fields.is_empty() {
        tracing::debug!(%route, event, ?fields, "the answer of the shadow differs from the answer of the stable plugin");
    }
}

/// A shadow got no event, because too many of its calls run.
pub fn shadow_skipped(route: &RouteName) {
    counter!("trunkline_shadow_compared_total", "route" => route.to_string(), "result" => "skipped").increment(1);
}
