//! Admission of events: the schema of a route, the version of the data, and the rate of each tenant.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trunkline_support::Daemon;

use crate::bench::{Bench, drain, metric, on_both_brokers, settled};

const SCHEMA: &str = r#"{
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["score"],
    "properties": { "score": { "type": "number", "minimum": -1, "maximum": 1 } }
}"#;

const ROUTES: &str = r#"
    [exchanges.$P-events]
    type = "topic"
    codec = "ocelot"
    [queues.$P-scores]
    bind = { exchange = "$P-events", keys = "score" }
    [routes.$P-scores]
    queue = "$P-scores"
    plugin = "echo"
    schema = { file = "score.json", version = 1 }
"#;

/// As another system would publish it.
async fn publish(bench: &Bench, id: &str, version: Option<&str>, data: &Value) {
    let metadata = version.map_or_else(|| json!({}), |version| json!({ "version": version }));
    let body = json!({ "id": id, "type": "score", "source": "test", "timestamp": "2026-11-21T10:00:00Z",
                       "organizationId": "org-1", "userId": null, "data": data, "metadata": metadata });
    let exchange = format!("{}-events", bench.prefix);
    let message = crate::bench::message(&exchange, "score", id, body.to_string().into_bytes());
    let broker = bench.open(ROUTES).await;
    drop(broker.publish(vec![message]).await.expect("confirmed"));
    broker.close(trunkline_support::patience()).await;
}

async fn invalid_data_is_dead_lettered_with_every_place(bench: Bench) {
    std::fs::write(bench.path("score.json"), SCHEMA).expect("a file");
    // The queues are made before the daemon starts, because one process at a time uses the embedded broker.
    let _declared = bench.open(ROUTES).await.close(trunkline_support::patience()).await;
    publish(&bench, "good", Some("1.4.0"), &json!({ "score": 0.5 })).await;
    publish(&bench, "old", Some("0.9.0"), &json!({ "score": 0.5 })).await;
    publish(&bench, "none", None, &json!({ "score": 0.5 })).await;
    publish(&bench, "wrong", Some("1.0.0"), &json!({ "score": 7 })).await;
    publish(&bench, "missing", Some("1.0.0"), &json!({ "points": 1 })).await;
    let daemon = bench.start(ROUTES).await;
    metric(&daemon, &settled(&bench, "scores", "ack"), |count| count == 1.0).await;
    metric(&daemon, &settled(&bench, "scores", "dead_letter"), |count| count == 4.0).await;

    // A corrected schema takes effect while the daemon runs.
    std::fs::write(bench.path("score.json"), SCHEMA.replace("\"maximum\": 1", "\"maximum\": 10")).expect("a file");
    let (status, answer) = daemon.post("/api/v1/reload", "");
    // The watcher may have reloaded before this request.
    let result = answer["result"].as_str().unwrap_or_default();
    assert!(status == 200 && ["swapped", "unchanged"].contains(&result), "{answer}");
    std::fs::write(bench.path("score.json"), "{").expect("a file");
    let (status, answer) = daemon.post("/api/v1/reload", "");
    assert_eq!(status, 409, "{answer}");
    assert!(answer["errors"].to_string().contains("TL047"), "{answer}");
    assert!(daemon.terminate().await.success());

    std::fs::write(bench.path("score.json"), SCHEMA).expect("a file");
    let broker = bench.open(ROUTES).await;
    let dead = drain(&broker, &bench.queue("$P-scores.dlq"), 4).await;
    broker.close(trunkline_support::patience()).await;
    let header = |id: &str, name: &str| {
        let letter =
            dead.iter().find(|letter| letter.properties.message_id.as_deref() == Some(id)).expect("it is dead");
        letter.properties.headers.text(name).unwrap_or_default().to_owned()
    };
    for id in ["old", "none", "wrong", "missing"] {
        assert_eq!(header(id, "trunkline-reason"), "schema", "{id}");
    }
    assert_eq!(
        header("old", "trunkline-error"),
        "the event has version \"0.9.0\", but the route accepts only version 1.x"
    );
    assert_eq!(header("none", "trunkline-error"), "the event has no version, but the route accepts only version 1.x");
    assert!(header("wrong", "trunkline-error").starts_with("/score: "), "{}", header("wrong", "trunkline-error"));
    assert!(header("missing", "trunkline-error").contains("score"), "{}", header("missing", "trunkline-error"));
}

