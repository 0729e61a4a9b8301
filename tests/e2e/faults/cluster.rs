//! B2: a cluster whose nodes are restarted one after another, including the daemon's node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use trunkline_broker::Broker;
use trunkline_support::Daemon;
use trunkline_support::rabbitmq::RabbitmqNode;

use super::{handled, header, id, of_route, post, settled, taken};
use crate::bench::{Bench, becomes_ready, drain, message, metric};
use crate::broker_faults::insist;

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
owned = true
bind = "echoed"
[routes.$P-echo]
from = "in"
plugin = "echo"
"#;

const NODES: usize = 3;
/// The pause between two events of the producer.
const PACE: Duration = Duration::from_millis(10);
/// The number of events between two restarts.
const BETWEEN: f64 = 50.0;

/// Publishes until the flag is set, each event until it is confirmed; gives the number of events.
async fn produce(bench: &Bench, broker: &Broker, stop: &AtomicBool) -> usize {
    let exchange = format!("{}-events", bench.prefix);
    let published = AtomicUsize::new(0);
    let mut work = tokio::task::JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        let n = published.fetch_add(1, Ordering::Relaxed);
        let (broker, publication) = (broker.clone(), message(&exchange, "in", &format!("e{n}"), "x"));
        work.spawn(async move { insist(&broker, publication).await });
        trunkline_telemetry::wait::after(PACE).await;
    }
    work.join_all().await;
    published.into_inner()
}

/// Restarts each node after events have passed since the last restart; gives the downtime of each.
async fn roll(bench: &Bench, daemon: &Daemon, nodes: &Arc<Vec<RabbitmqNode>>) -> Vec<Duration> {
    let acked = settled(bench, "echo", "ack");
    let mut away = Vec::new();
    for number in (0..nodes.len()).rev() {
        let before = daemon.metric(&acked);
        metric(daemon, &acked, |count| count >= before + BETWEEN).await;
        let (begun, nodes) = (Instant::now(), nodes.clone());
        let restart = move || nodes[number].stop().and_then(|()| nodes[number].restart());
        tokio::task::spawn_blocking(restart).await.expect("no panic").expect("it comes back");
        away.push(begun.elapsed());
    }
    let before = daemon.metric(&acked);
    metric(daemon, &acked, |count| count >= before + BETWEEN).await;
    away
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_a_cluster_loses_nothing() {
    let begun = Instant::now();
    let nodes = Arc::new(RabbitmqNode::start_cluster(NODES).expect("a private cluster"));
    let made = begun.elapsed();
    let mut bench = Bench::on(nodes[1].url());
    // The producer is connected to another node than the daemon, so that they lose their connections at different
    // times.
    let broker = bench.open(ROUTES).await;
    bench.broker = nodes[0].url();
    let daemon = bench.start(ROUTES).await;
    let stop = AtomicBool::new(false);
    let rolling = async {
        let away = roll(&bench, &daemon, &nodes).await;
        stop.store(true, Ordering::Relaxed);
        away
    };
    let (events, away) = tokio::join!(produce(&bench, &broker, &stop), rolling);

    let out = taken(&bench, &broker, "$P-out", events, |message| header(message, "trunkline-cause")).await;
    let mut causes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for message in &out {
        causes.entry(header(message, "trunkline-cause")).or_default().insert(id(message));
    }
    assert_eq!(causes.len(), events);
    assert!(events > 1_000, "the producer stood still: the test shows nothing: {events}");
    assert!(causes.values().all(|ids| ids.len() == 1), "a repetition has the same id");
    metric(&daemon, &of_route(&bench, "trunkline_messages_in_flight", "echo"), |count| count == 0.0).await;
    let sessions = daemon.metric("trunkline_broker_reconnects_total");
    assert!(sessions >= 1.0, "its own node was restarted too");
    for outcome in ["retry", "dead_letter"] {
        assert_eq!(daemon.metric(&settled(&bench, "echo", outcome)), 0.0, "no event's fault: {outcome}");
    }
    assert!(daemon.terminate().await.success());
    for queue in ["$P-echo", "$P-echo.dlq"] {
        assert_eq!(drain(&broker, &bench.queue(queue), 0).await.len(), 0, "{queue}");
    }
    println!(
        "cluster made in {made:.1?}; restarts took {away:.1?}; {events} events, {} twice, {sessions} sessions made again",
        out.len() - events
    );
}

/// Posts an event until it is accepted, and gives the number of repeats. A request is answered with "send it again"
/// when its channel is given up before the confirm.
fn post_until_taken(daemon: &Daemon, data: usize) -> u32 {
    let body = serde_json::json!({ "type": "in", "data": data }).to_string();
    for again in 0..3 {
        let (status, answer) = daemon.post("/api/v1/events", &body);
        match status {
            202 => return again,
            // The request or the channel gives up first.
            503 => assert!(
                ["event", "message"]
                    .map(|what| format!("the broker did not confirm the {what} within"))
                    .iter()
                    .any(|text| answer["detail"].as_str().is_some_and(|why| why.contains(text))),
                "{answer}"
            ),
            _ => panic!("{status}: {answer}"),
        }
    }
    panic!("an event is not taken, again and again");
}

const ONE_STUCK: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-in]
bind = "in"
type = "classic"
[queues.$P-sleep]
bind = "sleep"
type = "classic"
[queues.$P-out]
owned = true
bind = "echoed"
type = "classic"
[queues.$P-stuck]
bind = "slept"
type = "quorum"
[routes.$P-echo]
queue = "$P-in"
plugin = "echo"
[routes.$P-sleeper]
queue = "$P-sleep"
plugin = "sleeper"
"#;
/// Twice the longest time of a confirm.
const STUCK_FOR: Duration = Duration::from_secs(70);

