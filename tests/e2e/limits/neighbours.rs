//! The latency of a good route beside a hostile plugin, compared with the latency alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::publish;
use super::table::{Row, routes, rows};
use crate::bench::{Bench, metric, settled};
use crate::faults::isolation::{FLOOR, Processors, TAKEN_MAX, median, p99};

const GOOD: &str = "[routes.$P-good]\nfrom = \"good\"\nplugin = \"echo\"\n";
/// The number of rounds, and the number for a row that is not clear after them. Three rounds are few on a shared
/// machine.
const ROUNDS: [usize; 2] = [3, 7];
const PROBES: usize = 200;
/// Half the interval of `faults::isolation`: a round takes half the time, and the good route has twice the work.
const PROBE_EVERY: Duration = Duration::from_millis(5);
/// The largest number of invalid rounds, of all rows together.
const SPOILED_MAX: usize = 40;
/// Faster than any of them ends, so that the hostile route is always full.
const HOSTILE_EVERY: Duration = Duration::from_millis(20);

/// One row of each kind.
const KINDS: [&str; 14] = [
    "endless-loop",
    "memory-fill",
    "calls-clock",
    "calls-random-bytes",
    "calls-nap",
    "log-flood",
    "log-flood-huge",
    "memory-bomb",
    "table-bomb",
    "recursion",
    "answer-list-1-gib",
    "answer-one-buffer-often",
    "emissions-a-million",
    "emit-then-trap",
];

/// The 99th latency of a hundred in each round, alone and beside the guest. `spoiled` counts invalid rounds.
async fn measured(bench: &Bench, row: Row, spoiled: &mut usize) -> (Vec<Duration>, Vec<Duration>) {
    let (mut calm, mut beside) = (Vec::new(), Vec::new());
    let (name, data) = (row.name, row.data);
    let routes = routes(bench, &[row], GOOD);
    while calm.len() < ROUNDS[1] && (calm.len() != ROUNDS[0] || !within(&calm, &beside)) {
        let processors = Processors::now();
        // Each round has a new daemon, so that its log stays short.
        let daemon = bench.start(&routes).await;
        let _warm = p99(&daemon, PROBES / 4, PROBE_EVERY).await;
        let alone = p99(&daemon, PROBES, PROBE_EVERY).await;
        let stop = AtomicBool::new(false);
        let (took, published) = std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                let mut published = 0;
                while !stop.load(Ordering::Relaxed) {
                    let _id = publish(&daemon, name, data);
                    published += 1;
                    trunkline_telemetry::wait::block(HOSTILE_EVERY);
                }
                published
            });
            let took = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(p99(&daemon, PROBES, PROBE_EVERY))
            });
            stop.store(true, Ordering::Relaxed);
            (took, load.join().expect("it publishes"))
        });
        // All hostile events end by their limits.
        metric(&daemon, &settled(bench, name, "dead_letter"), |count| count >= f64::from(published)).await;
        assert!(daemon.terminate().await.success());
        let taken = processors.taken_since();
        if taken > TAKEN_MAX && *spoiled < SPOILED_MAX {
            println!("{}: {name}: a round does not count, for {:.0} % was taken from us", bench.broker, taken * 100.0);
            *spoiled += 1;
        } else {
            calm.push(alone);
            beside.push(took);
        }
    }
    (calm, beside)
}

fn within(calm: &[Duration], beside: &[Duration]) -> bool {
    median(beside.to_vec()) <= (median(calm.to_vec()) * 2).max(FLOOR)
}

async fn others_latency(bench: fn() -> Bench, kinds: &[&str]) {
    // Started only now, because the start of a RabbitMQ node takes both cores.
    let bench = bench();
    let (mut slow, mut spoiled) = (Vec::new(), 0);
    for row in rows().into_iter().filter(|row| kinds.contains(&row.name)) {
        let name = row.name;
        let (calm, beside) = measured(&bench, row, &mut spoiled).await;
        let within = within(&calm, &beside);
        let rounds = calm.len();
        let row = format!("{name}: {:?} alone, {:?} beside it, {rounds} rounds", median(calm), median(beside));
        println!("{}: p99 of others: {row}", bench.broker);
        if !within {
            slow.push(row);
        }
    }
    assert!(slow.is_empty(), "{}", slow.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_others_go_on_beside_every_hostile_guest() {
    others_latency(Bench::embedded, &KINDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn amqp_others_go_on_beside_hostile_guests() {
    others_latency(Bench::amqp, &["endless-loop", "calls-clock", "memory-bomb", "log-flood"]).await;
}
