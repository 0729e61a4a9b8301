//! Calls of plugins to granted interfaces.

use metrics::{Counter, counter};
use tracing::{debug, warn};

use trunkline_event::PluginName;

use crate::line_limit::LineLimit;

/// The outcome of a plugin's call to the host, the `outcome` label of `trunkline_plugin_host_calls_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostOutcome {
    /// The call succeeded.
    Ok,
    /// The call is not granted, or its arguments are invalid.
    Refused,
    /// The call exceeds a quota or a size.
    Limited,
    /// The call did not end in time.
    Timeout,
    /// The remote host or the disk failed.
    Failed,
}

impl HostOutcome {
    const ALL: [Self; 5] = [Self::Ok, Self::Refused, Self::Limited, Self::Timeout, Self::Failed];

    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
        }
    }
}

/// An interface that needs a grant, the `interface` label of `trunkline_plugin_host_calls_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostInterface {
    /// HTTP requests.
    Http,
    /// State.
    Kv,
}

impl HostInterface {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Kv => "kv",
        }
    }
}

/// The counters of one plugin. An interface that is not granted has none.
pub struct HostCallMetrics {
    plugin: PluginName,
    http: Option<[Counter; 5]>,
    kv: Option<[Counter; 5]>,
    refusals: LineLimit,
}

impl HostCallMetrics {
    /// Registers the series of the granted interfaces at 0.
    #[must_use]
    pub fn new(plugin: &PluginName, granted: &[HostInterface]) -> Self {
        let counters = |interface: &'static str| {
            HostOutcome::ALL.map(|outcome| {
                let labels = [
                    ("plugin", plugin.to_string()),
                    ("interface", interface.to_owned()),
                    ("outcome", outcome.as_str().to_owned()),
                ];
                let counter = counter!("trunkline_plugin_host_calls_total", &labels);
                counter.increment(0);
                counter
            })
        };
        let of = |interface: HostInterface| granted.contains(&interface).then(|| counters(interface.as_str()));
        let (http, kv) = (of(HostInterface::Http), of(HostInterface::Kv));
        Self { plugin: plugin.clone(), http, kv, refusals: LineLimit::default() }
    }

    /// Counts an access to the plugin's state.
    pub fn kv(&self, outcome: HostOutcome) {
        count(self.kv.as_ref(), outcome);
    }

    /// Counts an HTTP request.
    pub fn http(&self, outcome: HostOutcome) {
        count(self.http.as_ref(), outcome);
    }

    /// Counts and logs an HTTP request that failed. `origin` is scheme, host and port only.
    pub fn http_failed(&self, outcome: HostOutcome, event: &str, origin: &str, why: &str) {
        self.http(outcome);
        let (plugin, outcome_word) = (&self.plugin, outcome.as_str());
        match outcome {
            HostOutcome::Refused | HostOutcome::Limited => {
                if let Some(left_out) = self.refusals.allows() {
                    warn!(%plugin, event, origin, outcome = outcome_word, why, left_out, "the daemon refused an HTTP request of a plugin; the plugin decides the outcome of the event");
                }
            }
            HostOutcome::Ok | HostOutcome::Timeout | HostOutcome::Failed => {
                debug!(%plugin, event, origin, outcome = outcome_word, why, "an HTTP request of a plugin failed; the plugin decides the outcome of the event");
            }
        }
    }
}

fn count(counters: Option<&[Counter; 5]>, outcome: HostOutcome) {
    if let Some(counters) = counters {
        counters[outcome as usize].increment(1);
    }
}
