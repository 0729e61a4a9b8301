//! The HTTP listener: requests, and connections that get none.

use std::time::Duration;

use metrics::{counter, histogram};
use tracing::warn;

use super::limit::Limit;

/// A request was answered.
pub fn http_answered(method: &str, path: &str, status: u16, took: Duration) {
    let labels = [("method", method.to_owned()), ("path", path.to_owned()), ("status", status.to_string())];
    counter!("trunkline_http_requests_total", &labels).increment(1);
    histogram!("trunkline_http_request_duration_seconds", &labels[..2]).record(took.as_secs_f64());
}

/// A request was refused before anything looked at it: it is addressed elsewhere, or a web page of another site made it.
pub fn http_refused(why: &str) {
    static LIMIT: Limit = Limit::new();
    if let Some(left_out) = LIMIT.allows() {
        warn!(why, left_out, "a request was refused");
    }
}

/// A connection got 503 and its end, since as many are served as may be, or it said nothing for too long.
pub fn http_turned_away(why: &'static str) {
    static LIMIT: Limit = Limit::new();
    counter!("trunkline_http_connections_turned_away_total").increment(1);
    if let Some(left_out) = LIMIT.allows() {
        warn!(why, left_out, "a connection was turned away");
    }
}