const TENANTS: &str = r#"
    [defaults]
    exchange = { name = "$P-events", type = "topic" }
    [routes.$P-shared]
    from = "in"
    plugin = "echo"
    concurrency = 8
    tenant = { by = "data.org", rate = "20/s" }
"#;
/// The number of events that may start within one second.
const AT_ONCE: usize = 20;

fn post(daemon: &Daemon, events: &[(String, &str)]) {
    let event = |(id, org): &(String, &str)| json!({ "type": "in", "id": id, "data": { "org": org } });
    for part in events.chunks(200) {
        let body = json!({ "events": part.iter().map(event).collect::<Vec<_>>() });
        let (status, answer) = daemon.post("/api/v1/events/batch", &body.to_string());
        assert_eq!(status, 202, "{answer}");
    }
}

/// The time at which each settled event was settled.
fn times(daemon: &Daemon) -> BTreeMap<String, jiff::Timestamp> {
    let log = daemon.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let settled = lines.filter(|line| line["message"] == "settled" && line["outcome"] == "ack");
    let time = |line: &Value| line["timestamp"].as_str().and_then(|text| text.parse().ok());
    settled.filter_map(|line| Some((line["event"].as_str()?.to_owned(), time(&line)?))).collect()
}

async fn a_flood_of_one_tenant_delays_no_other(bench: Bench) {
    const FLOOD: usize = 220;
    let daemon = bench.start(TENANTS).await;
    let (began, first) = (Instant::now(), jiff::Timestamp::now());
    post(&daemon, &(0..FLOOD).map(|number| (format!("loud-{number}"), "loud")).collect::<Vec<_>>());
    let quiet = ["quiet-0", "quiet-1", "quiet-2"].map(|id| (id.to_owned(), "quiet"));
    post(&daemon, &quiet);
    metric(&daemon, &settled(&bench, "shared", "ack"), |count| count >= (FLOOD + quiet.len()) as f64).await;
    let flood_took = began.elapsed();
    // 20 at once and 200 at 20 a second are 10 s. Events of other tenants are settled before most of them.
    assert!(flood_took >= Duration::from_secs(9), "the rate holds: {flood_took:?}");
    let times = times(&daemon);
    let of = |name: &str| times.iter().filter(|(id, _)| id.starts_with(name)).map(|(_, at)| *at).collect::<Vec<_>>();
    let (mut loud, last_quiet) = (of("loud-"), of("quiet-").into_iter().max().expect("three"));
    loud.sort();
    let before = loud.iter().filter(|at| **at < last_quiet).count();
    println!("{}: flood after {flood_took:?}, {before} of it before the quiet ones", bench.broker);
    assert!(before < FLOOD / 2, "the quiet tenant waited for {before} of the flood");
    // No event is settled before its turn, however late other events are.
    for (at, turn) in loud.iter().zip(0..).skip(AT_ONCE) {
        let due = Duration::from_millis(1000 / 20) * (turn - AT_ONCE as u32);
        assert!(at.duration_since(first).unsigned_abs() >= due, "{turn} ended {at}, before {due:?} after {first}");
    }
    assert!(daemon.metric(&settled(&bench, "shared", "dead_letter")) < 0.5);
    assert!(daemon.terminate().await.success());
}

async fn an_event_without_a_tenant_is_let_in_nowhere(bench: Bench) {
    let daemon = bench.start(TENANTS).await;
    let (status, answer) = daemon.post("/api/v1/events", r#"{"type":"in","id":"no-tenant","data":{}}"#);
    assert_eq!(status, 202, "{answer}");
    assert_eq!(daemon.settled("no-tenant").await["reason"], "invalid");
    assert!(daemon.terminate().await.success());
}

on_both_brokers!(
    invalid_data_is_dead_lettered_with_every_place,
    a_flood_of_one_tenant_delays_no_other,
    an_event_without_a_tenant_is_let_in_nowhere,
);
