//! The environment variables of the event broker.

use std::time::Duration;

use serde_json::json;

use super::{get, publish, queue};
use crate::bench::{Bench, metric, on_both_brokers, settled};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-kept]
owned = true
bind = "kept"
[routes.$P-nap]
from = "nap"
plugin = "sleeper"
"#;

/// The settings of the existing service. A queue with other limits is used as it is.
async fn as_the_service_has_them(bench: Bench) {
    let environment = [
        ("WORKER_POOL_SIZE", "5"),
        ("WORKER_PREFETCH_COUNT", "10"),
        ("QUEUE_TTL", "86400000"),
        ("QUEUE_MAX_LENGTH", "10000"),
    ];
    let daemon = bench.start_with(ROUTES, &environment).await;
    let limit = format!("trunkline_route_concurrency_limit{{route=\"{}-nap\"}}", bench.prefix);
    metric(&daemon, &limit, |limit| limit == 5.0).await;
    let started = std::time::Instant::now();
    let naps = (0..30).map(|n| json!({ "type": "nap", "id": format!("n-{n}"), "data": 500 })).collect::<Vec<_>>();
    let (status, answer) = daemon.post("/api/v1/events/batch", &json!({ "events": naps }).to_string());
    assert_eq!(status, 202, "{answer}");
    let (mut most, mut held) = (0.0_f64, 0);
    let series = format!("trunkline_messages_in_flight{{route=\"{}-nap\"}}", bench.prefix);
    while daemon.metric(&settled(&bench, "nap", "ack")) < 30.0 {
        most = most.max(daemon.metric(&series));
        if bench.is_embedded() {
            let nap = queue(&daemon, bench.queue("$P-nap").as_str(), |_| true).await;
            held = held.max(nap["unacknowledged"].as_u64().expect("a number"));
        }
        assert!(started.elapsed() < trunkline_support::patience(), "30 naps have an end");
        tokio::task::yield_now().await;
    }
    assert!(most > 1.0 && most <= 10.0 && held <= 10, "{most} in flight, {held} held");
    assert!(started.elapsed() >= Duration::from_millis(30 / 5 * 500), "five at a time: {:?}", started.elapsed());
    assert!(daemon.terminate().await.success());

    let said = ROUTES.replace("bind = \"kept\"", "bind = \"kept\"\nttl = \"24h\"\nmax-length = 10000");
    let said = said.replace("[defaults]", "[defaults]\nttl = \"24h\"\nmax-length = 10000");
    let broker = bench.open(&said).await;
    let status = broker.status().borrow().clone();
    assert_eq!(status.refused, [""; 0], "the queues have just these arguments");
    broker.close(trunkline_support::patience()).await;
    if !bench.is_embedded() {
        let other = bench.open(&said.replace("24h", "23h")).await;
        assert_eq!(other.status().borrow().refused, [""; 0], "another TTL loses nothing");
        other.close(trunkline_support::patience()).await;
    }
}

/// A message over the length or the age limit goes to the dead-letter queue.
async fn messages_over_the_limits_are_dead_lettered(bench: Bench) {
    let daemon = bench.start_with(ROUTES, &[("QUEUE_TTL", "1500"), ("QUEUE_MAX_LENGTH", "3")]).await;
    let started = std::time::Instant::now();
    for n in 0..5 {
        assert_eq!(publish(&daemon, &json!({ "type": "kept", "data": n })).0, 202);
    }
    let dead = bench.queue("$P-kept.dlq").to_string();
    queue(&daemon, &dead, |queue| queue["ready"].as_u64().is_some_and(|count| count >= 2)).await;
    queue(&daemon, &dead, |queue| queue["ready"] == 5).await;
    assert!(started.elapsed() >= Duration::from_millis(1500), "{:?}", started.elapsed());
    assert_eq!(get(&daemon, "/api/v1/events/stats")["dead_letters"], 5);
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    as_the_service_has_them,
    messages_over_the_limits_are_dead_lettered,
}
