//! Canaries: a bad version costs no message, and a good one is promoted.

use std::process::Command;

use serde_json::{Value, json};
use trunkline_support::{Daemon, eventually};

use crate::bench::{Bench, binary, drain, metric, on_both_brokers, settled};

const CANARY: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = ["echoed"]
[routes.$P-in]
from = "in"
plugin = "echo"
concurrency = 4
canary = { plugin = "$CANARY", percent = 50 }
"#;

fn routes(canary: &str) -> String {
    CANARY.replace("$CANARY", canary)
}

fn publish(daemon: &Daemon, id: &str, attributes: &Value) {
    let body = json!({ "type": "in", "id": id, "data": 20, "attributes": attributes }).to_string();
    let (status, accepted) = daemon.post("/api/v1/events", &body);
    assert_eq!((status, &accepted["routed"]), (202, &Value::Bool(true)), "{accepted}");
}

fn trial(daemon: &Daemon) -> Value {
    let all: Value = serde_json::from_str(&daemon.get("/api/v1/rollouts").1).expect("JSON");
    all[0].clone()
}

fn messages(trial: &Value) -> u64 {
    ["good", "bad", "both"].iter().filter_map(|key| trial["trial"][key].as_u64()).sum()
}

fn order(daemon: &Daemon, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(binary()).arg("rollout").args(arguments).args(["--url", &daemon.url("")]).output();
    let output = output.expect("the verb runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("a code"), String::from_utf8_lossy(&text).into_owned())
}

/// The guest `picky` traps on 30 % of the events, and the stable plugin handles all of them.
async fn a_bad_canary_is_rolled_back_and_costs_no_message(bench: Bench) {
    const EVENTS: usize = 600;
    let daemon = bench.start(&routes("picky")).await;
    for n in 0..EVENTS {
        let attributes = if n % 10 < 3 { json!({ "trap": "yes" }) } else { json!({}) };
        publish(&daemon, &format!("e-{n}"), &attributes);
    }
    #[expect(clippy::cast_precision_loss, reason = "hundreds")]
    metric(&daemon, &settled(&bench, "in", "ack"), |count| count >= EVENTS as f64).await;
    let ended = trial(&daemon);
    assert_eq!(ended["trial"]["phase"], "rolled-back", "{ended}");
    assert!(messages(&ended) <= 200, "{ended}");
    println!("{}: rolled back after {} canary messages", bench.broker, messages(&ended));
    for outcome in ["retry", "dead_letter"] {
        assert_eq!(daemon.metric(&settled(&bench, "in", outcome)), 0.0, "{outcome}");
    }
    let (code, text) = order(&daemon, &["status"]);
    assert!(code == 0 && text.contains("rolled-back") && text.contains("picky"), "{text}");
    assert!(daemon.terminate().await.success());

    // The verdict survives the daemon, and the same file is not tried again.
    let daemon = bench.start(&routes("picky")).await;
    publish(&daemon, "later", &json!({}));
    daemon.settled("later").await;
    assert_eq!(trial(&daemon)["trial"]["phase"], "rolled-back");
    assert!(daemon.terminate().await.success());

    let broker = bench.open(&routes("picky")).await;
    let out = drain(&broker, &bench.queue("$P-out"), EVENTS + 1).await;
    let mut causes: Vec<&str> =
        out.iter().filter_map(|message| message.properties.headers.text("trunkline-cause")).collect();
    causes.sort_unstable();
    causes.dedup();
    assert_eq!((causes.len(), out.len()), (EVENTS + 1, EVENTS + 1), "each event came out once");
    broker.close(trunkline_support::patience()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_canary_is_promoted_and_gets_everything() {
    let bench = Bench::embedded();
    // The stable plugin is slow, so that no call of the canary is slow beside it on a busy machine.
    let routes = routes("picky").replace("plugin = \"echo\"\nconcurrency = 4", "plugin = \"sleeper\"\nconcurrency = 4");
    let daemon = bench.start(&routes).await;
    let mut sent = 0;
    eventually("the promotion", || {
        for _ in 0..50 {
            publish(&daemon, &format!("e-{sent}"), &json!({}));
            sent += 1;
        }
        let is_promoted = trial(&daemon)["trial"]["phase"] == "promoted";
        async move { is_promoted.then_some(()) }
    })
    .await;
    metric(&daemon, &settled(&bench, "in", "ack"), |count| count >= f64::from(sent)).await;
    let stable = "trunkline_plugin_invocations_total{plugin=\"sleeper\",variant=\"stable\",outcome=\"ok\"}";
    let before = daemon.metric(stable);
    for n in 0..50 {
        publish(&daemon, &format!("after-{n}"), &json!({}));
        daemon.settled(&format!("after-{n}")).await;
    }
    assert_eq!(daemon.metric(stable), before, "the stable plugin gets nothing more");
    // And back by a command.
    let route = format!("{}-in", bench.prefix);
    let (code, text) = order(&daemon, &["abort", &route]);
    assert!(code == 0 && text.contains("rolled-back"), "{text}");
    publish(&daemon, "back", &json!({}));
    daemon.settled("back").await;
    assert_eq!(daemon.metric(stable), before + 1.0);
    let (code, text) = order(&daemon, &["promote", "no-such-route"]);
    assert!(code == 1 && text.contains("no canary"), "{text}");
    assert!(daemon.terminate().await.success());
    let (code, text) = {
        let output = Command::new(binary()).args(["rollout", "status", "--url", "http://127.0.0.1:9"]).output();
        let output = output.expect("the verb runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(code == Some(69) && text.contains("no daemon responds"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stays_with_its_version() {
    let bench = Bench::embedded();
    let by_subject = routes("picky").replace("percent = 50", "percent = 50, by = \"subject\", auto = false");
    let daemon = bench.start(&by_subject).await;
    for n in 0..120 {
        let subject = format!("s-{}", n % 40);
        let body = json!({ "type": "in", "id": format!("e-{n}"), "data": 1, "subject": subject }).to_string();
        assert_eq!(daemon.post("/api/v1/events", &body).0, 202);
    }
    metric(&daemon, &settled(&bench, "in", "ack"), |count| count >= 120.0).await;
    assert_eq!(trial(&daemon)["trial"]["phase"], "trial", "by order only");
    assert!(daemon.terminate().await.success());
    let broker = bench.open(&by_subject).await;
    let out = drain(&broker, &bench.queue("$P-out"), 120).await;
    let mut by_key = std::collections::BTreeMap::<String, std::collections::BTreeSet<String>>::new();
    for message in &out {
        let headers = &message.properties.headers;
        let cause: usize = headers
            .text("trunkline-cause")
            .and_then(|id| id.strip_prefix("e-"))
            .and_then(|n| n.parse().ok())
            .expect("a cause");
        let plugin = headers.text("trunkline-plugin").expect("a plugin").to_owned();
        by_key.entry(format!("s-{}", cause % 40)).or_default().insert(plugin);
    }
    assert_eq!(by_key.len(), 40);
    assert!(by_key.values().all(|plugins| plugins.len() == 1), "{by_key:?}");
    assert!(
        by_key.values().flatten().collect::<std::collections::BTreeSet<_>>().len() == 2,
        "both had some: {by_key:?}"
    );
    broker.close(trunkline_support::patience()).await;
}

on_both_brokers! {
    a_bad_canary_is_rolled_back_and_costs_no_message,
}
