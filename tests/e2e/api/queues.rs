//! Figures about queues, as the broker gives them.

use serde_json::{Value, json};
use trunkline_support::eventually;
use trunkline_support::rabbitmq::{RabbitmqNode, free_port};

use super::{get, publish, queue};
use crate::bench::{Bench, metric, on_both_brokers, settled};

const ROUTES: &str = r#"
$MANAGEMENT
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-out]
bind = ["in", "slept"]
[queues.$P-nap]
bind = "nap"
prefetch = 10
[routes.$P-nap]
queue = "$P-nap"
plugin = "sleeper"
concurrency = 3
[routes.$P-no]
from = "no"
plugin = "rejecter"
[plugins.sleeper]
limits = { timeout = "60s" }
"#;

fn routes(management: &str) -> String {
    ROUTES.replace("$MANAGEMENT", management)
}

async fn depths_consumers_and_dead_letters(bench: Bench) {
    let routes = routes("");
    let daemon = bench.start(&routes).await;
    for (kind, count) in [("in", 3), ("no", 2)] {
        for n in 0..count {
            assert_eq!(publish(&daemon, &json!({ "type": kind, "data": n })).0, 202);
        }
    }
    metric(&daemon, &settled(&bench, "no", "dead_letter"), |count| count >= 2.0).await;
    let name = |text: &str| bench.queue(text).to_string();
    let dead = queue(&daemon, &name("$P-no.dlq"), |queue| queue["ready"] == 2).await;
    assert_eq!(
        (&dead["role"], &dead["consumers"], &dead["dead_letters"]),
        (&json!("dead-letter"), &json!(0), &Value::Null)
    );
    let no = queue(&daemon, &name("$P-no"), |queue| queue["consumers"] == 1 && queue["dead_letters"] == 2).await;
    assert_eq!(
        (&no["role"], &no["ready"], &no["dead_letter_queue"]),
        (&json!("work"), &json!(0), &json!(name("$P-no.dlq")))
    );
    let out = queue(&daemon, &name("$P-out"), |queue| queue["ready"] == 3).await;
    queue(&daemon, &name("$P-nap"), |queue| queue["consumers"] == 1).await;
    let all = get(&daemon, "/api/v1/events/queues");
    let listed = all["queues"].as_array().expect("a list");
    assert!(
        listed.iter().all(|queue| queue["name"].as_str().is_some_and(|name| name.starts_with(&bench.prefix))),
        "{all}"
    );
    let stats = get(&daemon, "/api/v1/events/stats");
    let sums = [&stats["queues"], &stats["ready"], &stats["consumers"], &stats["dead_letters"], &stats["retrying"]];
    let retrying = if bench.is_embedded() { json!(0) } else { Value::Null };
    assert_eq!(sums, [&json!(3), &json!(3), &json!(2), &json!(2), &retrying], "{stats}");
    assert_eq!(stats["dead_letters_by_queue"][name("$P-no.dlq")], 2, "{stats}");
    if bench.is_embedded() {
        assert_eq!((&all["source"], &all["problems"]), (&json!("embedded"), &json!([])));
        assert!(out["oldest_age_seconds"].as_f64().is_some_and(|age| (0.0..60.0).contains(&age)), "{out}");
        moves(&bench, &daemon).await;
    } else {
        assert_eq!(
            (&all["source"], &out["unacknowledged"], &out["rates"]),
            (&json!("amqp"), &Value::Null, &Value::Null)
        );
        assert_eq!((&stats["unacknowledged"], &stats["rates"]), (&Value::Null, &Value::Null));
        assert!(all["problems"][0].as_str().is_some_and(|text| text.contains("management-url")), "{all}");
    }
    daemon.signal("KILL");
    daemon.ended().await;
}

