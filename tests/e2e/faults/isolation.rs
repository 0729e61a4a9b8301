//! A route whose plugin always fails, beside a route that works: the latency of the second.

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

/// What the host of a virtual machine may take of its processors in a round that counts.
pub(crate) const TAKEN_MAX: f64 = 0.05;
const ROUNDS: usize = 3;
/// Rounds that may not count.
const SPOILED_MAX: usize = 6;
const PROBES: usize = 400;
const PROBE_EVERY: Duration = Duration::from_millis(10);
/// Each is called three times, put into two retry queues, and dead-lettered.
const FAIL_EVERY: Duration = Duration::from_millis(10);
/// Below this the scheduler of a loaded machine is measured, and not the daemon.
pub(crate) const FLOOR: Duration = Duration::from_millis(40);

/// Publishes events at a steady pace until the end of the list; gives when each was published.
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

/// When each event was settled, by the daemon's own log.
fn settled_at(daemon: &Daemon) -> HashMap<String, Timestamp> {
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("\"settled\""));
    let parsed = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let acked = parsed.filter(|line| line["message"] == "settled" && line["outcome"] == "ack");
    let at = |line: &Value| line["timestamp"].as_str().expect("a time").parse().expect("a time");
    acked.map(|line| (line["event"].as_str().expect("an id").to_owned(), at(&line))).collect()
}

/// From the request to the log line that says that the event is settled, for events of the route `good`.
pub(crate) async fn p99(daemon: &Daemon, count: usize) -> Duration {
    let probes = publish(daemon, "good", PROBE_EVERY, |published| published < count);
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

/// Time of all processors, in ticks since the machine was started.
pub(crate) struct Processors {
    all: u64,
    /// What its host gave to other machines (proc(5), "steal").
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

    /// The share that was taken since.
    #[expect(clippy::cast_precision_loss, reason = "a share of some thousands")]
    pub(crate) fn taken_since(&self) -> f64 {
        let now = Self::now();
        (now.taken - self.taken) as f64 / (now.all - self.all).max(1) as f64
    }
}

/// Two that measure at the same time would measure each other: held by whoever does.
pub(crate) async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

async fn a_failing_route_leaves_its_neighbours_latency_alone(bench: Bench) {
    let _alone = alone().await;
    let (mut calm, mut loaded) = (Vec::new(), Vec::new());
    let (mut failed, mut spoiled) = (0, 0);
    while calm.len() < ROUNDS {
        let processors = Processors::now();
        // A daemon of its own for each round: its log, which is searched, stays short.
        let daemon = bench.start(ROUTES).await;
        let _warm = p99(&daemon, PROBES).await;
        let undisturbed = p99(&daemon, PROBES).await;
        let stop = AtomicBool::new(false);
        let measured = std::thread::scope(|scope| {
            let load = scope.spawn(|| publish(&daemon, "bad", FAIL_EVERY, |_| !stop.load(Ordering::Relaxed)).len());
            let measured =
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(p99(&daemon, PROBES)));
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
