//! The table of every metric. The `# HELP` and `# TYPE` lines of `/metrics` come from this table. The page
//! docs/reference/metrics.md comes from this table too.

use crate::log::DROPPED;

/// The Prometheus type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A number that only grows while the process runs.
    Counter,
    /// A number that grows and falls.
    Gauge,
    /// Counts of values by size, with their sum.
    Histogram,
}

impl MetricKind {
    /// The word of Prometheus.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricUnit {
    /// A number of things, or a state.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The name, with the prefix `trunkline_` or `tokio_`.
    pub name: &'static str,
    /// The type.
    pub kind: MetricKind,
    /// The names of the labels.
    pub labels: &'static [&'static str],
    /// The unit.
    pub unit: MetricUnit,
    /// The meaning, the text of the `# HELP` line.
    pub meaning: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, labels, unit: MetricUnit::Count, meaning }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, labels, unit: MetricUnit::Count, meaning }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Histogram, labels, unit: MetricUnit::Seconds, meaning }
}

impl Metric {
    const fn in_bytes(self) -> Self {
        Self { unit: MetricUnit::Bytes, ..self }
    }

    const fn in_counts(self) -> Self {
        Self { unit: MetricUnit::Count, ..self }
    }

    const fn in_seconds(self) -> Self {
        Self { unit: MetricUnit::Seconds, ..self }
    }
}

