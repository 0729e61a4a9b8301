//! Writes of archives.

use std::time::Duration;

use metrics::{counter, histogram};
use tracing::{debug, error};
use trunkline_event::RouteName;

use crate::repeat_limit::RepeatLimit;

/// The counters of an archive route begin at 0.
pub fn archive_loaded(route: &RouteName) {
    let label = || ("route", route.to_string());
    counter!("trunkline_archived_events_total", &[label()]).absolute(0);
    counter!("trunkline_archived_bytes_total", &[label()]).absolute(0);
    counter!("trunkline_archive_failures_total", &[label()]).absolute(0);
}

/// A batch is stored.
pub fn archived(route: &RouteName, events: usize, bytes: usize, took: Duration) {
    debug!(%route, events, bytes, "archived");
    let label = || ("route", route.to_string());
    counter!("trunkline_archived_events_total", &[label()]).increment(events as u64);
    counter!("trunkline_archived_bytes_total", &[label()]).increment(bytes as u64);
    histogram!("trunkline_archive_write_duration_seconds", &[label()]).record(took.as_secs_f64());
}

/// A batch could not be written. It is tried again, and none of its events is acknowledged meanwhile.
pub fn archive_failed(route: &RouteName, error: &str, lines: &mut RepeatLimit) {
    // The error names the new file of each try, so no two errors are the same.
    if let Some(left_out) = lines.allows("") {
        error!(%route, error, left_out, "the archive cannot be written; the route waits and acknowledges no event of the batch");
    }
    counter!("trunkline_archive_failures_total", "route" => route.to_string()).increment(1);
}
