//! The state of plugins.

use std::time::Duration;

use metrics::{counter, histogram};
use tracing::error;

use crate::repeat_limit::RepeatLimit;

/// One transaction of the plugins' state is on disk.
pub fn state_committed(duration: Duration) {
    histogram!("trunkline_state_commit_duration_seconds").record(duration.as_secs_f64());
}

/// The plugins' state could not be written or opened.
pub fn state_failed(error: &str, lines: &mut RepeatLimit) {
    counter!("trunkline_state_failures_total").increment(1);
    if let Some(left_out) = lines.allows(error) {
        error!(error, left_out, "the state of plugins cannot be written; calls that need state are retried");
    }
}
