//! The outcome of each guest, and that no guest stops the others.

use serde_json::Value;
use trunkline_support::Daemon;

use crate::bench::{Bench, on_both_brokers};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
retry = { max = 1, delay = "100ms" }

[routes.$P-echo]
from = "echo"
plugin = "echo"

[routes.$P-spin]
from = "spin"
plugin = "spin"
[plugins.spin.limits]
timeout = "200ms"

[routes.$P-trapper]
from = "trapper"
plugin = "trapper"

[routes.$P-hog]
from = "hog"
plugin = "hog"

[routes.$P-flood]
from = "flood"
plugin = "flood"

[routes.$P-bigmouth]
from = "bigmouth"
plugin = "bigmouth"

[routes.$P-rejecter]
from = "rejecter"
plugin = "rejecter"

[routes.$P-retrier]
from = "retrier"
plugin = "retrier"

[routes.$P-liar]
from = "liar"
plugin = "liar"

[routes.$P-counter]
from = "counter"
plugin = "counter"
"#;

fn publish(daemon: &Daemon, kind: &str, data: &Value) -> String {
    let body = serde_json::json!({ "type": kind, "data": data }).to_string();
    let (status, accepted) = daemon.post("/api/v1/events", &body);
    assert_eq!((status, &accepted["routed"]), (202, &Value::Bool(true)), "{accepted}");
    accepted["id"].as_str().expect("an id").to_owned()
}

async fn table(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    let cases = [
        ("echo", 1, "ack", ""),
        ("spin", 1, "dead_letter", "timeout"),
        ("trapper", 1, "dead_letter", "trap"),
        ("hog", 1, "dead_letter", "memory"),
        ("flood", 1, "dead_letter", "too-large"),
        ("bigmouth", 1, "dead_letter", "too-large"),
        ("rejecter", 1, "dead_letter", "rejected"),
        ("retrier", 2, "ack", ""),
        ("retrier", 9, "dead_letter", "exhausted"),
        ("liar", 1, "dead_letter", "invalid"),
        ("counter", 1, "ack", ""),
        ("counter", 1, "ack", ""),
    ];
    let mut published = Vec::new();
    for (kind, data, outcome, reason) in cases {
        let id = publish(&daemon, kind, &Value::from(data));
        published.push((kind, id, outcome, reason));
    }
    for (kind, id, outcome, reason) in published {
        let settled = daemon.settled(&id).await;
        assert_eq!((&settled["outcome"], &settled["reason"]), (&outcome.into(), &reason.into()), "{kind}: {settled}");
        let emitted: Vec<Value> = serde_json::from_str(settled["emitted"].as_str().expect("a list")).expect("JSON");
        assert_eq!(emitted.len(), usize::from(outcome == "ack"), "{kind}: {settled}");
        if kind == "counter" {
            assert_eq!(emitted[0]["data"], "1", "statics never outlive an event");
        }
        if kind == "retrier" && outcome == "ack" {
            assert_eq!(emitted[0]["data"], "2", "the attempts are counted");
        }
    }
    daemon.logged("guest says no to").await;
    let id = publish(&daemon, "echo", &Value::from("still here"));
    assert_eq!(daemon.settled(&id).await["outcome"], "ack", "the others go on");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_event_is_finished_on_sigterm_and_left_at_the_deadline() {
    let routes = r#"
        [defaults]
        exchange = { name = "$P-events", type = "topic" }
        [routes.$P-sleeper]
        from = "sleeper"
        plugin = "sleeper"
        [plugins.sleeper.limits]
        timeout = "1m"
    "#;
    let bench = Bench::embedded();
    let series = format!("trunkline_messages_in_flight{{route=\"{}-sleeper\"}}", bench.prefix);
    let daemon = bench.start(routes).await;
    publish(&daemon, "sleeper", &Value::from(5_000));
    crate::bench::metric(&daemon, &series, |count| count == 1.0).await;
    assert_eq!(daemon.terminate().await.code(), Some(0), "the work in progress is finished");

    let daemon = bench.start(routes).await;
    publish(&daemon, "sleeper", &Value::from(40_000));
    crate::bench::metric(&daemon, &series, |count| count == 1.0).await;
    daemon.signal("TERM");
    trunkline_support::eventually("the drain's beginning", || {
        let draining = daemon.get("/health").1.contains("draining");
        async move { draining.then_some(()) }
    })
    .await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(1), "a second signal ends it at once");
    let broker = bench.open(routes).await;
    let left = crate::bench::drain(&broker, &bench.queue("$P-sleeper"), 1).await;
    assert_eq!(left.len(), 1, "unfinished means unacknowledged");
}

on_both_brokers! {
    table,
}
