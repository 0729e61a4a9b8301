//! The latency of a good route beside a route whose plugin always fails.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use trunkline_support::{Daemon, eventually};

use super::{post, settled};
use crate::bench::{Bench, metric, on_both_brokers};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
retry = { max = 2, delay = "100ms" }
[queues.$P-out]
bind = "echoed"
[routes.$P-good]
from = "good"
plugin = "echo"
[routes.$P-bad]
from = "bad"
plugin = "trapper"
"#;

/// The share of the processors that the host of a virtual machine may take in a valid round.
pub(crate) const TAKEN_MAX: f64 = 0.05;
const ROUNDS: usize = 3;
/// The largest number of invalid rounds.
const SPOILED_MAX: usize = 6;
const PROBES: usize = 400;
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(10);
/// The interval of the failing events. Each runs three times, waits for two retries, and is dead-lettered.
const FAIL_EVERY: Duration = Duration::from_millis(10);
/// Below this the latency measures the scheduler of a busy machine, not the daemon.
pub(crate) const FLOOR: Duration = Duration::from_millis(40);

/// Publishes all events at a steady rate; gives the time of each publish.
fn publish(
    daemon: &Daemon,
    kind: &str,
    every: Duration,
    mut more: impl FnMut(usize) -> bool,
) -> Vec<(String, Timestamp)> {
    let begun = Instant::now();
    let mut published = Vec::new();
    while more(published.len()) {
        let due = every * u32::try_from(published.len()).expect("few");
        trunkline_telemetry::wait::block(due.saturating_sub(begun.elapsed()));
        let now = Timestamp::now();
        published.push((post(daemon, kind, 1), now));
    }
    published
}

/// The settlement time of each event, from the daemon's log.
fn settled_at(daemon: &Daemon) -> HashMap<String, Timestamp> {
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("\"settled\""));
    let parsed = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let acked = parsed.filter(|line| line["message"] == "settled" && line["outcome"] == "ack");
    let at = |line: &Value| line["timestamp"].as_str().expect("a time").parse().expect("a time");
    acked.map(|line| (line["event"].as_str().expect("an id").to_owned(), at(&line))).collect()
}

/// The time from the request to the log line of the settlement, for `count` events of the route `good`, one at each `every`.
pub(crate) async fn p99(daemon: &Daemon, count: usize, every: Duration) -> Duration {
    let probes = publish(daemon, "good", every, |published| published < count);
    let at = eventually("every probe's end", || {
        let at = settled_at(daemon);
        let all = probes.iter().all(|(id, _)| at.contains_key(id));
        async move { all.then_some(at) }
    })
    .await;
    let took = |(id, sent): &(String, Timestamp)| Duration::try_from(at[id].duration_since(*sent)).unwrap_or_default();
    let mut all: Vec<Duration> = probes.iter().map(took).collect();
    all.sort();
    all[all.len() * 99 / 100]
}

pub(crate) fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

/// Processor time of the machine, in ticks since its start.
pub(crate) struct Processors {
    all: u64,
    /// Time that the host gave to other machines (proc(5), "steal").
    taken: u64,
}

impl Processors {
    pub(crate) fn now() -> Self {
        const STEAL: usize = 7;
        let text = std::fs::read_to_string("/proc/stat").expect("Linux");
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).take(STEAL + 1).collect();
        Self { all: ticks.iter().sum(), taken: ticks.get(STEAL).copied().unwrap_or_default() }
    }

    /// The share that the host took since `before`.
    #[expect(clippy::cast_precision_loss, reason = "a share of some thousands")]
    pub(crate) fn taken_since(&self) -> f64 {
        let now = Self::now();
        (now.taken - self.taken) as f64 / (now.all - self.all).max(1) as f64
    }
}

async fn a_failing_route_leaves_its_neighbours_latency_alone(bench: Bench) {
    let (mut calm, mut loaded) = (Vec::new(), Vec::new());
    let (mut failed, mut spoiled) = (0, 0);
    while calm.len() < ROUNDS {
        let processors = Processors::now();
        // Each round has a new daemon, so that its log stays short.
        let daemon = bench.start(ROUTES).await;
        let _warm = p99(&daemon, PROBES / 4, PROBE_EVERY).await;
        let undisturbed = p99(&daemon, PROBES, PROBE_EVERY).await;
        let stop = AtomicBool::new(false);
        let measured = std::thread::scope(|scope| {
            let load = scope.spawn(|| publish(&daemon, "bad", FAIL_EVERY, |_| !stop.load(Ordering::Relaxed)).len());
            let measured = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(p99(&daemon, PROBES, PROBE_EVERY))
            });
            stop.store(true, Ordering::Relaxed);
            failed += load.join().expect("it publishes");
            measured
        });
        metric(&daemon, &settled(&bench, "bad", "dead_letter"), |count| count > 0.0).await;
        for outcome in ["retry", "dead_letter"] {
            assert_eq!(daemon.metric(&settled(&bench, "good", outcome)), 0.0, "{outcome}");
        }
        assert!(daemon.terminate().await.success());
        if processors.taken_since() > TAKEN_MAX && spoiled < SPOILED_MAX {
            spoiled += 1;
            continue;
        }
        calm.push(undisturbed);
        loaded.push(measured);
    }
    println!("{}: p99 calm {calm:?}, beside {failed} failing events {loaded:?}", bench.broker);
    let (calm, loaded) = (median(calm), median(loaded));
    assert!(
        loaded <= (calm * 2).max(FLOOR),
        "p99 of the good route: {calm:?} alone, {loaded:?} beside the failing one"
    );
}

on_both_brokers! {
    a_failing_route_leaves_its_neighbours_latency_alone,
}
