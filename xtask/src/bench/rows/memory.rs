//! The row of the memory: the resident memory of a daemon on the embedded broker with 20 plugins, idle and under load, and with many
//! waiting events.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::topology::wait_until_up;
use crate::bench::context::BenchContext;
use crate::bench::figures::{Figure, Target, spread};
use crate::bench::http::HttpConnection;
use crate::bench::load::{Load, event};
use crate::bench::usage;

const PLUGINS: usize = 20;
/// The events of each plugin in a batch of the load.
const EVENTS: usize = 5;
/// Time between two batches: 2 000 events a second.
const BATCH_EVERY: Duration = Duration::from_millis(50);
const BYTES: usize = 1024;
/// Time after the start until the idle memory is read.
const IDLE_AFTER: Duration = Duration::from_secs(5);
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const WAITING: u64 = 600_000;
const WAITING_BYTES: usize = 256;
const CONNECTIONS: u64 = 4;

const HEAD: &str = "[defaults]\nexchange = { name = \"bench\", type = \"topic\" }\n";

/// Routes with a plugin each.
pub(super) fn routes(plugins: usize) -> String {
    let route = |n| format!("[routes.r{n}]\nfrom = \"kind.{n}\"\nplugin = \"echo-{n}\"\n");
    HEAD.to_owned() + &(1..=plugins).map(route).collect::<String>()
}

pub(crate) fn run(context: &BenchContext) -> Result<Vec<Figure>> {
    let figure = |name: String, ours, target| Figure { row: "memory", name, ours, peer: None, target };
    let mut daemon = context.daemon()?.start("embedded", &routes(PLUGINS))?;
    wait_until_up(&mut daemon, PLUGINS)?;
    std::thread::sleep(IDLE_AFTER);
    let idle = usage::resident_mib(daemon.program.pid())?;
    println!("memory: {idle:.1} MiB with {PLUGINS} idle plugins");
    let samples = loaded(daemon.address(), daemon.program.pid(), Duration::from_secs(60 * context.minutes))?;
    drop(daemon);
    let peak = spread(&samples).max;
    let tenth = samples.len().div_ceil(10);
    let [early, late] =
        [&samples[2 * tenth..3 * tenth], &samples[samples.len() - tenth..]].map(|part| spread(part).median);
    println!("memory: at most {peak:.1} MiB under load, {early:.1} MiB early and {late:.1} MiB at the end");
    let waiting = waiting(context)?;
    println!("memory: {waiting:.1} MiB with waiting events");
    let minutes = context.minutes;
    Ok(vec![
        figure(format!("MiB, {PLUGINS} idle plugins"), vec![idle], Target::AtMost(48.0)),
        figure(format!("MiB, {PLUGINS} plugins under load"), vec![peak], Target::AtMost(96.0)),
        figure(format!("MiB at the end / early, {minutes} min of load"), vec![late / early], Target::AtMost(1.05)),
        figure(format!("MiB, {} waiting events", context.scaled(WAITING)), vec![waiting], Target::AtMost(96.0)),
    ])
}

/// The memory in each second of the load.
fn loaded(address: &str, pid: u32, duration: Duration) -> Result<Vec<f64>> {
    let events = (1..=PLUGINS).flat_map(|n| vec![event(&format!("kind.{n}"), BYTES); EVENTS]).collect::<Vec<_>>();
    let batch = format!(r#"{{"events":[{}]}}"#, events.join(","));
    let mut connection = HttpConnection::open(address)?;
    let (begun, mut samples) = (Instant::now(), Vec::new());
    let (mut next_batch, mut next_sample) = (begun, begun);
    while begun.elapsed() < duration {
        connection.post("/api/v1/events/batch", &batch)?;
        if next_sample <= Instant::now() {
            samples.push(usage::resident_mib(pid)?);
            next_sample += SAMPLE_EVERY;
        }
        next_batch += BATCH_EVERY;
        std::thread::sleep(next_batch.saturating_duration_since(Instant::now()));
    }
    Ok(samples)
}

/// The memory of a daemon whose queue has many events that no route consumes.
fn waiting(context: &BenchContext) -> Result<f64> {
    let routes = format!("{HEAD}[queues.waiting]\nbind = \"order.created\"\n");
    let daemon = context.daemon()?.start("embedded", &routes)?;
    let load = Load {
        event: event("order.created", WAITING_BYTES),
        connections: CONNECTIONS,
        events: context.scaled(WAITING),
        is_single: false,
    };
    load.publish(daemon.address())?;
    std::thread::sleep(IDLE_AFTER);
    usage::resident_mib(daemon.program.pid())
}
