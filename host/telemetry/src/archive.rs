//! What archives write.

use std::time::Duration;

use metrics::{counter, histogram};
use tracing::{debug, error};

use trunkline_event::RouteName;

/// A batch is where it stays.
pub fn archived(route: &RouteName, events: usize, bytes: usize, took: Duration) {
    debug!(%route, events, bytes, "archived");
    let label = || ("route", route.to_string());
    counter!("trunkline_archived_events_total", &[label()]).increment(events as u64);
    counter!("trunkline_archived_bytes_total", &[label()]).increment(bytes as u64);
    histogram!("trunkline_archive_write_duration_seconds", &[label()]).record(took.as_secs_f64());
}

/// A batch could not be written; it is tried again, and nothing of it is acknowledged.
pub fn archive_failed(route: &RouteName, error: &str) {
    error!(%route, error, "the archive cannot be written; the route waits, and nothing is lost");
    counter!("trunkline_archive_failures_total", "route" => route.to_string()).increment(1);
}
