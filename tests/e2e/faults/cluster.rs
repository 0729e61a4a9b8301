//! B2: a cluster whose nodes are restarted one after the other, the daemon's own among them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use trunkline::broker::Broker;
use trunkline_support::Daemon;
use trunkline_support::rabbitmq::Node;

use super::{header, id, of_route, settled, taken};
use crate::bench::{Bench, drain, message, metric};
use crate::broker_faults::insist;

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "echoed"
[routes.$P-echo]
from = "in"
plugin = "echo"
"#;

const NODES: usize = 3;
/// Between two events of the producer.
const PACE: Duration = Duration::from_millis(10);
/// How many go through between two restarts.
const BETWEEN: f64 = 50.0;

/// Publishes until it is told to stop, each event until it is confirmed; gives how many.
async fn produce(bench: &Bench, broker: &Broker, stop: &AtomicBool) -> usize {
    let exchange = format!("{}-events", bench.prefix);
    let published = AtomicUsize::new(0);
    let mut work = tokio::task::JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        let n = published.fetch_add(1, Ordering::Relaxed);
        let (broker, publication) = (broker.clone(), message(&exchange, "in", &format!("e{n}"), "x"));
        work.spawn(async move { insist(&broker, publication).await });
        trunkline::wait::after(PACE).await;
    }
    work.join_all().await;
    published.into_inner()
}

/// Restarts each node when events have gone through since the last one; gives how long each was away.
async fn roll(bench: &Bench, daemon: &Daemon, nodes: &Arc<Vec<Node>>) -> Vec<Duration> {
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
    let nodes = Arc::new(Node::start_cluster(NODES).expect("a cluster of its own"));
    let made = begun.elapsed();
    let mut bench = Bench::on(nodes[1].url());
    // The producer is another node's client than the daemon, so that each sees the other's end at another time.
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