/// The embedded broker counts the events that wait for a retry, and no delayed emissions. RabbitMQ counts all messages in the
/// delay queues, which other tests use too.
async fn waiting_retries_are_counted(bench: Bench) {
    const WAITING: &str = r#"
        [defaults]
        exchange = { name = "$P-events", type = "topic" }
        [queues.$P-slow]
        bind = "slow"
        [queues.$P-later]
        bind = "later"
        [routes.$P-slow]
        queue = "$P-slow"
        plugin = "retrier"
        retry = { delay = "5m", jitter = false }
        [routes.$P-quick]
        from = "quick"
        plugin = "retrier"
        retry = { max = 1, delay = "100ms", jitter = false }
        [routes.$P-delays]
        from = "delays"
        plugin = "delayer"
    "#;
    let mut daemon = bench.start(WAITING).await;
    for kind in ["slow", "slow", "slow", "quick", "delays"] {
        assert_eq!(publish(&daemon, &json!({ "type": kind, "data": 600_000 })).0, 202);
    }
    metric(&daemon, &settled(&bench, "slow", "retry"), |count| count >= 3.0).await;
    metric(&daemon, &settled(&bench, "quick", "dead_letter"), |count| count >= 1.0).await;
    metric(&daemon, &settled(&bench, "delays", "ack"), |count| count >= 1.0).await;
    for restarts in [true, false] {
        eventually("three that wait", || {
            let stats = get(&daemon, "/api/v1/events/stats");
            let waiting = if bench.is_embedded() {
                stats["retrying"] == 3 && stats["delayed"].is_null()
            } else {
                stats["retrying"].is_null() && stats["delayed"].as_u64().is_some_and(|count| count >= 4)
            };
            async move { (waiting && stats["dead_letters"] == 1).then_some(()) }
        })
        .await;
        let slow = queue(&daemon, bench.queue("$P-slow").as_str(), |queue| queue["ready"] == 0).await;
        let expected = if bench.is_embedded() { json!(3) } else { Value::Null };
        assert_eq!((&slow["retrying"], &slow["role"]), (&expected, &json!("work")));
        if restarts {
            assert!(daemon.terminate().await.success());
            daemon = bench.start(WAITING).await;
        }
    }
    assert!(daemon.terminate().await.success());
}

/// Unacknowledged messages and rates, where the broker gives them.
async fn moves(bench: &Bench, daemon: &trunkline_support::Daemon) {
    let nap = bench.queue("$P-nap").to_string();
    for _ in 0..12 {
        assert_eq!(publish(daemon, &json!({ "type": "nap", "data": 20_000 })).0, 202);
    }
    let busy = queue(daemon, &nap, |queue| queue["unacknowledged"].as_u64().is_some_and(|count| count > 0)).await;
    let unacknowledged = busy["unacknowledged"].as_u64().expect("a number");
    assert!((1..=10).contains(&unacknowledged), "{busy}");
    // Rates are figures of the last seconds, so events have to flow during the request.
    let rates = ["publish", "deliver", "acknowledge"];
    let is_rated = |queue: &Value| {
        assert_eq!(publish(daemon, &json!({ "type": "no", "data": 1 })).0, 202);
        rates.iter().all(|rate| queue["rates"][rate].as_f64().is_some_and(|rate| rate > 0.0 && rate < 1000.0))
    };
    queue(daemon, bench.queue("$P-no").as_str(), is_rated).await;
    // A queue for which the broker has no figures yet has no sum.
    eventually("sums", || {
        let stats = get(daemon, "/api/v1/events/stats");
        async move { (stats["unacknowledged"].is_u64() && stats["rates"]["publish"].is_f64()).then_some(()) }
    })
    .await;
}

/// The queues, once their figures come from `source`.
async fn told_by(daemon: &trunkline_support::Daemon, source: &str) -> Value {
    eventually(source, || {
        let (status, text) = daemon.get("/api/v1/events/queues");
        let all: Value = serde_json::from_str(&text).expect("JSON");
        async move { (status == 200 && all["source"] == source).then_some(all) }
    })
    .await
}

/// Runs on a private node, because the plugin makes the node's start a second longer.
#[tokio::test(flavor = "multi_thread")]
async fn the_management_api_adds_rates_and_unacknowledged() {
    let port = free_port().expect("a port");
    let lines =
        format!("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\ncollect_statistics_interval = 1000\n");
    trunkline_support::rabbitmq::ensure().expect("a RabbitMQ to run");
    let node = RabbitmqNode::start_with_plugins(&["rabbitmq_management"], &lines).expect("a node");
    let bench = Bench::on(node.url());
    let routes = routes(&format!("[broker]\nmanagement-url = \"http://127.0.0.1:{port}\""));
    let daemon = bench.start(&routes).await;
    daemon.runs().await;
    moves(&bench, &daemon).await;
    let all = told_by(&daemon, "management").await;
    assert_eq!(all["problems"], json!([]), "{all}");
    daemon.signal("KILL");
    daemon.ended().await;

    let wrong =
        ROUTES.replace("$MANAGEMENT", &format!("[broker]\nmanagement-url = \"http://guest:hunter2@127.0.0.1:{port}\""));
    let daemon = bench.start(&wrong).await;
    daemon.runs().await;
    let all = told_by(&daemon, "amqp").await;
    assert!(all["problems"][0].as_str().is_some_and(|text| text.contains("401")), "{all}");
    assert!(!all.to_string().contains("hunter2") && !daemon.log().contains("hunter2"), "{all}");
    node.kill().expect("killed");
    eventually("no answer without a broker", || {
        let (status, text) = daemon.get("/api/v1/events/queues");
        async move { (status == 503 && text.contains("TL503")).then_some(()) }
    })
    .await;
}

on_both_brokers! {
    depths_consumers_and_dead_letters,
    waiting_retries_are_counted,
}
