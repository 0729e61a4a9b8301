//! Delays, repeats, order, rate and circuit of whole daemons on both brokers.

use std::time::{Duration, Instant};

use serde_json::json;
use trunkline_event::Message;
use trunkline_support::Daemon;

use crate::bench::{Bench, drain, message, metric, on_both_brokers, settled};

const ROUTES: &str = r#"
# The listener remembers the last id only: repetitions are for the routes to see.
[http]
dedupe = { window = "10m", max = 1 }

[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }

[queues.$P-out]
bind = ["echoed", "later", "managed", "slept"]

[routes.$P-once]
from = "once"
plugin = "echo"
dedupe = "10m"

[routes.$P-later]
from = "later.in"
plugin = "delayer"

[routes.$P-ordered]
from = "ordered"
plugin = "retrier"
order-by = "subject"
retry = { max = 4, delay = "1s" }

[routes.$P-slow]
from = "slow"
plugin = "echo"
rate = "20/s"

[routes.$P-nap]
from = "nap"
plugin = "sleeper"

[routes.$P-storm]
from = "storm"
plugin = "retrier"
retry = { max = 0 }
circuit = { failures = 5, window = "30s", pause = "700ms" }
concurrency = 1
"#;

fn publish(daemon: &Daemon, kind: &str, id: &str, subject: &str, data: serde_json::Value) {
    let body = json!({ "type": kind, "id": id, "subject": subject, "data": data }).to_string();
    let (status, answer) = daemon.post("/api/v1/events", &body);
    assert_eq!(status, 202, "{answer}\n{}", daemon.log());
}

/// Ends the daemon and takes the messages of a queue.
async fn taken(bench: &Bench, daemon: Daemon, queue: &str, at_least: usize) -> Vec<Message> {
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    let taken = drain(&broker, &bench.queue(queue), at_least).await;
    broker.close(trunkline_support::patience()).await;
    taken
}

/// Publishes a repeat, after an event without a queue, whose id is the HTTP API's last one.
fn repeat(daemon: &Daemon, id: &str, data: serde_json::Value) {
    publish(daemon, "unheard", &uuid::Uuid::now_v7().to_string(), "s", json!(1));
    publish(daemon, "once", id, "s", data);
}

async fn repeats(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    for id in ["e-1", "e-2"] {
        publish(&daemon, "once", id, "s", json!(1));
    }
    metric(&daemon, &settled(&bench, "once", "ack"), |count| count >= 2.0).await;
    for _ in 0..3 {
        repeat(&daemon, "e-1", json!(1));
    }
    repeat(&daemon, "e-2", json!("another"));
    metric(&daemon, &settled(&bench, "once", "dropped"), |count| count >= 3.0).await;
    metric(&daemon, &settled(&bench, "once", "dead_letter"), |count| count >= 1.0).await;
    daemon.signal("KILL");
    daemon.ended().await;
    let daemon = bench.start(ROUTES).await;
    repeat(&daemon, "e-1", json!(1));
    metric(&daemon, &settled(&bench, "once", "dropped"), |count| count >= 1.0).await;
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    assert_eq!(drain(&broker, &bench.queue("$P-out"), 2).await.len(), 2, "each id once");
    let dead = drain(&broker, &bench.queue("$P-once.dlq"), 1).await;
    let error = dead[0].properties.headers.text("trunkline-error").expect("an error");
    assert!(error.contains("id conflict"), "{error}");
}

/// A delayed emission survives a kill of the daemon and is delivered at its time.
async fn later(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    // On RabbitMQ the first delayed event makes the delay queues.
    publish(&daemon, "later.in", "warm", "s", json!(1));
    metric(&daemon, &settled(&bench, "later", "ack"), |count| count >= 1.0).await;
    let started = Instant::now();
    publish(&daemon, "later.in", "e", "s", json!(3000));
    metric(&daemon, &settled(&bench, "later", "ack"), |count| count >= 2.0).await;
    daemon.signal("KILL");
    daemon.ended().await;
    let daemon = bench.start(ROUTES).await;
    let mut out;
    if bench.is_embedded() {
        let ready = format!("trunkline_queue_messages{{queue=\"{}-out\",state=\"ready\",role=\"work\"}}", bench.prefix);
        metric(&daemon, &ready, |count| count >= 2.0).await;
        assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
        out = taken(&bench, daemon, "$P-out", 2).await;
    } else {
        let broker = bench.open(ROUTES).await;
        // The kill may have repeated the first event.
        out = Vec::new();
        let is_last = |message: &Message| &message.body[..] == b"3000";
        while !out.iter().any(is_last) {
            out.extend(drain(&broker, &bench.queue("$P-out"), 1).await);
        }
        out.sort_by_key(is_last);
        assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
        assert!(daemon.terminate().await.success());
    }
    let last = out.pop().expect("two came");
    assert_eq!((&last.body[..], last.routing_key.as_str()), (&b"3000"[..], "later"));
    assert_eq!(last.exchange.as_str(), format!("{}-events", bench.prefix));
}

