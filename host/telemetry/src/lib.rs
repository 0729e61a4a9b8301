//! Every metric name, and one function for each thing that happens, which logs and counts it in one place so that the
//! two cannot drift apart. Labels are closed sets or names from routes.toml, never content. Names and buckets follow
//! the Prometheus conventions: base units last, `_total` on counters, and counters start at 0 when a route is loaded.

#![deny(unsafe_code)]

mod archive;
mod calls;
mod conditions;
mod exposition;
mod host_calls;
mod http;
mod limit;
mod log;
mod rollout;
mod route;
mod streams;
mod trace;
pub mod wait;

pub use archive::{archive_failed, archived};
pub use calls::{Calls, Variant};
pub use conditions::{Condition, RaisedCondition, raised_conditions};
pub use exposition::{Exposition, install, refresh_process};
pub use host_calls::{HostCalls, HostOutcome};
pub use http::{http_answered, http_refused, http_turned_away};
pub use log::LogWriter;
pub use rollout::{canary_seen, rollout_begun, rollout_ended, shadow_compared, shadow_skipped};
pub use route::{OrderLost, PublishResult, Route, Settled};
pub use streams::{stream_closed, stream_opened, stream_sent};
pub use trace::{EmittedTrace, SettledTrace};

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tracing::{error, info, warn};

use trunkline_event::{PluginName, QueueName, RouteName};

/// A daemon has opened its broker for the first time or again.
pub fn broker_reconnected() {
    counter!("trunkline_broker_reconnects_total").increment(1);
}

/// The broker's state changed.
pub fn broker_status(connected: bool, blocked: bool) {
    gauge!("trunkline_broker_connected").set(if connected { 1.0 } else { 0.0 });
    gauge!("trunkline_broker_blocked").set(if blocked { 1.0 } else { 0.0 });
}

/// One transaction of the embedded store is on disk.
pub fn store_committed(duration: Duration, messages: usize) {
    histogram!("trunkline_store_commit_duration_seconds").record(duration.as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a transaction holds far fewer than 2^52 messages")]
    histogram!("trunkline_store_commit_messages").record(messages as f64);
}

/// Size of the embedded store's file.
pub fn store_size(bytes: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; sizes below 2^52 are exact")]
    gauge!("trunkline_store_bytes").set(bytes as f64);
}

/// What waits in a queue of the embedded broker.
pub fn queue_depth(queue: &QueueName, ready: u64, unacknowledged: u64, oldest: Option<Duration>) {
    #[expect(clippy::cast_precision_loss, reason = "depths below 2^52 are exact")]
    for (state, depth) in [("ready", ready as f64), ("unacknowledged", unacknowledged as f64)] {
        gauge!("trunkline_queue_messages", "queue" => queue.to_string(), "state" => state).set(depth);
    }
    let age = oldest.map_or(0.0, |age| age.as_secs_f64());
    gauge!("trunkline_queue_oldest_message_age_seconds", "queue" => queue.to_string()).set(age);
}

/// One transaction of the plugins' state is on disk.
pub fn state_committed(duration: Duration) {
    histogram!("trunkline_state_commit_duration_seconds").record(duration.as_secs_f64());
}

/// The plugins' state could not be written or opened.
pub fn state_failed(error: &str) {
    counter!("trunkline_state_failures_total").increment(1);
    error!(error, "the state of plugins cannot be written: calls that need it are retried");
}

/// A plugin is ready to run.
pub fn plugin_loaded(plugin: &PluginName, digest: &str, cached: bool, took: Duration) {
    let cache = if cached { "hit" } else { "miss" };
    counter!("trunkline_plugin_loads_total", "plugin" => plugin.to_string(), "result" => "ok", "cache" => cache)
        .increment(1);
    histogram!("trunkline_plugin_load_duration_seconds", "plugin" => plugin.to_string()).record(took.as_secs_f64());
    info!(%plugin, digest, cache, took_ms = took.as_millis(), "plugin loaded");
}

/// A plugin cannot run; its routes stay down.
pub fn plugin_refused(plugin: &PluginName, error: &str) {
    counter!("trunkline_plugin_loads_total", "plugin" => plugin.to_string(), "result" => "refused", "cache" => "miss")
        .increment(1);
    error!(%plugin, error, "plugin refused");
}

/// The file of a plugin is gone; what was loaded runs on.
pub fn plugin_orphaned(plugin: &PluginName, file: &std::path::Path) {
    warn!(%plugin, file = %file.display(), "the file is gone; the plugin runs on from memory until the daemon ends");
}

/// A generation runs.
pub fn generation_adopted(number: u64, config_digest: &str, by: &str, took: Duration) {
    reloaded("swapped");
    gauge!("trunkline_config_info", "hash" => config_digest.to_owned()).set(1.0);
    #[expect(clippy::cast_precision_loss, reason = "counts of reloads are exact below 2^52")]
    gauge!("trunkline_generation").set(number as f64);
    info!(generation = number, config = config_digest, by, took_ms = took.as_millis(), "generation runs");
}

/// The generation before this one is over.
pub fn generation_left(config_digest: &str) {
    gauge!("trunkline_config_info", "hash" => config_digest.to_owned()).set(0.0);
}

/// A reload found nothing new.
pub fn reload_unchanged(number: u64, by: &str) {
    reloaded("unchanged");
    info!(generation = number, by, "reload: nothing changed");
}

/// A reload was refused; what ran runs on.
pub fn reload_refused(number: u64, by: &str, reasons: &str) {
    counter!("trunkline_config_reloads_total", "result" => "refused").increment(1);
    gauge!("trunkline_config_last_reload_successful").set(0.0);
    error!(generation = number, by, reasons, "reload refused; what ran runs on");
}

fn reloaded(result: &'static str) {
    counter!("trunkline_config_reloads_total", "result" => result).increment(1);
    gauge!("trunkline_config_last_reload_successful").set(1.0);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    gauge!("trunkline_config_last_reload_success_timestamp_seconds").set(now.as_secs_f64());
}

/// A route consumes its queue.
pub fn route_up(route: &RouteName, queue: &QueueName) {
    info!(%route, %queue, "route consumes");
}

/// A route lost its subscription and will subscribe again.
pub fn route_down(route: &RouteName, queue: &QueueName, reason: &str) {
    warn!(%route, %queue, reason, "route does not consume; trying again");
}

/// The task of a route ended without being asked to.
pub fn route_ended(route: &RouteName) {
    gauge!("trunkline_route_up", "route" => route.to_string()).set(0.0);
    // What it had in work it has no more.
    gauge!("trunkline_messages_in_flight", "route" => route.to_string()).set(0.0);
}

/// A message came with headers that only daemons may write, and not with the signature of one that has this key.
pub fn headers_dropped(why: &'static str) {
    counter!("trunkline_headers_dropped_total", "why" => why).increment(1);
}

/// An event came in over HTTP and is confirmed.
pub fn event_accepted(from: &'static str, id: &str, exchange: &str, routed: bool) {
    let result = if routed { "confirmed" } else { "unroutable" };
    counter!("trunkline_events_published_total", "route" => from, "exchange" => exchange.to_owned(), "result" => result)
        .increment(1);
    tracing::debug!(id, from, exchange, routed, "event accepted");
}

/// An event came in over HTTP whose id was accepted before.
pub fn event_repeated(from: &'static str, id: &str, exchange: &str) {
    let exchange = exchange.to_owned();
    counter!("trunkline_events_published_total", "route" => from, "exchange" => exchange, "result" => "repeated")
        .increment(1);
    tracing::debug!(id, from, "event accepted before; not published again");
}
