//! Bad input of every kind leads to a clear error or to a dead letter with its reason. All other work goes on.

use std::process::Command;

use serde_json::Value;
use trunkline_broker::Publication;

use crate::bench::{Bench, binary, drain, message, on_both_brokers};

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_ends_the_start_with_78_and_says_where() {
    let cases = [
        ("not TOML [", "routes.toml:"),
        ("[routes.r]\nfrom = \"a\"\nplugin = \"echo\"\nconcurency = 3\n", "concurrency"),
        ("[routes.r]\nfrom = \"a\"\nplugin = \"echo\"\nwhen = \"true\"\n", "when"),
        ("[routes.r]\nplugin = \"echo\"\n", "from"),
    ];
    for (text, expected) in cases {
        let ended = Bench::embedded().try_start(text).await.err().expect("it does not start");
        assert_eq!(ended.status.code(), Some(78), "{text}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{text}: {}", ended.stderr);
    }
    let bench = Bench::embedded();
    let missing =
        Command::new(binary()).args(["check", "--config"]).arg(bench.path("none.toml")).output().expect("runs");
    assert_eq!(missing.status.code(), Some(66));
    let usage = Command::new(binary()).arg("--nonsense").output().expect("runs");
    assert_eq!(usage.status.code(), Some(64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_cannot_run_holds_only_its_own_route_down() {
    let bench = Bench::embedded();
    std::fs::write(bench.path("text.wasm"), "(component)").expect("a file");
    std::fs::write(bench.path("empty.wasm"), "").expect("a file");
    let echo = std::fs::read(trunkline_support::guests().join("echo.wasm")).expect("the guest");
    std::fs::write(bench.path("cut.wasm"), &echo[..echo.len() / 2]).expect("a file");
    let routes = r#"
        [defaults]
        exchange = { name = "$P-events", type = "topic" }
        [plugins]
        absent = { file = "absent.wasm" }
        text = { file = "text.wasm" }
        empty = { file = "empty.wasm" }
        cut = { file = "cut.wasm" }
        [routes]
        good = { from = "good", plugin = "echo" }
        absent = { from = "absent", plugin = "absent" }
        text = { from = "text", plugin = "text" }
        empty = { from = "empty", plugin = "empty" }
        cut = { from = "cut", plugin = "cut" }
        other = { from = "other", plugin = "wrong-world" }
        kv = { from = "kv", plugin = "needs-kv" }
    "#;
    let daemon = bench.start(routes).await;
    let (status, text) = daemon.get("/health");
    assert_eq!(status, 503, "{text}");
    let health: Value = serde_json::from_str(&text).expect("JSON");
    let expected = [
        ("absent", "cannot be read"),
        ("text", "WebAssembly text"),
        ("empty", "the file is empty"),
        ("cut", "not a component"),
        ("other", "acme:other/api@1.0.0"),
        ("kv", "wasi:keyvalue/store@0.2.0-draft2 (granted by `allow.kv`"),
    ];
    for (route, text) in expected {
        let error = health["routes"][route]["error"].as_str().unwrap_or_default();
        assert!(error.contains(text), "{route}: {error}");
    }
    assert_eq!(health["routes"]["good"]["error"], Value::Null);
    assert_eq!(daemon.get("/readyz").0, 200, "the daemon itself is ready");
    let (_, accepted) = daemon.post("/api/v1/events", r#"{"type":"good","data":{}}"#);
    assert_eq!(daemon.settled(accepted["id"].as_str().expect("an id")).await["outcome"], "ack");
    let file = bench.path("routes.toml");
    let check = Command::new(binary()).args(["check", "--config"]).arg(file).arg("--state").arg(bench.state()).output();
    let check = check.expect("runs");
    assert_eq!(check.status.code(), Some(1));
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(expected.iter().all(|(_, text)| said.contains(text)), "{said}");
}

const ROUTES: &str = r#"
    [defaults]
    exchange = { name = "$P-events", type = "topic", codec = "ocelot" }
    [queues.$P-out]
    bind = "echoed"
    [routes.$P-echo]
    from = "in"
    plugin = "echo"
"#;

async fn bodies(bench: Bench) {
    let exchange = format!("{}-events", bench.prefix);
    let good = r#"{"id":"good","type":"t","data":{"a":1}}"#.to_owned();
    let huge = format!(r#"{{"id":"huge","type":"t","data":"{}"}}"#, "x".repeat(2 << 20));
    let cases = [
        ("json", "{\"id\":".to_owned(), "invalid", "EOF"),
        ("envelope", "{\"id\":\"x\"}".to_owned(), "invalid", "`type`"),
        ("huge", huge, "too-large", "1048576"),
    ];
    let broker = bench.open(ROUTES).await;
    let mut batch: Vec<Publication> =
        cases.iter().map(|(id, body, ..)| message(&exchange, "in", id, body.clone())).collect();
    batch.push(message(&exchange, "in", "good", good));
    drop(broker.publish(batch).await.expect("confirmed"));
    broker.close(trunkline_support::patience()).await;
    drop(broker);

    let daemon = bench.start(ROUTES).await;
    let series =
        |outcome| format!("trunkline_messages_settled_total{{route=\"{}-echo\",outcome=\"{outcome}\"}}", bench.prefix);
    crate::bench::metric(&daemon, &series("dead_letter"), |count| count == 3.0).await;
    crate::bench::metric(&daemon, &series("ack"), |count| count == 1.0).await;
    // The sender can read the answer every time, although the daemon does not read the whole body.
    let huge = format!("{{\"type\":\"in\",\"data\":\"{}\"}}", "x".repeat(2 << 20));
    for _ in 0..50 {
        let (status, problem) = daemon.post("/api/v1/events", &huge);
        assert_eq!((status, &problem["code"]), (413, &"TL413".into()), "{problem}");
    }
    assert!(daemon.terminate().await.success());

    let broker = bench.open(ROUTES).await;
    let dead = drain(&broker, &bench.queue("$P-echo.dlq"), 3).await;
    for (id, body, reason, text) in cases {
        let letter = dead.iter().find(|message| message.properties.message_id.as_deref() == Some(id)).expect(id);
        let headers = &letter.properties.headers;
        assert_eq!(headers.text("trunkline-reason"), Some(reason), "{id}");
        assert!(headers.text("trunkline-error").is_some_and(|error| error.contains(text)), "{id}: {headers:?}");
        assert_eq!(headers.text("trunkline-source-key"), Some("in"), "{id}");
        assert_eq!(&letter.body[..], body.as_bytes(), "{id}: the body stays as it came");
    }
    assert_eq!(drain(&broker, &bench.queue("$P-out"), 1).await.len(), 1);
    broker.close(trunkline_support::patience()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_reports_errors_of_requests() {
    let bench = Bench::embedded();
    let daemon = bench.start(ROUTES).await;
    let cases = [
        ("{", 400, "EOF"),
        (r#"{"data":1}"#, 400, "type"),
        (r#"{"type":"t","data":1,"colour":"red"}"#, 400, "colour"),
        (r#"{"type":"","data":1}"#, 422, "type"),
        (r#"{"type":"t","data":1,"exchange":"nowhere"}"#, 422, "nowhere"),
        (r#"{"type":"t","data":1,"time":"soon"}"#, 422, "time"),
        (r#"{"type":"t","data":1,"exchange":""}"#, 403, "reserved = true"),
        (r#"["t",1]"#, 400, "JSON object"),
    ];
    for (body, status, text) in cases {
        let (code, problem) = daemon.post("/api/v1/events", body);
        assert_eq!(code, status, "{body}: {problem}");
        assert_eq!(problem["code"], format!("TL{status}"), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(text)), "{body}: {problem}");
    }
    let plain = ureq::post(daemon.url("/api/v1/events")).config().timeout_global(Some(trunkline_support::patience()));
    let plain = plain.http_status_as_error(false).build();
    let answer = plain.header("content-type", "text/plain").send(r#"{"type":"t","data":1}"#).expect("an answer");
    assert_eq!(answer.status().as_u16(), 415, "a web page must not publish through a visitor's browser");
    let (status, accepted) = daemon.post("/api/v1/events", r#"{"type":"unbound","data":1}"#);
    assert_eq!((status, &accepted["routed"]), (202, &Value::Bool(false)), "{accepted}");
    assert_eq!(daemon.get("/health/live").0, 200);
    assert_eq!(daemon.get("/nothing").0, 404);
}

on_both_brokers! {
    bodies,
}
