//! One run: starts everything, runs load and faults side by side, then waits, drains, probes, stops and judges.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;

use crate::amqp::Holds;
use crate::checker::{Facts, Invariant, Window, check};
use crate::faults::Done;
use crate::finish::{demands, drain, left, probe, stop};
use crate::plan::Plan;
use crate::report::{Report, by_kind};
use crate::schedule::{BrokerKind, Kind, Pace, Schedule};
use crate::source::Source;
use crate::usage::{Use, at_rest};
use crate::world::World;
use crate::{amqp, embedded, side};

/// The bound on the daemon's memory under load, from FAULTS.md section 6.
const RSS_LIMIT_BYTES: u64 = 256 << 20;
/// Events that may wait: enough for work after a fault, and few enough to drain in seconds.
const BACKLOG_MAX: u64 = 4_000;
const PRODUCERS_END_WITHIN: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);

/// The settings of a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The broker.
    pub broker: BrokerKind,
    /// The seed of events and faults.
    pub seed: u64,
    /// The longest time of load and faults.
    pub time: Duration,
    /// The largest number of events.
    pub events: u64,
    /// The kinds of faults.
    pub kinds: Vec<Kind>,
    /// The density of faults.
    pub pace: Pace,
    /// The daemon's binary.
    pub binary: PathBuf,
    /// The folder for reports and logs.
    pub out: PathBuf,
    /// For the report.
    pub commit: String,
    /// For the report.
    pub command: String,
}

/// Carries out a run.
///
/// # Errors
/// When the harness has to end early. Faults of the daemon are in the report.
pub async fn run(settings: &Settings) -> Result<Report> {
    let started = Instant::now();
    let date = jiff::Timestamp::now().to_string();
    let source = Arc::new(Source::new(Plan::new(settings.seed)?, settings.events, BACKLOG_MAX));
    let scratch = tempfile::tempdir()?;
    // A build during the run must not replace the binary.
    let binary = scratch.path().join("trunkline");
    std::fs::copy(&settings.binary, &binary).with_context(|| format!("{} is not built", settings.binary.display()))?;
    let mut world = World::start(settings.broker, source.clone(), &binary, scratch.path()).await?;
    let ran = drive(settings, &mut world, started).await;
    let _unkept = std::fs::copy(scratch.path().join("daemon.log"), settings.out.join("daemon.log"));
    world.close().await?;
    let Driven { schedule, facts, load, usage, mut demands } = ran?;
    let verdict = check(&source.ledger(), &facts);
    let mut invariants = verdict.invariants;
    invariants.append(&mut source.hostile().check(&facts.windows));
    invariants.push(usage.invariant());
    invariants.append(&mut demands);
    let load_seconds = load.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 events")]
    let events_per_second = verdict.counts.acknowledged as f64 / load_seconds;
    Ok(Report {
        date,
        commit: settings.commit.clone(),
        seed: settings.seed,
        broker: settings.broker,
        command: settings.command.clone(),
        seconds: started.elapsed().as_secs_f64(),
        load_seconds,
        events_per_second,
        counts: verdict.counts,
        recovery_max_ms: schedule.iter().filter_map(|done| done.recovery_ms).max(),
        rss_max_bytes: facts.rss_max_bytes,
        daemon_starts: world.daemon.starts,
        reconnects: world.watch.reconnects(),
        usage,
        pass: invariants.iter().all(|invariant| invariant.pass),
        invariants,
        kinds: by_kind(&schedule),
        schedule,
    })
}

struct Driven {
    schedule: Vec<Done>,
    facts: Facts,
    load: Duration,
    usage: Use,
    demands: Vec<Invariant>,
}

