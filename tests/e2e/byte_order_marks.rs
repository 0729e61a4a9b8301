//! W6: the byte order mark that .NET, PowerShell and editors on Windows write before JSON and TOML.

use serde_json::json;
use trunkline_broker::Publication;
use trunkline_support::eventually;

use crate::bench::{Bench, drain, message, metric, on_both_brokers, settled};

const ROUTES: &str = r##"
include = ["more.toml"]
[defaults]
exchange = { name = "$P-events", type = "topic" }
[exchanges.$P-ocelot]
type = "topic"
codec = "ocelot"
[exchanges.$P-clouds]
type = "topic"
codec = "cloudevents"
[queues.$P-out]
bind = "echoed"
[queues.$P-from-ocelot]
bind = { exchange = "$P-ocelot", keys = "in" }
[queues.$P-from-clouds]
bind = { exchange = "$P-clouds", keys = "in" }
[routes.$P-ocelot]
queue = "$P-from-ocelot"
plugin = "echo"
emit = { exchange = "$P-events" }
[routes.$P-clouds]
queue = "$P-from-clouds"
plugin = "echo"
emit = { exchange = "$P-events" }
[hooks.in]
key = "{data.key}"
"##;

/// The text of the included file. The test writes the file with a byte order mark.
const MORE: &str = r#"
[routes.$P-raw]
from = "in"
plugin = "echo"
schema = "data.json"
"#;

fn marked(text: &str) -> String {
    format!("\u{feff}{text}")
}

fn json_message(exchange: &str, content_type: Option<&str>, id: &str, body: &str) -> Publication {
    let mut typed = message(exchange, "in", id, marked(body)).message.copy();
    typed.properties.content_type = content_type.map(str::to_owned);
    Publication::now(typed)
}

async fn marks_before_json_are_left_out(bench: Bench) {
    let more = marked(&MORE.replace("$P", &bench.prefix));
    std::fs::write(bench.path("more.toml"), more).expect("a file");
    std::fs::write(bench.path("data.json"), marked("{\"type\": \"object\"}")).expect("a file");
    let broker = bench.open(ROUTES).await;
    let exchange = |name: &str| format!("{}-{name}", bench.prefix);
    let cloud = r#"{"specversion":"1.0","id":"c-1","source":"/s","type":"t","data":{"n":1}}"#;
    let batch = vec![
        json_message(&exchange("ocelot"), None, "o-1", r#"{"id":"o-1","type":"t","data":{"n":1}}"#),
        json_message(&exchange("clouds"), Some("application/cloudevents+json"), "c-1", cloud),
        json_message(&exchange("events"), Some("application/json"), "r-1", r#"{"n":1}"#),
        json_message(&exchange("events"), None, "r-2", r#"{"n":1}"#),
    ];
    drop(broker.publish(batch).await.expect("confirmed"));
    broker.close(trunkline_support::patience()).await;
    drop(broker);

    let daemon = bench.start(ROUTES).await;
    let event = marked(&json!({ "type": "in", "id": "h-1", "data": { "n": 1 } }).to_string());
    let (status, answer) = daemon.post("/api/v1/events", &event);
    assert_eq!(status, 202, "{answer}");
    let events = json!({ "events": [{ "type": "in", "id": "h-2", "data": { "n": 1 } }] });
    let (status, answer) = daemon.post("/api/v1/events/batch", &marked(&events.to_string()));
    assert_eq!(status, 202, "{answer}");
    let (status, answer) = daemon.post("/hooks/in", &marked(&json!({ "key": "in", "n": 1 }).to_string()));
    assert_eq!((status, &answer["routing_key"]), (202, &json!("in")), "{answer}");
    for (route, count) in [("ocelot", 1.0), ("clouds", 1.0), ("raw", 5.0)] {
        metric(&daemon, &settled(&bench, route, "ack"), |acked| acked == count).await;
    }
    // A reload reads the included file again.
    let more = marked(&MORE.replace("$P", &bench.prefix).replace("from = \"in\"", "from = \"in\"\nconcurrency = 2"));
    std::fs::write(bench.path("more.toml"), more).expect("a file");
    eventually("a reload", || {
        let reloads = daemon.metric("trunkline_config_reloads_total{result=\"swapped\"}");
        async move { (reloads >= 2.0).then_some(()) }
    })
    .await;
    assert!(daemon.terminate().await.success());

    let broker = bench.open(ROUTES).await;
    for emission in drain(&broker, &bench.queue("$P-out"), 7).await {
        assert!(emission.body.starts_with(b"{"), "{emission:?}");
    }
    broker.close(trunkline_support::patience()).await;
}

on_both_brokers! {
    marks_before_json_are_left_out,
}
