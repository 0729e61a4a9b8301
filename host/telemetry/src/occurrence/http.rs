//! The HTTP listener: requests, and refused connections.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{counter, histogram};
use parking_lot::Mutex;
use tracing::warn;

use crate::line_limit::LineLimit;
use crate::series_owner::SeriesOwner;

/// Values of the label `result` of a request to a hook.
const HOOK_RESULTS: [&str; 5] = ["accepted", "repeated", "handshake", "refused", "unavailable"];

/// The limits of the lines about refused requests, by hook. A flood of requests to one hook hides no line about another hook.
static REFUSAL_LIMITS: Mutex<BTreeMap<String, LineLimit>> = Mutex::new(BTreeMap::new());

/// A request was answered.
pub fn http_answered(method: &str, path: &str, status: u16, took: Duration) {
    let labels = [("method", method.to_owned()), ("path", path.to_owned()), ("status", status.to_string())];
    counter!("trunkline_http_requests_total", &labels).increment(1);
    histogram!("trunkline_http_request_duration_seconds", &labels[..2]).record(took.as_secs_f64());
}

/// A request was refused: it is addressed to another host, or a web page of another site made it.
pub fn http_refused(why: &str) {
    static LIMIT: LineLimit = LineLimit::new();
    if let Some(left_out) = LIMIT.allows() {
        warn!(
            why,
            left_out,
            "the daemon refused an HTTP request because of its Host, Origin or Sec-Fetch-Site header; the request had no effect"
        );
    }
}

/// The result of a request that a hook did not refuse. The result is the value of the label `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookResult {
    /// The daemon published the event.
    Accepted,
    /// The daemon published the event before.
    Repeated,
    /// The sender checked the address of the hook.
    Handshake,
}

/// A hook is in routes.toml. Its series begin at 0.
pub fn hook_added(hook: &str, path: &str) {
    for result in HOOK_RESULTS {
        counter!("trunkline_hook_requests_total", "hook" => hook.to_owned(), "result" => result).absolute(0);
    }
    SeriesOwner::Hook.enters(hook);
    SeriesOwner::HookPath.enters(path);
}

/// A hook is not in routes.toml any more. The series of the hook leave too.
pub fn hook_removed(hook: &str) {
    SeriesOwner::Hook.leaves(hook);
    REFUSAL_LIMITS.lock().remove(hook);
}

/// No hook has this path any more.
pub fn hook_path_removed(path: &str) {
    SeriesOwner::HookPath.leaves(path);
}

/// A request to a hook was answered.
pub fn hook_answered(hook: &str, result: HookResult) {
    let result = match result {
        HookResult::Accepted => "accepted",
        HookResult::Repeated => "repeated",
        HookResult::Handshake => "handshake",
    };
    counter!("trunkline_hook_requests_total", "hook" => hook.to_owned(), "result" => result).increment(1);
}

/// A request to a hook was answered with an error.
pub fn hook_refused(hook: &str, status: u16, why: &str) {
    let result = if status < 500 { "refused" } else { "unavailable" };
    counter!("trunkline_hook_requests_total", "hook" => hook.to_owned(), "result" => result).increment(1);
    if let Some(left_out) = refusal_line(hook) {
        warn!(hook, status, why, left_out, "the daemon refused a request to a hook; the sender received an error");
    }
}

/// The number of omitted lines about the hook, if the daemon may write a line now.
fn refusal_line(hook: &str) -> Option<u64> {
    REFUSAL_LIMITS.lock().entry(hook.to_owned()).or_default().allows()
}

/// A connection was refused with 503: no slot was free, or the client sent nothing for too long.
pub fn http_turned_away(why: &'static str) {
    static LIMIT: LineLimit = LineLimit::new();
    counter!("trunkline_http_connections_turned_away_total").increment(1);
    if let Some(left_out) = LIMIT.allows() {
        warn!(
            why,
            left_out,
            "the daemon refused an HTTP connection with the status 503; the request of the client was not handled"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_hook_hides_no_line_about_another() {
        let written = (0..1000).filter_map(|_| refusal_line("flooded-hook")).count();
        assert!(written < 1000, "{written}");
        assert_eq!(refusal_line("quiet-hook"), Some(0));
        hook_removed("flooded-hook");
        assert_eq!(refusal_line("flooded-hook"), Some(0), "the limit leaves with its hook");
    }
}
