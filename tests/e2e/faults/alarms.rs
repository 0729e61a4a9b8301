//! B8 and B9: the broker is short of memory or disk and stops publishers.

use std::time::{Duration, Instant};

use serde_json::Value;
use trunkline_support::rabbitmq::RabbitmqNode;
use trunkline_support::{Daemon, eventually};

use super::{causes, fill, of_route, settled, taken};
use crate::bench::{Bench, drain, metric};

/// The default prefetch, which bounds the deliveries that a route holds.
const PREFETCH: f64 = 200.0;
/// At 160 a second an alarm comes in the middle of them.
const EVENTS: usize = 4_000;
const BEFORE: f64 = 100.0;
/// The limit between the end of an alarm and the next event.
const RESUMED_WITHIN: Duration = Duration::from_secs(2);
/// The time in which nothing may happen.
const QUIET: Duration = Duration::from_secs(2);

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "slept"
[routes.$P-sleeper]
from = "sleep"
plugin = "sleeper"
concurrency = 4
"#;

const MEMORY: [&[&str]; 2] =
    [&["set_vm_memory_high_watermark", "absolute", "1MB"], &["set_vm_memory_high_watermark", "absolute", "4GiB"]];
const DISK: [&[&str]; 2] = [&["set_disk_free_limit", "999GB"], &["set_disk_free_limit", "50MB"]];

fn health(daemon: &Daemon) -> (u16, Value) {
    let (status, text) = daemon.get("/health");
    (status, serde_json::from_str(&text).expect("JSON"))
}

/// Waits until a counter has not changed for [`QUIET`], because work from before the alarm may still end.
async fn stands_still(daemon: &Daemon, series: &str) -> f64 {
    let (mut last, mut since) = (daemon.metric(series), Instant::now());
    eventually(&format!("{series} stands still"), || {
        let now = daemon.metric(series);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        let found = (since.elapsed() >= QUIET).then_some(last);
        async move { found }
    })
    .await
}

async fn alarm(node: &RabbitmqNode, [raise, clear]: [&[&str]; 2]) {
    let bench = Bench::on(node.url());
    let daemon = bench.start(ROUTES).await;
    let broker = bench.open(ROUTES).await;
    fill(&bench, &broker, "sleep", EVENTS, "25").await;
    let (done, received) =
        (settled(&bench, "sleeper", "ack"), of_route(&bench, "trunkline_messages_received_total", "sleeper"));
    metric(&daemon, &done, |count| count >= BEFORE).await;

    node.ctl(raise).expect("the limit is set");
    metric(&daemon, "trunkline_broker_blocked", |blocked| blocked == 1.0).await;
    let (status, told) = health(&daemon);
    assert_eq!((status, &told["status"]), (503, &"degraded".into()), "{told}");
    assert_eq!((&told["broker"]["blocked"], &told["broker"]["connected"]), (&true.into(), &true.into()), "{told}");
    assert_eq!(daemon.get("/livez").0, 200, "an alarm of the broker is no reason to restart the daemon");
    let (paused_at, taken_before) = (stands_still(&daemon, &done).await, stands_still(&daemon, &received).await);
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let all = EVENTS as f64;
    assert!(paused_at < all, "all was done before the alarm: the test shows nothing");
    assert!(taken_before - paused_at <= PREFETCH, "{taken_before} taken, {paused_at} done: no more than may be held");

    node.ctl(clear).expect("the limit is set");
    let cleared = Instant::now();
    metric(&daemon, &done, |count| count > paused_at).await;
    let resumed = cleared.elapsed();
    assert!(resumed <= RESUMED_WITHIN, "{resumed:?} until the next event");
    metric(&daemon, "trunkline_broker_blocked", |blocked| blocked == 0.0).await;
    assert_eq!(health(&daemon).1["status"], "ok");

    let out = taken(&bench, &broker, "$P-out", EVENTS, |message| super::header(message, "trunkline-cause")).await;
    assert_eq!((out.len(), causes(&out).len()), (EVENTS, EVENTS), "an alarm costs no session: nothing comes twice");
    assert!(daemon.terminate().await.success());
    for queue in ["$P-sleeper", "$P-sleeper.dlq", "$P-out"] {
        assert_eq!(drain(&broker, &bench.queue(queue), 0).await.len(), 0, "{queue}");
    }
    println!("{raise:?}: stood at {paused_at} of {EVENTS}, went on after {resumed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_alarm_and_then_a_disk_alarm_pause_and_lose_nothing() {
    let node = RabbitmqNode::start().expect("a private node");
    alarm(&node, MEMORY).await;
    alarm(&node, DISK).await;
}
