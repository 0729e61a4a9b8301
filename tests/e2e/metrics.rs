//! W17: the metrics of queues, which are the same on both brokers, the lag of routes, and the metrics of plugins.

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::json;
use trunkline_support::Daemon;
use trunkline_support::rabbitmq::virtual_host;

use crate::bench::{Bench, metric, on_both_brokers, settled};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "echoed"
[routes.$P-echo]
from = "in"
plugin = "echo"
[routes.$P-reject]
from = "bad"
plugin = "rejecter"
[routes.$P-slow]
from = "slow"
plugin = "echo"
rate = "1/h"
"#;

fn routes(bench: &Bench) -> String {
    let poll = if bench.is_embedded() { "" } else { "[broker]\npoll = \"1s\"\n" };
    format!("{poll}{ROUTES}")
}

fn publish(daemon: &Daemon, kind: &str, count: usize) {
    for _ in 0..count {
        let (status, answer) = daemon.post("/api/v1/events", &json!({ "type": kind, "data": 1 }).to_string());
        assert_eq!(status, 202, "{answer}");
    }
}

/// A metric of a queue with this role.
fn of_queue(bench: &Bench, metric: &str, queue: &str, state: &str, role: &str) -> String {
    let state = if state.is_empty() { String::new() } else { format!("state=\"{state}\",") };
    format!("{metric}{{queue=\"{}-{queue}\",{state}role=\"{role}\"}}", bench.prefix)
}

async fn queues_have_messages_consumers_and_roles(bench: Bench) {
    let daemon = bench.start(&routes(&bench)).await;
    publish(&daemon, "in", 3);
    publish(&daemon, "bad", 2);
    metric(&daemon, &settled(&bench, "echo", "ack"), |count| count == 3.0).await;
    metric(&daemon, &settled(&bench, "reject", "dead_letter"), |count| count == 2.0).await;
    let (messages, consumers) = ("trunkline_queue_messages", "trunkline_queue_consumers");
    metric(&daemon, &of_queue(&bench, messages, "out", "ready", "work"), |ready| ready == 3.0).await;
    metric(&daemon, &of_queue(&bench, messages, "reject.dlq", "ready", "dead-letter"), |ready| ready == 2.0).await;
    metric(&daemon, &of_queue(&bench, consumers, "echo", "", "work"), |count| count == 1.0).await;
    let (_, text) = daemon.get("/metrics");
    for zero in [of_queue(&bench, consumers, "out", "", "work"), of_queue(&bench, messages, "echo", "ready", "work")] {
        assert!(text.contains(&format!("{zero} 0\n")), "{zero} is not 0:\n{text}");
    }
    let unacknowledged = of_queue(&bench, messages, "echo", "unacknowledged", "work");
    assert_eq!(
        text.contains(&unacknowledged),
        bench.is_embedded(),
        "AMQP reports no such figure, and 0 would be wrong"
    );
    assert!(daemon.terminate().await.success());
}

/// The rate lets the first event begin, and the others wait in the queue.
async fn the_lag_of_a_route_grows_while_events_wait(bench: Bench) {
    let daemon = bench.start(&routes(&bench)).await;
    let lag = |route: &str| format!("trunkline_route_lag_seconds{{route=\"{}-{route}\"}}", bench.prefix);
    publish(&daemon, "in", 1);
    publish(&daemon, "slow", 6);
    metric(&daemon, &settled(&bench, "slow", "ack"), |count| count == 1.0).await;
    let first = metric(&daemon, &lag("slow"), |lag| lag > 1.0).await;
    metric(&daemon, &lag("slow"), |lag| lag > first + 1.0).await;
    let (_, text) = daemon.get("/metrics");
    assert!(text.contains(&format!("{} 0\n", lag("echo"))), "nothing waits there:\n{text}");
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    queues_have_messages_consumers_and_roles,
    the_lag_of_a_route_grows_while_events_wait,
}

/// A queue of another connection alone cannot be used.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_queue_is_named() {
    let bench = Bench::amqp();
    let connecting = Connection::connect(&bench.broker, ConnectionProperties::default());
    let connection = connecting.await.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    let queue = bench.queue("$P-locked");
    let options = QueueDeclareOptions { exclusive: true, durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.expect("declared");
    let daemon = bench.start(&format!("{}[queues.$P-locked]\nbind = \"locked\"\n", routes(&bench))).await;
    let refused = format!("trunkline_topology_refused{{queue=\"{queue}\"}}");
    metric(&daemon, &refused, |value| value == 1.0).await;
    assert_eq!(daemon.sum("trunkline_topology_refused"), 1.0, "only this queue");
    assert!(daemon.terminate().await.success());
}

/// Retries wait in queues that are not queues of routes.toml. The virtual host has no other messages.
#[tokio::test(flavor = "multi_thread")]
async fn retries_in_the_delay_queues_are_counted() {
    const AGAIN: &str = r#"
[routes.$P-again]
from = "again"
plugin = "retrier"
retry = { max = 1, delay = "5m" }
"#;
    let bench = Bench::on(virtual_host());
    let daemon = bench.start(&format!("{}{AGAIN}", routes(&bench))).await;
    let (status, answer) = daemon.post("/api/v1/events", &json!({ "type": "again", "data": 2 }).to_string());
    assert_eq!(status, 202, "{answer}");
    metric(&daemon, "trunkline_delayed_messages ", |count| count == 1.0).await;
    assert!(daemon.terminate().await.success());
}

/// An endless loop uses the processor until its time limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_has_its_processor_time_and_its_limits() {
    const SPIN: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[routes.$P-spin]
from = "spin"
plugin = "spin"
retry = { max = 0 }
[plugins.spin]
limits = { timeout = "300ms", memory = "32MiB" }
"#;
    let bench = Bench::embedded();
    let daemon = bench.start(SPIN).await;
    publish(&daemon, "spin", 1);
    metric(&daemon, &settled(&bench, "spin", "dead_letter"), |count| count == 1.0).await;
    let cpu = daemon.metric("trunkline_plugin_cpu_seconds_total{plugin=\"spin\",variant=\"stable\"}");
    assert!(cpu > 0.01 && cpu < 1.0, "{cpu} s");
    let hits =
        |limit: &str| daemon.metric(&format!("trunkline_plugin_limit_hits_total{{plugin=\"spin\",limit=\"{limit}\"}}"));
    assert_eq!((hits("timeout"), hits("memory")), (1.0, 0.0));
    let memory = daemon.metric("trunkline_plugin_limit_bytes{plugin=\"spin\",limit=\"memory\"}");
    assert_eq!(memory, f64::from(32_u32 << 20));
    let (_, text) = daemon.get("/metrics");
    let info = text.lines().find(|line| line.starts_with("trunkline_plugin_info{plugin=\"spin\",digest=\""));
    assert!(
        info.is_some_and(|info| info.contains("abi=\"trunkline:plugin@0.1.0\"") && info.ends_with(" 1")),
        "{info:?}"
    );
    assert!(daemon.terminate().await.success());
}
