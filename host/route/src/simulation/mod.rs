//! The executor of a route under thousands of seeded schedules, against a model of a broker with the faults of the real one.
//!
//! The daemon's own code in the simulator is the executor with the core, `inbound`, `outbound` and the waiting list, and from
//! the broker the window that matches returns and confirms, and the frames that acknowledge. The model performs the requests
//! of the executor. The model has the clock, the broker, the dedupe records, plugins, events without an id, crashes and
//! orderly stops. The faults of the broker are: confirms out of order, in batches and never; returns with the wrong confirm;
//! lost consumers, channels and sessions; alarms; full queues beside queues with room; permanent refusals; headers that route
//! further; redelivery; deliveries between a commit and its count.
//!
//! One seed is one schedule, and the same seed gives the same trace. [`check`] then says which message was lost, repeated or
//! out of order.

mod broker;
mod check;
mod cost;
mod daemon;
mod entries;
mod faulty;
mod life;
mod plugin;
mod ports;
mod profile;
mod publish;
mod schedule;

use faulty::Faulty;
use schedule::Simulation;

/// Runs the seeds from `first` on, until the first violation.
fn run(first: u64, count: u64) -> Result<(), String> {
    for seed in first..first + count {
        let simulation = Simulation::run(seed);
        if let Some(violation) = check::violation(&simulation) {
            return Err(format!("seed {seed}: {violation}\n{}", simulation.scenario()));
        }
    }
    Ok(())
}

#[test]
fn ten_thousand_schedules_lose_nothing() {
    let first = std::env::var("TRUNKLINE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let count: u64 = if std::env::var_os("TRUNKLINE_SEED").is_some() { 1 } else { 10_000 };
    let started = std::time::Instant::now();
    let halves = std::thread::scope(|scope| {
        let early = scope.spawn(|| run(first, count.div_ceil(2)));
        let late = scope.spawn(|| run(first + count.div_ceil(2), count / 2));
        [early.join(), late.join()]
    });
    for half in halves {
        let outcome = half.expect("the simulator does not panic");
        assert_eq!(outcome, Ok(()), "run it again with TRUNKLINE_SEED");
    }
    println!("{count} schedules in {:?}", started.elapsed());
}

#[test]
fn a_seed_is_a_schedule() {
    for seed in [3, 77, 4_242] {
        assert_eq!(Simulation::run(seed).trace_hash(), Simulation::run(seed).trace_hash(), "seed {seed}");
    }
    assert_ne!(Simulation::run(1).trace_hash(), Simulation::run(2).trace_hash());
}

/// Every fault happens: schedules without faults would prove little.
#[test]
fn the_schedules_contain_every_fault() {
    let mut total = std::collections::BTreeMap::new();
    for seed in 1..=500 {
        for (fault, count) in Simulation::run(seed).faults() {
            *total.entry(fault).or_insert(0) += count;
        }
    }
    for fault in schedule::FAULTS {
        assert!(total.get(fault).is_some_and(|count| *count > 50), "{fault}: {total:?}");
    }
}

/// A checker that misses a planted mistake proves nothing.
#[test]
fn every_planted_bug_is_caught() {
    const WITHIN: u64 = 2_000;
    let mut missed = Vec::new();
    for faulty in Faulty::ALL {
        match faulty.planted(|| run(1, WITHIN)) {
            Err(violation) => println!("{faulty:?}: {}", violation.lines().next().unwrap_or_default()),
            Ok(()) => missed.push(faulty),
        }
    }
    assert!(missed.is_empty(), "not caught within {WITHIN} schedules: {missed:?}");
}
