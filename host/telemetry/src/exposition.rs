//! The Prometheus text form of all metrics.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

use crate::conditions::raised_conditions;
use crate::log::DROPPED;
use crate::metric_table::{METRICS, MetricKind, MetricUnit};
use crate::occurrence::add_cpu;
use crate::scrape_figures::ScrapeFigures;
use crate::series_owner::without_unused;

/// 0.1 ms to 30 s. The usual start of 5 ms is too coarse for WebAssembly.
const SHORT_SECONDS: [f64; 13] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
/// 1 ms to 5 minutes.
const LONG_SECONDS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0, 300.0];
/// 256 B to 16 MiB, each four times the one before.
const BODY_BYTES: [f64; 9] =
    [256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];
/// 64 KiB to 64 MiB, each four times the one before.
const MEMORY_BYTES: [f64; 6] = [65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];
const BATCH: [f64; 7] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];

/// The installed recorder.
#[derive(Clone)]
pub struct Exposition(PrometheusHandle);

impl Exposition {
    /// The text of `GET /metrics`. Series of names that are not in use are left out.
    #[must_use]
    pub fn render(&self, mut figures: ScrapeFigures) -> String {
        refresh_process();
        // Conditions whose time is over are cleared.
        drop(raised_conditions());
        let mut text = without_unused(self.0.render());
        add_cpu(&mut figures);
        figures.write(&mut text);
        text
    }

    /// Folds the samples of histograms. Without a call every few seconds each sample since the last scrape is kept.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// Installs the recorder of the process.
///
/// # Errors
/// When a recorder is installed already.
pub fn install() -> Result<Exposition, BuildError> {
    let handle = builder()?.install_recorder()?;
    describe();
    Collector::default().describe();
    gauge!("trunkline_build_info", "version" => env!("CARGO_PKG_VERSION"), "wasmtime" => "48").set(1.0);
    counter!("trunkline_broker_reconnects_total").absolute(0);
    counter!(DROPPED).increment(0);
    counter!("trunkline_http_connections_turned_away_total").absolute(0);
    Ok(Exposition(handle))
}

pub(crate) fn builder() -> Result<PrometheusBuilder, BuildError> {
    let by_suffix: [(&str, &[f64]); 5] = [
        ("message_total_seconds", &LONG_SECONDS),
        ("message_wait_seconds", &LONG_SECONDS),
        ("message_body_bytes", &BODY_BYTES),
        ("plugin_memory_peak_bytes", &MEMORY_BYTES),
        ("store_commit_messages", &BATCH),
    ];
    let mut builder = PrometheusBuilder::new()
        .with_recommended_naming(true)
        .set_buckets_for_metric(Matcher::Suffix("duration_seconds".into()), &SHORT_SECONDS)?;
    for (suffix, buckets) in by_suffix {
        builder = builder.set_buckets_for_metric(Matcher::Suffix(suffix.into()), buckets)?;
    }
    Ok(builder)
}

/// Brings `process_*` and `tokio_*` up to date.
pub fn refresh_process() {
    Collector::default().collect();
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let figures = runtime.metrics();
        #[expect(clippy::cast_precision_loss, reason = "counts of tasks and threads")]
        {
            gauge!("tokio_workers").set(figures.num_workers() as f64);
            gauge!("tokio_alive_tasks").set(figures.num_alive_tasks() as f64);
            gauge!("tokio_global_queue_depth").set(figures.global_queue_depth() as f64);
        }
    }
}

pub(crate) fn describe() {
    for metric in METRICS {
        let (name, help) = (metric.name, metric.meaning);
        match (metric.kind, metric.unit) {
            (MetricKind::Counter, _) => describe_counter!(name, help),
            (MetricKind::Gauge, _) => describe_gauge!(name, help),
            (MetricKind::Histogram, MetricUnit::Bytes) => describe_histogram!(name, Unit::Bytes, help),
            (MetricKind::Histogram, MetricUnit::Seconds) => describe_histogram!(name, Unit::Seconds, help),
            (MetricKind::Histogram, MetricUnit::Count) => describe_histogram!(name, Unit::Count, help),
        }
    }
}
