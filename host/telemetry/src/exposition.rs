//! The Prometheus text form of all metrics.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

/// 0.1 ms to 30 s: the usual start of 5 ms is too coarse for WebAssembly.
const SHORT_SECONDS: [f64; 13] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
/// 1 ms to 5 minutes.
const LONG_SECONDS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0, 300.0];
/// 256 B to 16 MiB by fours.
const BODY_BYTES: [f64; 9] =
    [256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];
/// 64 KiB to 64 MiB by fours.
const MEMORY_BYTES: [f64; 6] = [65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];
const BATCH: [f64; 7] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];

/// The installed recorder.
#[derive(Clone)]
pub struct Exposition(PrometheusHandle);

impl Exposition {
    /// The text of `GET /metrics`.
    #[must_use]
    pub fn render(&self) -> String {
        refresh_process();
        // What clears itself by time is shown as it is now.
        drop(super::raised_conditions());
        self.0.render()
    }

    /// Has to run every few seconds, or histograms keep every sample since the last scrape.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// Installs the process's recorder.
///
/// # Errors
/// When one is installed already.
pub fn install() -> Result<Exposition, BuildError> {
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
    let handle = builder.install_recorder()?;
    describe();
    Collector::default().describe();
    gauge!("trunkline_build_info", "version" => env!("CARGO_PKG_VERSION"), "wasmtime" => "48").set(1.0);
    counter!("trunkline_broker_reconnects_total").absolute(0);
    counter!(super::log::DROPPED).increment(0);
    counter!("trunkline_http_connections_turned_away_total").absolute(0);
    Ok(Exposition(handle))
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

fn describe() {
    describe_counters();
    describe_histograms();
    describe_gauges();
}

fn describe_counters() {
    for (name, help) in [
        ("trunkline_broker_reconnects_total", "Sessions made with the broker after the first one"),
        ("trunkline_messages_received_total", "Deliveries taken from the queue"),
        ("trunkline_messages_settled_total", "Deliveries acknowledged, by what was done with them"),
        ("trunkline_plugin_invocations_total", "Calls of a plugin, by outcome"),
        ("trunkline_plugin_loads_total", "Plugins loaded or refused, by whether compiled code was cached"),
        ("trunkline_events_published_total", "Events published, by what the broker said"),
        ("trunkline_order_lost_total", "Events of routes with order-by whose key may not have kept its order"),
        ("trunkline_retries_scheduled_total", "Events put into a retry queue"),
        ("trunkline_dead_letters_total", "Events put into a dead-letter queue, by reason"),
        ("trunkline_plugin_host_calls_total", "Calls of granted interfaces by plugins, by outcome"),
        ("trunkline_state_failures_total", "Times the plugins' state could not be written or opened"),
        ("trunkline_headers_dropped_total", "Messages whose `trunkline-*` headers were not believed, by why"),
        ("trunkline_http_requests_total", "HTTP requests answered"),
        ("trunkline_http_connections_turned_away_total", "HTTP connections answered 503 and closed, unheard"),
        ("trunkline_config_reloads_total", "Reloads, by result"),
        ("trunkline_canary_messages_total", "Events that went to a canary, by result"),
        ("trunkline_shadow_compared_total", "Answers of shadows that were compared"),
        (
            "trunkline_shadow_mismatches_total",
            "Differences between the answers of a shadow and the stable plugin, by field",
        ),
        (super::log::DROPPED, "Log lines that were dropped, since nobody read them or they could not be written"),
        ("trunkline_stream_events_total", "Events handed to the connections of streams"),
    ] {
        describe_counter!(name, help);
    }
}

fn describe_histograms() {
    for (name, unit, help) in [
        ("trunkline_message_body_bytes", Unit::Bytes, "Body of a delivery"),
        (
            "trunkline_message_wait_seconds",
            Unit::Seconds,
            "From the message's timestamp (whole seconds) to its receipt",
        ),
        ("trunkline_message_total_seconds", Unit::Seconds, "From receipt to acknowledgement"),
        ("trunkline_plugin_invocation_duration_seconds", Unit::Seconds, "Fresh instance and call of a plugin"),
        ("trunkline_plugin_memory_peak_bytes", Unit::Bytes, "Linear memory of an instance when its call ended"),
        ("trunkline_plugin_load_duration_seconds", Unit::Seconds, "Reading, compiling and linking a plugin"),
        (
            "trunkline_publish_duration_seconds",
            Unit::Seconds,
            "From publishing an event's emissions to the last confirm",
        ),
        (
            "trunkline_store_commit_duration_seconds",
            Unit::Seconds,
            "One transaction of the embedded store, fsync included",
        ),
        (
            "trunkline_state_commit_duration_seconds",
            Unit::Seconds,
            "One transaction of the plugins' state, fsync included",
        ),
        ("trunkline_store_commit_messages", Unit::Count, "Changes that shared one fsync"),
        ("trunkline_http_request_duration_seconds", Unit::Seconds, "HTTP requests"),
    ] {
        describe_histogram!(name, unit, help);
    }
}

fn describe_gauges() {
    for (name, help) in [
        ("trunkline_build_info", "Always 1; the labels tell the version"),
        ("trunkline_broker_connected", "1 when the broker is usable"),
        ("trunkline_broker_blocked", "1 when the broker has told us to stop publishing"),
        ("trunkline_messages_in_flight", "Deliveries taken and not yet settled"),
        ("trunkline_route_concurrency_limit", "Deliveries that may be in flight"),
        ("trunkline_condition", "1 while something is wrong, by kind and subject; `/health` has it as a sentence"),
        ("trunkline_route_up", "1 when the route consumes its queue"),
        ("trunkline_publish_unconfirmed", "Publishes that wait for the broker's confirm"),
        ("trunkline_queue_messages", "Messages in a queue of the embedded broker"),
        ("trunkline_queue_oldest_message_age_seconds", "Age of the first message of a queue of the embedded broker"),
        ("trunkline_config_info", "1 for the configuration that runs, by its hash; 0 for earlier ones"),
        ("trunkline_config_last_reload_successful", "1 when the last reload was taken over or changed nothing"),
        ("trunkline_config_last_reload_success_timestamp_seconds", "When the last reload that was not refused ended"),
        ("trunkline_generation", "Number of the generation that runs"),
        ("trunkline_circuit_state", "1 while the circuit of a route is open: it takes nothing"),
        ("trunkline_rollout_state", "Trial of a canary: 0 open, 1 promoted, -1 rolled back"),
        ("trunkline_streams_open", "Streams with a connection"),
        ("trunkline_store_bytes", "Size of the embedded store's file"),
        ("tokio_workers", "Worker threads of the async runtime"),
        ("tokio_alive_tasks", "Tasks of the async runtime"),
        ("tokio_global_queue_depth", "Tasks that wait in the runtime's global queue"),
    ] {
        describe_gauge!(name, help);
    }
}
