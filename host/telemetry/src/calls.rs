//! Calls of one plugin by one route, as the stable one, the canary or the shadow.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use tracing::warn;

use super::limit::Limit;
use trunkline_event::{Failure, PluginName, RouteName};

/// What a plugin is to a route, the `variant` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The one that `plugin` names.
    Stable,
    /// The one on trial.
    Canary,
    /// The one whose answers are only compared.
    Shadow,
}

impl Variant {
    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
            Self::Shadow => "shadow",
        }
    }
}

const OUTCOMES: [&str; 8] = ["ok", "retry", "rejected", "trap", "timeout", "memory", "too-large", "invalid"];

fn outcome_label(failure: &Failure) -> &'static str {
    match failure {
        Failure::Retry { .. } => "retry",
        Failure::Rejected(_) => "rejected",
        Failure::Trap(_) => "trap",
        Failure::Timeout(_) => "timeout",
        Failure::Memory(_) => "memory",
        Failure::TooLarge(_) => "too-large",
        Failure::Invalid(_) => "invalid",
    }
}

/// The series of one plugin's calls.
pub struct Calls {
    route: RouteName,
    plugin: PluginName,
    variant: Variant,
    outcomes: Vec<(&'static str, Counter)>,
    duration: Histogram,
    memory_peak: Histogram,
    failures: Limit,
}

impl Calls {
    /// Looks the series up once.
    #[must_use]
    pub fn new(route: &RouteName, plugin: &PluginName, variant: Variant) -> Self {
        let labels = || [("plugin", plugin.to_string()), ("variant", variant.as_str().to_owned())];
        let outcome = |outcome: &'static str| {
            let [plugin, variant] = labels();
            let labels = [plugin, variant, ("outcome", outcome.to_owned())];
            (outcome, counter!("trunkline_plugin_invocations_total", &labels))
        };
        Self {
            route: route.clone(),
            plugin: plugin.clone(),
            variant,
            outcomes: OUTCOMES.into_iter().map(outcome).collect(),
            duration: histogram!("trunkline_plugin_invocation_duration_seconds", &labels()),
            memory_peak: histogram!("trunkline_plugin_memory_peak_bytes", "plugin" => plugin.to_string()),
            failures: Limit::default(),
        }
    }

    /// A call ended.
    pub fn ended(&self, event_id: &str, failure: Option<&Failure>, took: Duration, memory_bytes: u64) {
        let outcome = failure.map_or("ok", outcome_label);
        super::route::count(&self.outcomes, outcome, 1);
        self.duration.record(took.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "memories are far below 2^52 bytes")]
        self.memory_peak.record(memory_bytes as f64);
        if let Some(failure) = failure
            && let Some(left_out) = self.failures.allows()
        {
            let (route, plugin, variant) = (&self.route, &self.plugin, self.variant.as_str());
            let error = failure.text();
            warn!(%route, %plugin, variant, event = event_id, outcome, error, left_out, "plugin failed");
        }
    }
}
