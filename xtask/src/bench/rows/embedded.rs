//! The rows on the embedded broker: durable events of 1 KiB over HTTP, in batches through a plugin, and one by one.

use std::time::Instant;

use anyhow::Result;

use crate::bench::context::BenchContext;
use crate::bench::figures::{Figure, Target};
use crate::bench::load::{Load, event, wait_until_settled};
use crate::bench::usage;

const BYTES: usize = 1024;
const BATCHED: u64 = 60_000;
const BATCH_CONNECTIONS: u64 = 4;
const SINGLE: u64 = 40_000;
const SINGLE_CONNECTIONS: u64 = 64;

/// A route with the plugin `echo`, and a queue that keeps the emissions.
const ROUTES: &str = r#"
[defaults]
exchange = { name = "bench", type = "topic" }
[queues.out]
bind = "echoed"
[routes.echo]
from = "order.created"
plugin = "echo"
"#;

/// The same queues without the route.
const NO_ROUTE: &str = r#"
[defaults]
exchange = { name = "bench", type = "topic" }
[queues.waiting]
bind = "order.created"
"#;

/// Batches of 100 through the plugin, until the last event is settled.
pub(crate) fn batches(context: &BenchContext) -> Result<Vec<Figure>> {
    let events = context.scaled(BATCHED);
    let (mut accepted, mut settled, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=context.rounds {
        let mut daemon = context.daemon()?.start("embedded", ROUTES)?;
        let load =
            Load { event: event("order.created", BYTES), connections: BATCH_CONNECTIONS, events, is_single: false };
        let (begun, cpu_before) = (Instant::now(), usage::cpu_s(daemon.program.pid())?);
        let published = load.publish(daemon.address())?;
        wait_until_settled(&mut daemon, events)?;
        let seconds = begun.elapsed().as_secs_f64();
        let used = usage::cpu_s(daemon.program.pid())? - cpu_before;
        accepted.push(a_second(events, published.as_secs_f64()));
        settled.push(a_second(events, seconds));
        cpu.push(used * 1e5 / a_second(events, 1.0));
        let [accepted, settled, cpu] = [&accepted, &settled, &cpu].map(|values| values[round - 1]);
        println!(
            "embedded {round}/{}  accepted {accepted:.0}/s  through the plugin {settled:.0}/s  CPU {cpu:.2} s",
            context.rounds
        );
    }
    let figure = |name: &str, ours, target| Figure { row: "embedded", name: name.to_owned(), ours, peer: None, target };
    Ok(vec![
        figure("events a second", settled, Target::AtLeast(25_000.0)),
        figure("CPU s for 100 000", cpu, Target::AtMost(4.0)),
        figure("accepted a second", accepted, Target::None),
    ])
}

/// Single posts from 64 clients, with a route that handles the events, and without a route.
pub(crate) fn posts(context: &BenchContext) -> Result<Vec<Figure>> {
    let events = context.scaled(SINGLE);
    let (mut handled, mut kept) = (Vec::new(), Vec::new());
    for round in 1..=context.rounds {
        for (routes, rates) in [(ROUTES, &mut handled), (NO_ROUTE, &mut kept)] {
            let daemon = context.daemon()?.start("embedded", routes)?;
            let load =
                Load { event: event("order.created", BYTES), connections: SINGLE_CONNECTIONS, events, is_single: true };
            rates.push(a_second(events, load.publish(daemon.address())?.as_secs_f64()));
        }
        let [with, without] = [&handled, &kept].map(|rates| rates[round - 1]);
        println!("posts {round}/{}  with a route {with:.0}/s  without a route {without:.0}/s", context.rounds);
    }
    let figure = |name: &str, ours, target| Figure { row: "posts", name: name.to_owned(), ours, peer: None, target };
    Ok(vec![
        figure("posts a second, with a route", handled, Target::AtLeast(15_000.0)),
        figure("posts a second, no route", kept, Target::None),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn a_second(events: u64, seconds: f64) -> f64 {
    events as f64 / seconds
}
