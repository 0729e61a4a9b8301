//! What the listener says of itself, checked by others: schemathesis against the document, promtool against the metrics,
//! and the two pages.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use trunkline_support::Daemon;

use crate::bench::{Bench, metric, settled};
use crate::foreign::{python_with, run};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[exchanges]
$P-direct = { type = "direct" }
$P-ocelot = { type = "topic", codec = "ocelot" }
[queues.$P-out]
bind = "echoed"
[routes.$P-echo]
from = "in"
plugin = "echo"
[routes.$P-trap]
from = "trap"
plugin = "trapper"
retry = { max = 0 }
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
    // Every path of the document is there: with a token missing it is 401, never 404.
    for (path, methods) in document["paths"].as_object().expect("paths") {
        if path.starts_with("/api") && methods["get"].is_object() {
            assert_eq!(daemon.get(path).0, 401, "{path}");
        }
    }
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_that_the_document_does_not_say() {
    let python = python_with("schemathesis==4.32.5");
    let bench = Bench::embedded();
    let daemon = bench.start(ROUTES).await;
    let mut command = Command::new(python.with_file_name("schemathesis"));
    command.current_dir(bench.state()).args(["run", &daemon.url("/openapi.json")]).args([
        // Not negative_data_rejection: of a batch a bad event is refused within an answer for all.
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
         response_headers_conformance",
        // It has no end, and every answer of it is tested elsewhere.
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
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_is_content_with_the_metrics() {
    let bench = Bench::embedded();
    let daemon = bench.start(ROUTES).await;
    for kind in ["in", "trap", "nobody"] {
        let (status, answer) = daemon.post("/api/v1/events", &format!("{{\"type\":\"{kind}\",\"data\":{{}}}}"));
        assert_eq!(status, 202, "{answer}");
    }
    let _problem = daemon.post("/api/v1/events", "{");
    metric(&daemon, &settled(&bench, "echo", "ack"), |count| count == 1.0).await;
    metric(&daemon, &settled(&bench, "trap", "dead_letter"), |count| count == 1.0).await;
    let (_, text) = daemon.get("/metrics");
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
    assert!(daemon.terminate().await.success());
}

/// From Debian's package of Prometheus.
fn promtool() -> PathBuf {
    let is_there = || Command::new("promtool").arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_there() {
        xtask::apt::install(&["prometheus"], "install promtool: the Debian package `prometheus` has it")
            .expect("promtool");
    }
    PathBuf::from("promtool")
}