/// F12: a quorum queue without a majority confirms nothing. Other messages to the same exchange are confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_a_majority_holds_its_own_messages_only() {
    const EACH: f64 = 100.0;
    let nodes = RabbitmqNode::start_cluster(NODES).expect("a cluster");
    let bench = Bench::on(nodes[0].url());
    let daemon = bench.start(ONE_STUCK).await;
    // The first session on a new cluster may take longer than a request waits.
    becomes_ready(&daemon, true).await;
    handled(&daemon, "sleep", 0).await;
    handled(&daemon, "in", 0).await;
    for node in &nodes[1..] {
        node.stop().expect("it stops");
    }
    let (begun, acked) = (Instant::now(), settled(&bench, "echo", "ack"));
    let held = post(&daemon, "sleep", 0);
    let (mut rounds, mut told_again) = (0, 0);
    while begun.elapsed() < STUCK_FOR {
        rounds += 1;
        let (round, before) = (Instant::now(), daemon.metric(&acked));
        told_again += (0..EACH as usize).map(|n| post_until_taken(&daemon, n)).sum::<u32>();
        metric(&daemon, &acked, |count| count >= before + EACH).await;
        assert!(round.elapsed() < Duration::from_secs(10), "others wait for it: {:?}", round.elapsed());
        trunkline_telemetry::wait::after(Duration::from_secs(1)).await;
    }
    assert!(told_again <= 4, "the channel of the stuck event is given up twice meanwhile: {told_again}");
    assert_eq!(daemon.metric("trunkline_broker_reconnects_total"), 0.0, "no session ends for it");
    assert_eq!(daemon.metric(&settled(&bench, "sleeper", "ack")), 1.0, "nothing is acknowledged without a confirm");
    let health = daemon.get("/health").1;
    assert!(health.contains("route-stuck"), "an operator sees it: {health}");
    for node in &nodes[1..] {
        node.restart().expect("it comes back");
    }
    assert_eq!(daemon.settled(&held).await["outcome"], "ack");
    println!("{rounds} rounds of {EACH} beside a queue without a majority");
    assert!(daemon.terminate().await.success());
}
