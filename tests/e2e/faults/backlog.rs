//! B23: the daemon's memory is independent of the backlog at its start.
//!
//! The backlog has twice the bytes that the daemon may use, in `TRUNKLINE_BACKLOG` messages: 25 000 by default, and a
//! million in the runs whose figures are published.

use std::time::Instant;

use trunkline_broker::Broker;
use trunkline_support::rabbitmq::RabbitmqNode;
use trunkline_support::{Daemon, patience};

use super::{Breaker, settled};
use crate::bench::{Bench, message};

const BACKLOG: usize = 25_000;
const MEMORY_MAX_MIB: usize = 256;
const BACKLOG_BYTES: usize = 2 * MEMORY_MAX_MIB * 1024 * 1024;
/// Messages of one publish, and publishes at a time.
const BATCH: usize = 200;
const BATCHES: usize = 8;

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

fn backlog() -> usize {
    let given = std::env::var("TRUNKLINE_BACKLOG").ok();
    given.map_or(BACKLOG, |text| text.parse().expect("TRUNKLINE_BACKLOG is a number"))
}

async fn fill(bench: &Bench, broker: &Broker, count: usize) {
    let exchange = format!("{}-events", bench.prefix);
    let mut work = tokio::task::JoinSet::new();
    for chunk in (0..count).collect::<Vec<_>>().chunks(BATCH) {
        if work.len() >= BATCHES {
            work.join_next().await.expect("there is work").expect("no panic");
        }
        let body = "x".repeat(BACKLOG_BYTES / count);
        let batch = chunk.iter().map(|n| message(&exchange, "in", &format!("e{n}"), body.clone())).collect::<Vec<_>>();
        let broker = broker.clone();
        work.spawn(async move { drop(broker.publish(batch).await.expect("confirmed")) });
    }
    work.join_all().await;
}

/// A line of `/proc/PID/status`, in MiB.
fn memory_mib(daemon: &Daemon, line: &str) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("the daemon runs");
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.split_whitespace().next()?.parse().ok());
    found.unwrap_or(usize::MAX) / 1024
}

/// Waits until all events are settled, for any time with progress.
async fn worked_off(bench: &Bench, daemon: &Daemon, count: usize) {
    let series = settled(bench, "echo", "ack");
    #[expect(clippy::cast_precision_loss, reason = "a million")]
    let all = count as f64;
    let (mut last, mut since) = (0.0, Instant::now());
    while last < all {
        let now = daemon.metric(&series);
        if now > last {
            (last, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < patience(), "stands at {last} of {count}");
        trunkline_telemetry::wait::after(std::time::Duration::from_millis(200)).await;
    }
}

async fn bounded(bench: &Bench) -> Daemon {
    let count = backlog();
    let broker = bench.open(ROUTES).await;
    let begun = Instant::now();
    fill(bench, &broker, count).await;
    broker.close(patience()).await;
    drop(broker);
    let filled = begun.elapsed();
    let begun = Instant::now();
    let daemon = bench.start(ROUTES).await;
    let started = begun.elapsed();
    let at_start = memory_mib(&daemon, "VmHWM:");
    worked_off(bench, &daemon, count).await;
    let (peak, end) = (memory_mib(&daemon, "VmHWM:"), memory_mib(&daemon, "VmRSS:"));
    println!(
        "{}: backlog of {count} written in {filled:.1?}; daemon started in {started:.1?}, worked it off in {:.1?}; \
         {at_start} MiB at its start, peak {peak} MiB, at the end {end} MiB",
        bench.broker,
        begun.elapsed()
    );
    assert!(peak <= MEMORY_MAX_MIB, "the daemon took {peak} MiB");
    #[expect(clippy::cast_precision_loss, reason = "a million")]
    let all = count as f64;
    assert_eq!(daemon.metric(&settled(bench, "echo", "ack")), all, "each once");
    for outcome in ["retry", "dead_letter"] {
        assert_eq!(daemon.metric(&settled(bench, "echo", outcome)), 0.0, "{outcome}");
    }
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_memory_does_not_follow_the_backlog() {
    let bench = Bench::embedded();
    let daemon = bounded(&bench).await;
    let out = format!("trunkline_queue_messages{{queue=\"{}-out\",state=\"ready\",role=\"work\"}}", bench.prefix);
    #[expect(clippy::cast_precision_loss, reason = "a million")]
    let all = backlog() as f64;
    assert_eq!(daemon.metric(&out), all);
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn amqp_memory_does_not_follow_the_backlog() {
    let node = RabbitmqNode::start().expect("a private node");
    let bench = Bench::on(node.url());
    let daemon = bounded(&bench).await;
    let breaker = Breaker::on(&bench).await;
    assert_eq!(breaker.ready(&bench, "$P-out").await as usize, backlog());
    assert!(daemon.terminate().await.success());
}