async fn drive(settings: &Settings, world: &mut World, started: Instant) -> Result<Driven> {
    let pid = |world: &World| world.daemon.pid().unwrap_or_default();
    let first = at_rest(pid(world), None).await;
    let (mut producers, _others) = spawn(world);
    let began = Instant::now();
    let schedule = break_things(settings, world, began).await?;
    world.source.stop();
    world.daemon.ensure_alive().await?;
    world.note_pid();
    let ended = async { while producers.join_next().await.is_some() {} };
    if tokio::time::timeout(PRODUCERS_END_WITHIN, ended).await.is_err() {
        bail!("the producers did not come to an end within {PRODUCERS_END_WITHIN:?} after the last fault");
    }
    let load = began.elapsed();
    println!("{:7.1} s  faults and load are over; draining", started.elapsed().as_secs_f64());
    drain(world).await;
    let probes_ms = probe(world).await?;
    let last = at_rest(pid(world), Some(first)).await;
    let ended = stop(world).await?;
    let left = left(world).await?;
    let facts = Facts {
        windows: windows(world.broker, &schedule),
        rss_max_bytes: world.watch.rss_max_bytes.load(Ordering::Relaxed),
        rss_limit_bytes: RSS_LIMIT_BYTES,
        probes_ms,
        probe_limit_ms: 10_000,
        left,
    };
    let demands = demands(world, &schedule, &ended);
    let usage = world.watch.usage.report(first, last);
    Ok(Driven { schedule, facts, load, usage, demands })
}

/// The times in which work may have been repeated.
fn windows(broker: BrokerKind, schedule: &[Done]) -> Vec<Window> {
    let hard = schedule.iter().filter(|done| broker == BrokerKind::Amqp && done.fault.kind.is_hard());
    hard.map(|done| Window { from_ms: done.window_ms.0, to_ms: done.window_ms.1 }).collect()
}

/// Starts the producers, which end, and the sinks and the monitor, which do not.
fn spawn(world: &World) -> (JoinSet<()>, JoinSet<()>) {
    let (mut producers, mut others) = (JoinSet::new(), JoinSet::new());
    let source = &world.source;
    match world.broker {
        BrokerKind::Amqp => {
            for _ in 0..amqp::PRODUCERS {
                producers.spawn(amqp::produce(source.clone(), world.url.clone()));
            }
            let aside = side::QUEUES.into_iter().map(|queue| (queue, Holds::Side));
            for (queue, holds) in embedded::SINKS.into_iter().chain(aside) {
                others.spawn(amqp::sink(source.clone(), world.url.clone(), queue.to_owned(), holds));
            }
        }
        BrokerKind::Embedded => {
            for _ in 0..embedded::PRODUCERS {
                producers.spawn(embedded::produce(source.clone(), world.address));
            }
        }
    }
    let (watch, source, broker, address) = (world.watch.clone(), source.clone(), world.broker, world.address);
    others.spawn(async move {
        let waiting = || match broker {
            BrokerKind::Amqp => {
                let ledger = source.ledger();
                ledger.confirmed().saturating_sub(ledger.settled())
            }
            BrokerKind::Embedded => watch.waiting.load(Ordering::Relaxed),
        };
        watch.run(address, || source.set_backlog(waiting())).await;
    });
    (producers, others)
}

/// Carries out one fault after another, until time or events are used up.
async fn break_things(settings: &Settings, world: &mut World, began: Instant) -> Result<Vec<Done>> {
    let mut done = Vec::new();
    for fault in Schedule::new(settings.seed, settings.kinds.clone(), settings.pace) {
        let until = (began.elapsed() + fault.after()).min(settings.time);
        while began.elapsed() < until && !world.source.is_stopped() {
            tokio::time::sleep(PAUSE).await;
        }
        if began.elapsed() >= settings.time || world.source.is_stopped() {
            return Ok(done);
        }
        let what = world.carry_out(fault, began.elapsed()).await?;
        if !what.acted && world.source.is_stopped() {
            println!("{} came after the last event and does not count", fault.kind.name());
            return Ok(done);
        }
        let seconds = began.elapsed().as_secs_f64();
        let (name, confirmed) = (fault.kind.name(), world.source.ledger().confirmed());
        let recovery = what.recovery_ms.map_or_else(|| "-".to_owned(), |took| format!("{took} ms"));
        let word = if what.pass { "" } else { "   FAIL" };
        println!(
            "{seconds:7.1} s  {name:<18} recovery {recovery:>8}  {confirmed:>8} confirmed  {}{word}",
            what.evidence
        );
        done.push(what);
    }
    // Load without faults.
    while began.elapsed() < settings.time && !world.source.is_stopped() {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(done)
}
