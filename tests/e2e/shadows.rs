//! Shadows: compared with the stable plugin, without any effect of their own.

use serde_json::{Value, json};
use trunkline_support::{Daemon, eventually};

use crate::bench::{Bench, drain, metric, on_both_brokers, settled};
use crate::capabilities::server::Server;
use crate::capabilities::{answer, publish};

/// `$STABLE` and `$SHADOW` are guests with the same grants.
const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
retry = { max = 0 }
[queues.$P-out]
bind = ["echoed"]
[routes.$P-in]
from = "in"
plugin = "stable"
shadow = { plugin = "shadow" }
[plugins.stable]
file = "$DIR/$STABLE.wasm"
allow = $ALLOW
[plugins.shadow]
file = "$DIR/$SHADOW.wasm"
allow = $ALLOW
"#;

fn routes(stable: &str, shadow: &str, allow: &str) -> String {
    let dir = trunkline_support::guests().display().to_string();
    let names = [("$STABLE", stable), ("$SHADOW", shadow), ("$ALLOW", allow), ("$DIR", &*dir)];
    names.iter().fold(ROUTES.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn compared(bench: &Bench, result: &str) -> String {
    format!("trunkline_shadow_compared_total{{route=\"{}-in\",result=\"{result}\"}}", bench.prefix)
}

fn mismatches(bench: &Bench, field: &str) -> String {
    format!("trunkline_shadow_mismatches_total{{route=\"{}-in\",field=\"{field}\"}}", bench.prefix)
}

/// Publishes, and waits until the shadow's results were compared, `all` of them by then.
async fn shadowed(bench: &Bench, daemon: &Daemon, data: &Value, result: &str, all: u32) -> Value {
    let told = answer(daemon, "in", None, data).await;
    metric(daemon, &compared(bench, result), |count| count >= f64::from(all)).await;
    told
}

async fn a_shadow_is_compared_and_publishes_nothing(bench: Bench) {
    let routes = routes("echo", "picky", "{}");
    let daemon = bench.start(&routes).await;
    for n in 0..20 {
        let _told = shadowed(&bench, &daemon, &json!({ "n": n }), "same", n + 1).await;
    }
    for n in 0..5 {
        let body = json!({ "type": "in", "data": n, "attributes": { "poison": "yes" } });
        assert_eq!(daemon.post("/api/v1/events", &body.to_string()).0, 202);
        metric(&daemon, &compared(&bench, "different"), |count| count >= f64::from(n + 1)).await;
    }
    assert_eq!(daemon.metric(&mismatches(&bench, "outcome")), 5.0);
    // The results are compared before the event is settled.
    let acknowledged = metric(&daemon, &settled(&bench, "in", "ack"), |count| count >= 25.0).await;
    assert_eq!(acknowledged, 25.0);
    assert!(daemon.terminate().await.success());
    let broker = bench.open(&routes).await;
    assert_eq!(drain(&broker, &bench.queue("$P-out"), 25).await.len(), 25, "the shadow's are not among them");
    broker.close(trunkline_support::patience()).await;
}

on_both_brokers! {
    a_shadow_is_compared_and_publishes_nothing,
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_made_once_and_the_shadow_gets_the_same_answers() {
    let server = Server::start();
    let bench = Bench::embedded();
    let allow = format!("{{ http = [{:?}], private-networks = [\"127.0.0.1\"] }}", server.origin());
    let daemon = bench.start(&routes("fetcher", "fetcher", &allow)).await;
    let url = |path: &str| format!("{}{path}", server.origin());
    let wishes = [
        json!({ "url": url("/hello?q=1") }),
        json!({ "url": url("/upload"), "method": "POST", "upload_bytes": 20_000 }),
        json!({ "url": url(&format!("/redirect?{}", url("/there"))), "follow": 1 }),
        json!({ "url": url("/stops"), "timeout_ms": 300 }),
        json!({ "url": url("/silent"), "timeout_ms": 300 }),
        json!({ "url": "http://127.0.0.1:1/" }),
    ];
    for (wish, all) in wishes.iter().zip(1..) {
        let _told = shadowed(&bench, &daemon, wish, "same", all).await;
    }
    // One request each, two for a followed redirect, and none for an origin without a grant.
    eventually("all heads", || {
        let all = server.heads().len() >= 6;
        async move { all.then_some(()) }
    })
    .await;
    assert_eq!(server.heads().len(), 6, "{:?}", server.heads());
    let counted = "trunkline_plugin_host_calls_total{plugin=\"stable\",interface=\"http\",outcome=\"ok\"}";
    assert_eq!(daemon.metric(counted), 4.0, "{}", daemon.get("/metrics").1);
    assert_eq!(daemon.metric(&counted.replace("stable", "shadow")), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_the_stable_plugins_and_changes_once() {
    let bench = Bench::embedded();
    let daemon = bench.start(&routes("keeper", "keeper", "{ kv = true }")).await;
    let steps = json!([
        { "op": "increment", "key": "n", "by": 1 }, { "op": "append", "key": "seen" }, { "op": "get", "key": "n" },
        { "op": "set", "key": "last", "value": "x" }, { "op": "get", "key": "last" }, { "op": "keys" },
        { "op": "delete", "key": "last" }, { "op": "get", "key": "last" },
    ]);
    for n in 1..=5 {
        let told = shadowed(&bench, &daemon, &steps, "same", n).await;
        assert_eq!((&told[0], &told[1], &told[2]), (&json!(n), &json!(n), &json!(n.to_string())), "{told}");
    }
    // A call that does not fit a recording is not compared.
    let fill = json!([
        { "op": "fill", "key": "a", "bytes": 1 << 20 }, { "op": "get", "key": "a" }, { "op": "get", "key": "a" },
        { "op": "get", "key": "a" }, { "op": "get", "key": "a" }, { "op": "get", "key": "a" }, { "op": "get", "key": "a" },
        { "op": "get", "key": "a" },
    ]);
    let _id = publish(&daemon, "in", None, &fill);
    // The log line of its outcome is too long to be kept.
    metric(&daemon, &settled(&bench, "in", "ack"), |count| count >= 6.0).await;
    metric(&daemon, &compared(&bench, "skipped"), |count| count >= 1.0).await;
    assert_eq!(daemon.metric(&compared(&bench, "different")), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_further_calls_of_a_shadow_are_differences() {
    let bench = Bench::embedded();
    // The stable plugin changes its state, and the shadow does not.
    let daemon = bench.start(&routes("keeper", "echo", "{ kv = true }")).await;
    let count = json!([{ "op": "increment", "key": "n", "by": 1 }]);
    let _told = shadowed(&bench, &daemon, &count, "different", 1).await;
    assert_eq!(daemon.metric(&mismatches(&bench, "calls")), 1.0);
    assert!(daemon.terminate().await.success());

    // In the opposite case the shadow writes nothing.
    let bench = Bench::embedded();
    let daemon = bench.start(&routes("echo", "keeper", "{ kv = true }")).await;
    let _told = shadowed(&bench, &daemon, &count, "different", 1).await;
    assert_eq!(daemon.metric(&mismatches(&bench, "calls")), 1.0);
    let counted = "trunkline_plugin_host_calls_total{plugin=\"shadow\",interface=\"kv\",outcome=\"ok\"}";
    assert_eq!(daemon.metric(counted), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_have_the_same_time_and_luck() {
    let bench = Bench::embedded();
    let daemon = bench.start(&routes("dicer", "dicer", "{}")).await;
    let mut drawn = Vec::new();
    for n in 1..=5 {
        drawn.push(shadowed(&bench, &daemon, &json!({}), "same", n).await);
    }
    for key in ["times", "hash", "lots"] {
        let different = drawn.iter().map(|drawn| drawn[key].to_string()).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(different.len(), 5, "each event has its own {key}: {drawn:?}");
    }
}