/// Every metric, without `process_*`, which come from the crate metrics-process.
pub const METRICS: [Metric; 68] = [
    gauge(
        "trunkline_build_info",
        &["version", "wasmtime"],
        "The value is always 1. The labels are the versions of Trunkline and Wasmtime.",
    ),
    gauge(
        "trunkline_condition",
        &["condition", "subject"],
        "The value is 1 while a condition is raised. `/health` describes each condition.",
    ),
    // Broker
    gauge("trunkline_broker_connected", &[], "The value is 1 while the daemon has a session with the broker"),
    gauge("trunkline_broker_blocked", &[], "The value is 1 while an alarm of the broker stops publishers"),
    counter("trunkline_broker_reconnects_total", &[], "Number of sessions with the broker after the first session"),
    gauge(
        "trunkline_broker_certificate_expiry_timestamp_seconds",
        &[],
        "Unix time at which the certificate of RabbitMQ expires, with an `amqps://` URL",
    )
    .in_seconds(),
    gauge(
        "trunkline_topology_refused",
        &["queue"],
        "The value is 1 for each queue that RabbitMQ refuses to declare or to bind as routes.toml says",
    ),
    gauge(
        "trunkline_queue_messages",
        &["queue", "state", "role"],
        "Number of messages in a queue, by state. The label `role` is the role of the queue in `GET /api/v1/events/queues`. The daemon asks RabbitMQ once in the time that `poll` in [broker] sets.",
    ),
    gauge(
        "trunkline_queue_consumers",
        &["queue", "role"],
        "Number of consumers of a queue, including the consumers of other programs",
    ),
    gauge(
        "trunkline_delayed_messages",
        &[],
        "Number of messages in the delay queues of RabbitMQ's virtual host. Retries and delayed emissions of all daemons wait in these queues.",
    ),
    gauge(
        "trunkline_queue_oldest_message_age_seconds",
        &["queue"],
        "Age of the first ready message in a queue of the embedded broker",
    )
    .in_seconds(),
    gauge("trunkline_store_bytes", &[], "Size of the embedded broker's store").in_bytes(),
    histogram(
        "trunkline_store_commit_duration_seconds",
        &[],
        "Time of one transaction of the embedded broker's store, including the fsync",
    ),
    histogram(
        "trunkline_store_commit_messages",
        &[],
        "Number of changes in one transaction of the embedded broker's store",
    )
    .in_counts(),
    // Routes
    gauge("trunkline_route_up", &["route"], "The value is 1 while the route consumes its queue"),
    gauge(
        "trunkline_route_lag_seconds",
        &["route"],
        "Longest time that the first ready message in the queue of the route may have waited. The value is 0 while the queue has no ready message. On RabbitMQ, the value depends on the timestamps of messages.",
    )
    .in_seconds(),
    gauge("trunkline_route_concurrency_limit", &["route"], "Largest number of calls of the route that run at a time"),
    gauge(
        "trunkline_circuit_state",
        &["route"],
        "The value is 1 while the circuit breaker of the route is open. The route then consumes nothing.",
    ),
    counter("trunkline_messages_received_total", &["route"], "Number of deliveries that the route received"),
    gauge(
        "trunkline_messages_in_flight",
        &["route"],
        "Number of deliveries that the route received and has not settled",
    ),
    counter("trunkline_messages_settled_total", &["route", "outcome"], "Number of acknowledged deliveries, by outcome"),
    histogram("trunkline_message_body_bytes", &["route"], "Size of the message body of a delivery").in_bytes(),
    histogram(
        "trunkline_message_wait_seconds",
        &["route"],
        "Time from the timestamp of a message to the delivery of the message. Most timestamps have whole seconds.",
    ),
    histogram(
        "trunkline_message_total_seconds",
        &["route"],
        "Time from a delivery to the acknowledgement of the delivery",
    ),
    counter("trunkline_retries_scheduled_total", &["route"], "Number of retry copies that the broker confirmed"),
    counter(
        "trunkline_dead_letters_total",
        &["route", "reason"],
        "Number of dead letters that the broker confirmed, by reason",
    ),
    counter(
        "trunkline_redriven_total",
        &["route"],
        "Number of dead letters of the route that came back into the queue of the route",
    ),
    counter(
        "trunkline_order_lost_total",
        &["route", "why"],
        "Number of events that may have run out of order on a route with `order-by`, by cause",
    ),
    counter(
        "trunkline_headers_dropped_total",
        &["why"],
        "Number of messages whose `trunkline-*` headers the daemon dropped, by cause",
    ),
    counter(
        "trunkline_ordering_key_missing_total",
        &["route"],
        "Number of deliveries of a route with `order-by` whose event has no value for the ordering key",
    ),
    // Publishing
    counter(
        "trunkline_events_published_total",
        &["route", "exchange", "result"],
        "Number of published events, by the result of the publish. The label `route` is `api` or `hooks` for events that clients publish over HTTP.",
    ),
    gauge("trunkline_publish_unconfirmed", &[], "Number of publishes that wait for the broker's confirm"),
    histogram(
        "trunkline_publish_duration_seconds",
        &["route"],
        "Time from the publish of an event's emissions to the last confirm",
    ),
    // Plugins
    gauge(
        "trunkline_plugin_info",
        &["plugin", "digest", "version", "abi"],
        "The value is always 1. The labels describe the loaded file of a plugin. The label `abi` is the plugin interface.",
    ),
    gauge(
        "trunkline_plugin_limit_bytes",
        &["plugin", "limit"],
        "The limits of a plugin in bytes: `memory`, `output`, `log` or `http-body`",
    )
    .in_bytes(),
    counter(
        "trunkline_plugin_limit_hits_total",
        &["plugin", "limit"],
        "Number of calls of a plugin that exceeded the limit `timeout`, `memory`, `emissions` or `output`",
    ),
    counter(
        "trunkline_plugin_loads_total",
        &["plugin", "result", "cache"],
        "Number of plugins that the daemon loaded or refused, by result. The label `cache` is `hit` if the code cache had the compiled code.",
    ),
    histogram("trunkline_plugin_load_duration_seconds", &["plugin"], "Time to read, compile and link a plugin"),
    counter(
        "trunkline_plugin_invocations_total",
        &["plugin", "variant", "outcome"],
        "Number of calls of a plugin, by outcome",
    ),
    histogram(
        "trunkline_plugin_invocation_duration_seconds",
        &["plugin", "variant"],
        "Time to create an instance of a plugin and to call the instance",
    ),
    counter(
        "trunkline_plugin_cpu_seconds_total",
        &["plugin", "variant"],
        "Processor time of the calls of a plugin. If the calls take less than a millisecond on average, the daemon measures one call of eight, and counts the time of this call eight times.",
    )
    .in_seconds(),
    histogram(
        "trunkline_plugin_memory_peak_bytes",
        &["plugin"],
        "Size of the linear memories of an instance at the end of a call",
    )
    .in_bytes(),
    counter(
        "trunkline_plugin_host_calls_total",
        &["plugin", "interface", "outcome"],
        "Number of host calls of a plugin to a granted interface, by outcome",
    ),
    counter("trunkline_state_failures_total", &[], "Number of failures to write or open the state of plugins"),
    histogram(
        "trunkline_state_commit_duration_seconds",
        &[],
        "Time of one transaction of the plugins' state, including the fsync",
    ),
    // Rollouts
    gauge(
        "trunkline_rollout_state",
        &["route"],
        "State of a canary's trial: 0 is open, 1 is promoted, -1 is rolled back",
    ),
    counter(
        "trunkline_canary_messages_total",
        &["route", "result"],
        "Number of events that a canary handled, by result",
    ),
    counter(
        "trunkline_shadow_compared_total",
        &["route", "result"],
        "Number of comparisons of a shadow's emissions with the stable plugin's emissions, by result",
    ),
    counter(
        "trunkline_shadow_mismatches_total",
        &["route", "field"],
        "Number of differences between a shadow's emissions and the stable plugin's emissions, by field",
    ),
    // Archives
    counter("trunkline_archived_events_total", &["route"], "Number of events that the daemon wrote to an archive"),
    counter(
        "trunkline_archived_bytes_total",
        &["route"],
        "Number of compressed bytes that the daemon wrote to an archive",
    )
    .in_bytes(),
    histogram("trunkline_archive_write_duration_seconds", &["route"], "Time to write one batch to an archive"),
    counter("trunkline_archive_failures_total", &["route"], "Number of failures to write a batch to an archive"),
    // HTTP
    counter(
        "trunkline_http_requests_total",
        &["method", "path", "status"],
        "Number of answered HTTP requests. The label `path` of a request to a hook is the path of the hook.",
    ),
    counter(
        "trunkline_hook_requests_total",
        &["hook", "result"],
        "Number of requests to a hook, by result: `accepted`, `repeated`, `handshake`, `refused` (status 4xx) or `unavailable` (status 5xx)",
    ),
    histogram("trunkline_http_request_duration_seconds", &["method", "path"], "Time to answer an HTTP request"),
    counter(
        "trunkline_http_connections_turned_away_total",
        &[],
        "Number of HTTP connections that the daemon refused with the status 503 before the daemon read a request",
    ),
    gauge("trunkline_streams_open", &[], "Number of streams with a connected client"),
    counter("trunkline_stream_events_total", &[], "Number of events that the daemon sent to the clients of streams"),
    // Configuration
    gauge("trunkline_generation", &[], "Number of the running generation"),
    gauge(
        "trunkline_config_info",
        &["hash"],
        "The value is always 1. The label is the hash of the running configuration.",
    ),
    counter("trunkline_config_reloads_total", &["result"], "Number of reloads, by result"),
    gauge(
        "trunkline_config_last_reload_successful",
        &[],
        "The value is 1 if the last reload succeeded or changed nothing. The value is 0 if the daemon refused the last reload.",
    ),
    gauge(
        "trunkline_config_last_reload_success_timestamp_seconds",
        &[],
        "Unix time of the last reload that the daemon did not refuse",
    )
    .in_seconds(),
    // Process
    counter(
        DROPPED,
        &[],
        "Number of log lines that the daemon dropped, because no program read the lines or the daemon could not write the lines",
    ),
    gauge("tokio_workers", &[], "Number of worker threads of the async runtime"),
    gauge("tokio_alive_tasks", &[], "Number of tasks of the async runtime"),
    gauge("tokio_global_queue_depth", &[], "Number of tasks that wait in the global queue of the async runtime"),
];
