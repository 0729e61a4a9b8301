//! A request that has no response.

use wasmtime_wasi_http::Error as HttpError;

use trunkline_telemetry::HostOutcome;

/// Reason why a request has no response, for the plugin, the metrics and the log.
pub(crate) struct RequestRefusal {
    pub(crate) outcome: HostOutcome,
    /// Text of the log line.
    pub(crate) reason: String,
    pub(crate) error: HttpError,
}

impl RequestRefusal {
    pub(crate) fn new(outcome: HostOutcome, error: HttpError, reason: impl Into<String>) -> Self {
        Self { outcome, reason: reason.into(), error }
    }

    pub(crate) fn timeout(error: HttpError) -> Self {
        Self::new(HostOutcome::Timeout, error, "the server did not respond in time")
    }
}
