//! The listener's own descriptions, checked by other programs: schemathesis reads the OpenAPI document, promtool reads
//! the metrics. Also the two pages.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use trunkline_support::Daemon;

use super::sse::Client;
use super::stream::PATH;
use crate::bench::{Bench, metric, on_both_brokers, settled};
use crate::foreign::{python_with, run};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[routes.$P-echo]
from = "in"
plugin = "echo"
"#;

fn header(daemon: &Daemon, path: &str, name: &str) -> String {
    let answer = ureq::get(daemon.url(path)).call().expect("an answer");
    answer.headers().get(name).map(|value| value.to_str().expect("a text").to_owned()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_work_offline_and_without_a_token() {
    let bench = Bench::embedded();
    let routes = format!("[http]\ntokens = [\"${{TOKEN}}\"]\n{ROUTES}");
    let daemon = bench.start_with(&routes, &[("TOKEN", "a-token-of-the-test")]).await;
    let (_, text) = daemon.get("/openapi.json");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["openapi"], "3.1.0");
    for path in ["/docs", "/docs/", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/redoc", "/redoc/page.js"] {
        let (status, text) = daemon.get(path);
        assert!(status == 200 && !text.is_empty(), "{path}: {status}");
        assert!(header(&daemon, path, "content-security-policy").contains("default-src 'none'"), "{path}");
    }
    let (_, initializer) = daemon.get("/docs/swagger-initializer.js");
    assert!(initializer.contains("/openapi.json"), "{initializer}");
    for page in ["/docs/", "/redoc/"] {
        let (_, html) = daemon.get(page);
        assert!(!html.contains("http://") && !html.contains("https://"), "{page} loads from elsewhere: {html}");
    }
    // Every path of the document exists: without a token the answer is 401, never 404.
    for (path, methods) in document["paths"].as_object().expect("paths") {
        if path.starts_with("/api") && methods["get"].is_object() {
            assert_eq!(daemon.get(path).0, 401, "{path}");
        }
    }
    assert!(daemon.terminate().await.success());
}

/// Everything that has an own part of the API or own metrics: archives, hooks, a canary, a shadow, and streams.
const EVERYTHING: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[exchanges.$P-ocelot]
type = "topic"
codec = "ocelot"
[queues.$P-out]
bind = "echoed"
[queues.$P-kept]
bind = ["in", "compared"]
[routes.$P-history]
queue = "$P-kept"
archive = { dir = "archive" }
[routes.$P-echo]
from = "in"
plugin = "echo"
canary = { plugin = "picky", percent = 50, auto = false }
[routes.$P-compared]
from = "compared"
plugin = "echo"
shadow = { plugin = "picky" }
[routes.$P-trap]
from = "trap"
plugin = "trapper"
retry = { max = 0 }
[hooks.plain]
[hooks.typed]
type = "hook.{data.kind}"
"#;

/// Makes every part work, and gives an open stream.
async fn use_everything(bench: &Bench, daemon: &Daemon) -> Client {
    const EVENTS: u32 = 20;
    let stream = Client::open(daemon, PATH, None).becomes_ready().await;
    let kinds = std::iter::repeat_n("in", EVENTS as usize).chain(["compared", "trap", "unbound"]);
    for kind in kinds {
        let (status, answer) = daemon.post("/api/v1/events", &format!("{{\"type\":\"{kind}\",\"data\":{{}}}}"));
        assert_eq!(status, 202, "{answer}");
    }
    assert_eq!(daemon.post("/api/v1/events", "{").0, 400);
    assert_eq!(daemon.post("/hooks/plain", "{}").0, 202);
    assert_eq!(daemon.post("/hooks/typed", "{}").0, 422);
    metric(daemon, &settled(bench, "echo", "ack"), |count| count >= f64::from(EVENTS)).await;
    metric(daemon, &settled(bench, "trap", "dead_letter"), |count| count >= 1.0).await;
    metric(daemon, &settled(bench, "history", "ack"), |count| count >= f64::from(EVENTS + 1)).await;
    let compared = format!("trunkline_shadow_compared_total{{route=\"{}-compared\",result=\"same\"}}", bench.prefix);
    metric(daemon, &compared, |count| count >= 1.0).await;
    let consumers = format!("trunkline_queue_consumers{{queue=\"{}-echo\",role=\"work\"}}", bench.prefix);
    metric(daemon, &consumers, |count| count >= 1.0).await;
    assert!(daemon.sum("trunkline_canary_messages_total") >= 1.0, "half of the events go to the canary");
    stream.has(EVENTS as usize + 1).await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_that_the_document_does_not_say() {
    let python = python_with("schemathesis==4.32.5");
    let bench = Bench::embedded();
    let daemon = bench.start(EVERYTHING).await;
    let stream = use_everything(&bench, &daemon).await;
    let mut command = Command::new(python.with_file_name("schemathesis"));
    command.current_dir(bench.state()).args(["run", &daemon.url("/openapi.json")]).args([
        // Without negative_data_rejection, because a bad event of a batch is refused within an answer for all.
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
         response_headers_conformance",
        // The stream has no end, and its answers are tested elsewhere.
        "--exclude-path",
        "/api/v1/events/stream",
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "40",
        "--generation-deterministic",
        "--max-time",
        "50",
        "--no-color",
    ]);
    let output = run(&mut command);
    let report = String::from_utf8_lossy(&output.stdout);
    println!("{report}");
    let operations = report.lines().find(|line| line.trim_start().starts_with("Tested:")).expect("a count");
    let tested: usize = operations.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a number");
    assert!(tested >= 10, "{report}");
    assert_eq!(daemon.get("/livez").0, 200);
    assert_eq!(daemon.metric("trunkline_streams_open"), 1.0, "the stream is open all the time");
    stream.cut();
    assert!(daemon.terminate().await.success());
}

async fn promtool_is_content_with_everything_running(bench: Bench) {
    let poll = if bench.is_embedded() { "" } else { "[broker]\npoll = \"1s\"\n" };
    let daemon = bench.start(&format!("{poll}{EVERYTHING}")).await;
    let stream = use_everything(&bench, &daemon).await;
    let (_, text) = daemon.get("/metrics");
    for name in [
        "trunkline_archived_bytes_total",
        "trunkline_archive_write_duration_seconds",
        "trunkline_archive_failures_total",
        "trunkline_hook_requests_total",
        "trunkline_canary_messages_total",
        "trunkline_rollout_state",
        "trunkline_shadow_compared_total",
        "trunkline_streams_open",
        "trunkline_queue_messages",
        "trunkline_queue_consumers",
        "trunkline_route_lag_seconds",
        "trunkline_plugin_info",
        "trunkline_plugin_cpu_seconds_total",
        "trunkline_plugin_limit_bytes",
        "trunkline_config_info",
    ] {
        assert!(text.contains(&format!("\n{name}")), "{name} has no series:\n{text}");
    }
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no HELP text");
    }
    let mut check = Command::new(promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    check.stdin.take().expect("stdin").write_all(text.as_bytes()).expect("written");
    let output = check.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
    stream.cut();
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    promtool_is_content_with_everything_running,
}

/// promtool from Debian's package of Prometheus.
fn promtool() -> PathBuf {
    let is_there = || Command::new("promtool").arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_there() {
        xtask::apt::install(&["prometheus"], "install promtool: the Debian package `prometheus` has it")
            .expect("promtool");
    }
    PathBuf::from("promtool")
}
