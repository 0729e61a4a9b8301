//! The table of metrics against the exposition and against docs/reference/metrics.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use trunkline_event::{CallFailure, ExchangeName, PluginName, QueueName, Reason, RouteName};

use crate::exposition::{builder, describe, refresh_process};
use crate::metric_table::{METRICS, MetricKind, MetricUnit};
use crate::{
    BrokerConnectionState, CallMetrics, CompiledCode, Condition, EventOrigin, EventRouting, HookResult,
    HostCallMetrics, HostInterface, HostOutcome, OrderLost, PublishResult, QueueFigures, RepeatLimit, RouteMetrics,
    ScrapeFigures, Settled, Variant,
};

/// Reports every occurrence once.
fn report_everything() {
    const TOOK: Duration = Duration::from_millis(1);
    let (route_name, plugin) = (RouteName::new("r").expect("a name"), PluginName::new("p").expect("a name"));
    let exchange = ExchangeName::new("e").expect("a name");
    let route = RouteMetrics::new(&route_name, plugin.as_str(), exchange.as_str(), 1);
    route.consumes();
    route.received(1, Some(TOOK));
    route.publishing();
    route.published(TOOK);
    route.publish_result(PublishResult::Confirmed, 1);
    route.retry_scheduled("id", 1, TOOK, "error");
    route.dead_lettered("id", Reason::Rejected, "error");
    route.redriven();
    route.circuit_opened();
    route.order_lost(OrderLost::Missing, "key", "id");
    route.no_ordering_key();
    route.settled(Settled::Ack, TOOK);
    CallMetrics::new(&route_name, &plugin, Variant::Stable).ended(
        "id",
        Some(&CallFailure::Rejected("no".to_owned())),
        TOOK,
        1,
    );
    HostCallMetrics::new(&plugin, &[HostInterface::Http, HostInterface::Kv]).kv(HostOutcome::Ok);
    crate::archived(&route_name, 1, 1, TOOK);
    crate::archive_failed(&route_name, "error", &mut RepeatLimit::default());
    crate::broker_reconnected();
    crate::broker_status(BrokerConnectionState::Up);
    crate::broker_certificate(1);
    crate::store_committed(TOOK, 1);
    crate::store_size(1);
    crate::state_committed(TOOK);
    crate::state_failed("error", &mut RepeatLimit::default());
    crate::plugin_loaded(&plugin, "digest", CompiledCode::Fresh, TOOK);
    crate::generation_adopted(1, "digest", "start", TOOK);
    crate::headers_dropped("unsigned");
    crate::event_accepted(&EventOrigin::Api, "id", exchange.as_str(), EventRouting::Routed);
    crate::hook_answered("h", HookResult::Accepted);
    crate::hook_refused("h", 401, "a test");
    crate::http_answered("GET", "/", 200, TOOK);
    crate::http_turned_away("a test");
    crate::rollout_begun(&route_name, "a", "b");
    crate::canary_seen(&route_name, "good");
    crate::shadow_compared(&route_name, "id", &["type"]);
    crate::stream_opened();
    crate::stream_sent();
    metrics::counter!(crate::log::DROPPED).increment(1);
    metrics::gauge!("trunkline_build_info", "version" => "0", "wasmtime" => "0").set(1.0);
    refresh_process();
    Condition::RouteDown.raise("metrics-test", "a test");
    Condition::RouteDown.clear("metrics-test");
}

/// Figures of one queue, one route, one plugin and one configuration.
fn figures() -> ScrapeFigures {
    let (route, plugin) = (RouteName::new("r").expect("a name"), PluginName::new("p").expect("a name"));
    let queue = QueueName::new("q").expect("a name");
    let mut figures = ScrapeFigures::default();
    figures.queue(&QueueFigures {
        queue: queue.as_str(),
        role: "work",
        ready: 1,
        unacknowledged: Some(1),
        retrying: Some(1),
        consumers: 1,
        oldest_age: Some(Duration::from_millis(1)),
    });
    figures.delayed(1);
    figures.route_lag(&route, Duration::from_secs(1));
    figures.refused_queue(&queue);
    figures.plugin(&plugin, [("digest", "d"), ("version", "1"), ("abi", "0.1")], &[("memory", 1)]);
    figures.configuration("hash");
    crate::occurrence::add_cpu(&mut figures);
    figures
}

/// The name of a series without the suffixes of a histogram, and its labels.
fn series(line: &str) -> Option<(String, BTreeSet<String>)> {
    let (series, _value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let base = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| name.strip_suffix(suffix));
    let is_histogram =
        |base: &&str| METRICS.iter().any(|metric| metric.name == *base && metric.kind == MetricKind::Histogram);
    let name = base.filter(is_histogram).unwrap_or(name);
    let labels =
        labels.trim_end_matches('}').split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
    Some((name.to_owned(), labels.filter(|label| label != "le").collect()))
}

#[tokio::test]
async fn the_table_is_what_is_exposed() {
    let recorder = builder().expect("a builder").build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        describe();
        report_everything();
    });
    let mut text = handle.render();
    figures().write(&mut text);
    let mut exposed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            kinds.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#')
            && let Some((name, labels)) = series(line)
            && !name.starts_with("process_")
        {
            exposed.entry(name).or_default().extend(labels);
        }
    }
    for metric in METRICS {
        let labels: BTreeSet<String> = metric.labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(exposed.remove(metric.name), Some(labels), "{}", metric.name);
        assert_eq!(kinds.get(metric.name).map(String::as_str), Some(metric.kind.as_str()), "{}", metric.name);
        assert!(text.contains(&format!("# HELP {} ", metric.name)), "{}", metric.name);
    }
    assert!(exposed.is_empty(), "not in the table: {exposed:?}");
}

fn page() -> String {
    let mut page = "# Metrics\n\n\
        `GET /metrics` has the metrics of this page in the text format of Prometheus. A test compares this page with the program.\n\n\
        The metrics `process_*` describe the process and follow the conventions of Prometheus. The value of a label is a word\n\
        from a closed set or a name from routes.toml. The [glossary](../glossary.md) explains the words of this page.\n\n\
        | metric | type | labels | unit | meaning |\n|---|---|---|---|---|\n"
        .to_owned();
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let unit = match metric.unit {
            MetricUnit::Count => "",
            MetricUnit::Bytes => "bytes",
            MetricUnit::Seconds => "seconds",
        };
        let (name, kind, labels, meaning) = (metric.name, metric.kind.as_str(), labels.join(", "), metric.meaning);
        page.push_str(&format!("| `{name}` | {kind} | {labels} | {unit} | {meaning} |\n"));
    }
    page.push_str("\n## Conditions\n\nA condition is a problem that lasts. The label `condition` of `trunkline_condition` contains the word of the condition. The list\n`conditions` of `/health` contains the word too.\n\n| condition | meaning |\n|---|---|\n");
    for condition in Condition::ALL {
        page.push_str(&format!("| `{}` | {} |\n", condition.as_str(), condition.meaning()));
    }
    page
}

/// `TRUNKLINE_WRITE_REFERENCE=1 cargo test -p trunkline-telemetry --lib` writes the page.
#[test]
fn the_reference_page_is_the_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    if std::env::var_os("TRUNKLINE_WRITE_REFERENCE").is_some() {
        std::fs::write(&file, page()).expect("the page is written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page(), "docs/reference/metrics.md is old; TRUNKLINE_WRITE_REFERENCE=1 writes it");
}
