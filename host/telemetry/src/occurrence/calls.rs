//! Calls of one plugin by one route, as stable plugin, canary or shadow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use parking_lot::Mutex;
use tracing::warn;

use trunkline_event::{CallFailure, PluginName, RouteName};

use super::counters::count;
use crate::line_limit::LineLimit;
use crate::scrape_figures::ScrapeFigures;
use crate::series_owner::SeriesOwner;

/// The role of a plugin in a route, the `variant` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The plugin that `plugin` names.
    Stable,
    /// The plugin on trial.
    Canary,
    /// The plugin whose emissions are only compared.
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

fn outcome_label(failure: &CallFailure) -> &'static str {
    match failure {
        CallFailure::Retry { .. } => "retry",
        CallFailure::Rejected(_) => "rejected",
        CallFailure::Trap(_) => "trap",
        CallFailure::Timeout(_) => "timeout",
        CallFailure::Memory(_) => "memory",
        CallFailure::TooLarge(_) => "too-large",
        CallFailure::Invalid(_) => "invalid",
    }
}

/// Processor time of each plugin's calls in nanoseconds, by variant. Counters of the recorder have whole numbers only, and the unit of
/// the metric is the second.
static CPU_NANOS: Mutex<BTreeMap<(PluginName, &'static str), Arc<AtomicU64>>> = Mutex::new(BTreeMap::new());

/// Adds the processor time of each plugin's calls to the figures of a scrape.
pub(crate) fn add_cpu(figures: &mut ScrapeFigures) {
    for ((plugin, variant), nanos) in CPU_NANOS.lock().iter() {
        if !SeriesOwner::Plugin.is_unused(plugin.as_str()) {
            figures.plugin_cpu(plugin, variant, Duration::from_nanos(nanos.load(Ordering::Relaxed)));
        }
    }
}

/// Limits of a plugin that a call may exceed, the `limit` label.
const LIMITS: [&str; 4] = ["timeout", "memory", "emissions", "output"];

/// The limit that a call exceeded, if the call failed for that reason.
fn exceeded_limit(failure: &CallFailure) -> Option<&'static str> {
    match failure {
        CallFailure::Timeout(_) => Some("timeout"),
        CallFailure::Memory(_) => Some("memory"),
        // The text names the limit.
        CallFailure::TooLarge(text) if text.contains("limits.output") => Some("output"),
        CallFailure::TooLarge(_) => Some("emissions"),
        CallFailure::Retry { .. } | CallFailure::Rejected(_) | CallFailure::Trap(_) | CallFailure::Invalid(_) => None,
    }
}

/// The series of one plugin's calls.
pub struct CallMetrics {
    route: RouteName,
    plugin: PluginName,
    variant: Variant,
    outcomes: Vec<(&'static str, Counter)>,
    limit_hits: Vec<(&'static str, Counter)>,
    duration: Histogram,
    memory_peak: Histogram,
    cpu_nanos: Arc<AtomicU64>,
    failures: LineLimit,
}

impl CallMetrics {
    /// Looks up the series once.
    #[must_use]
    pub fn new(route: &RouteName, plugin: &PluginName, variant: Variant) -> Self {
        SeriesOwner::Plugin.enters(plugin.as_str());
        let labels = || [("plugin", plugin.to_string()), ("variant", variant.as_str().to_owned())];
        let outcome = |outcome: &'static str| {
            let [plugin, variant] = labels();
            let labels = [plugin, variant, ("outcome", outcome.to_owned())];
            (outcome, counter!("trunkline_plugin_invocations_total", &labels))
        };
        let limit_hit = |limit: &'static str| {
            let labels = [("plugin", plugin.to_string()), ("limit", limit.to_owned())];
            let counter = counter!("trunkline_plugin_limit_hits_total", &labels);
            // Several routes may share the plugin and its counter.
            counter.increment(0);
            (limit, counter)
        };
        Self {
            route: route.clone(),
            plugin: plugin.clone(),
            variant,
            limit_hits: LIMITS.into_iter().map(limit_hit).collect(),
            outcomes: OUTCOMES.into_iter().map(outcome).collect(),
            duration: histogram!("trunkline_plugin_invocation_duration_seconds", &labels()),
            cpu_nanos: CPU_NANOS.lock().entry((plugin.clone(), variant.as_str())).or_default().clone(),
            memory_peak: histogram!("trunkline_plugin_memory_peak_bytes", "plugin" => plugin.to_string()),
            failures: LineLimit::default(),
        }
    }

    /// Calls took this processor time. `None` for a call that was not measured.
    pub fn computed(&self, cpu: Option<Duration>) {
        if let Some(cpu) = cpu {
            self.cpu_nanos.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// A call ended.
    pub fn ended(&self, event_id: &str, failure: Option<&CallFailure>, took: Duration, memory_bytes: u64) {
        let outcome = failure.map_or("ok", outcome_label);
        count(&self.outcomes, outcome, 1);
        if let Some(limit) = failure.and_then(exceeded_limit) {
            count(&self.limit_hits, limit, 1);
        }
        self.duration.record(took.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "memories are far below 2^52 bytes")]
        self.memory_peak.record(memory_bytes as f64);
        if let Some(failure) = failure
            && let Some(left_out) = self.failures.allows()
        {
            let (route, plugin, variant) = (&self.route, &self.plugin, self.variant.as_str());
            let error = failure.text();
            warn!(%route, %plugin, variant, event = event_id, outcome, error, left_out,
                "a call of a plugin failed; the event is retried or dead-lettered, unless the plugin is a canary or a shadow");
        }
    }
}
