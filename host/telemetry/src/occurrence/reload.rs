//! Generations and reloads.

use std::time::{Duration, SystemTime};

use metrics::{counter, gauge};
use tracing::{error, info};

/// A generation runs.
pub fn generation_adopted(number: u64, config_digest: &str, by: &str, took: Duration) {
    count_success("swapped");
    #[expect(clippy::cast_precision_loss, reason = "counts of reloads are exact below 2^52")]
    gauge!("trunkline_generation").set(number as f64);
    info!(generation = number, config = config_digest, by, took_ms = took.as_millis(), "a new generation runs");
}

/// A reload found nothing new.
pub fn reload_unchanged(number: u64, by: &str) {
    count_success("unchanged");
    info!(generation = number, by, "a reload found no changes; the running generation stays");
}

/// A reload was refused; the running generation stays.
pub fn reload_refused(number: u64, by: &str, reasons: &str) {
    counter!("trunkline_config_reloads_total", "result" => "refused").increment(1);
    gauge!("trunkline_config_last_reload_successful").set(0.0);
    error!(generation = number, by, reasons, "the daemon refused a reload; the running generation stays");
}

fn count_success(result: &'static str) {
    counter!("trunkline_config_reloads_total", "result" => result).increment(1);
    gauge!("trunkline_config_last_reload_successful").set(1.0);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    gauge!("trunkline_config_last_reload_success_timestamp_seconds").set(now.as_secs_f64());
}
