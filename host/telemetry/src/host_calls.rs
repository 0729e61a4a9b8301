//! Calls of plugins to interfaces that they are granted.

use metrics::{Counter, counter};
use tracing::{debug, warn};

use super::limit::Limit;
use trunkline_event::PluginName;

/// How a call of the host by a plugin ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostOutcome {
    /// It was done.
    Ok,
    /// It is not granted, or makes no sense.
    Refused,
    /// Over a quota or a size.
    Limited,
    /// Not done in time.
    Timeout,
    /// The other side, or the disk, did not do it.
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

/// The counters of one plugin. Those of an interface that is not granted do not exist.
pub struct HostCalls {
    plugin: PluginName,
    http: Option<[Counter; 5]>,
    kv: Option<[Counter; 5]>,
    refusals: Limit,
}

impl HostCalls {
    /// Registers the series of what is granted at 0.
    #[must_use]
    pub fn new(plugin: &PluginName, http: bool, kv: bool) -> Self {
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
        let (http, kv) = (http.then(|| counters("http")), kv.then(|| counters("kv")));
        Self { plugin: plugin.clone(), http, kv, refusals: Limit::default() }
    }

    /// An access to the plugin's state.
    pub fn kv(&self, outcome: HostOutcome) {
        count(self.kv.as_ref(), outcome);
    }

    /// A request.
    pub fn http(&self, outcome: HostOutcome) {
        count(self.http.as_ref(), outcome);
    }

    /// A request that did not work out. `origin` is scheme, host and port only.
    pub fn http_failed(&self, outcome: HostOutcome, event: &str, origin: &str, why: &str) {
        self.http(outcome);
        let (plugin, outcome_word) = (&self.plugin, outcome.as_str());
        match outcome {
            HostOutcome::Refused | HostOutcome::Limited => {
                if let Some(left_out) = self.refusals.allows() {
                    warn!(%plugin, event, origin, outcome = outcome_word, why, left_out, "a request of a plugin was refused");
                }
            }
            HostOutcome::Ok | HostOutcome::Timeout | HostOutcome::Failed => {
                debug!(%plugin, event, origin, outcome = outcome_word, why, "a request of a plugin failed");
            }
        }
    }
}

fn count(counters: Option<&[Counter; 5]>, outcome: HostOutcome) {
    if let Some(counters) = counters {
        counters[outcome as usize].increment(1);
    }
}