async fn a_dead_letter_has_the_last_log_lines(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    publish(&daemon, "later.in", "bad", "s", json!("soon"));
    metric(&daemon, &settled(&bench, "later", "dead_letter"), |count| count >= 1.0).await;
    let dead = taken(&bench, daemon, "$P-later.dlq", 1).await;
    let headers = &dead[0].properties.headers;
    assert_eq!(headers.text("trunkline-reason"), Some("rejected"));
    let log = headers.text("trunkline-log").expect("the last lines");
    assert!(log.starts_with("info") && log.ends_with("is no number") && log.lines().count() == 2, "{log}");
    assert_eq!(&dead[0].body[..], b"\"soon\"", "the body as it came");
}

/// The first event of key `a` succeeds at its third attempt. Later events of key `a` wait, and other keys do not.
async fn order(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    publish(&daemon, "ordered", "a0", "a", json!(3));
    for n in 1..6 {
        publish(&daemon, "ordered", &format!("a{n}"), "a", json!(if n == 3 { 2 } else { 1 }));
        publish(&daemon, "ordered", &format!("b{n}"), "b", json!(1));
    }
    metric(&daemon, &settled(&bench, "ordered", "ack"), |count| count >= 11.0).await;
    assert!(daemon.metric(&settled(&bench, "ordered", "parked")) >= 1.0, "something waited in the broker");
    let out = taken(&bench, daemon, "$P-out", 11).await;
    let causes: Vec<&str> =
        out.iter().filter_map(|message| message.properties.headers.text("trunkline-cause")).collect();
    let of = |key: char| causes.iter().copied().filter(|id| id.starts_with(key)).collect::<Vec<_>>();
    assert_eq!(of('a'), ["a0", "a1", "a2", "a3", "a4", "a5"]);
    assert_eq!(of('b'), ["b1", "b2", "b3", "b4", "b5"]);
    let place = |id: &str| causes.iter().position(|other| *other == id);
    assert!(place("b5") < place("a0"), "b did not wait for a: {causes:?}");
}

async fn rate(bench: Bench) {
    let broker = bench.open(ROUTES).await;
    let exchange = format!("{}-events", bench.prefix);
    let batch = (0..41).map(|n| message(&exchange, "slow", &format!("r{n}"), "{}"));
    drop(broker.publish(batch.collect::<Vec<_>>()).await.expect("confirmed"));
    broker.close(trunkline_support::patience()).await;
    drop(broker);
    let started = Instant::now();
    let daemon = bench.start(ROUTES).await;
    metric(&daemon, &settled(&bench, "slow", "ack"), |count| count >= 41.0).await;
    assert!(started.elapsed() >= Duration::from_millis(1_850), "41 events at 20 a second in {:?}", started.elapsed());
    assert!(daemon.terminate().await.success());
}

/// Sixteen sleepers take the time of one: with a backlog the route works at its full concurrency.
async fn side_by_side(bench: Bench) {
    let broker = bench.open(ROUTES).await;
    let exchange = format!("{}-events", bench.prefix);
    let batch = (0..48).map(|n| message(&exchange, "nap", &format!("n{n}"), "400"));
    drop(broker.publish(batch.collect::<Vec<_>>()).await.expect("confirmed"));
    broker.close(trunkline_support::patience()).await;
    drop(broker);
    let daemon = bench.start(ROUTES).await;
    let started = Instant::now();
    metric(&daemon, &settled(&bench, "nap", "ack"), |count| count >= 48.0).await;
    let took = started.elapsed();
    println!("{}", daemon.log());
    assert!(took < Duration::from_secs(8), "48 naps of 400 ms, 16 at a time, in {took:?}; one by one takes 19 s");
    assert!(daemon.terminate().await.success());
}

async fn circuit(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    let state = format!("trunkline_circuit_state{{route=\"{}-storm\"}}", bench.prefix);
    for n in 0..7 {
        publish(&daemon, "storm", &format!("f{n}"), "s", json!(99));
    }
    metric(&daemon, &state, |open| open == 1.0).await;
    // Two more probes fail and prolong the pause, then one succeeds.
    publish(&daemon, "storm", "good-1", "s", json!(1));
    publish(&daemon, "storm", "good-2", "s", json!(1));
    metric(&daemon, &settled(&bench, "storm", "ack"), |count| count >= 2.0).await;
    metric(&daemon, &state, |open| open == 0.0).await;
    assert_eq!(daemon.metric(&settled(&bench, "storm", "dead_letter")), 7.0, "each failure has its dead letter");
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    repeats,
    later,
    a_dead_letter_has_the_last_log_lines,
    order,
    rate,
    side_by_side,
    circuit,
}
