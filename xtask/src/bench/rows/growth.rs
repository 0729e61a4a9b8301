//! The row of the growth: how the cost grows with the size of a message, and with the number of daemons, routes and plugins. Each
//! part is a plot.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use xtask::rabbitmq::RabbitmqNode;

use super::rabbitmq::ROUTES;
use super::topology::{self, newest, wait_until_up};
use super::{RowResult, memory};
use crate::bench::context::BenchContext;
use crate::bench::daemon::BenchDaemon;
use crate::bench::echo::{EchoBroker, EchoCase};
use crate::bench::figures::{Figure, Target, spread};
use crate::bench::peers::Peer;
use crate::bench::place::TemporaryFolder;
use crate::bench::svg::{Plot, PlotLine};
use crate::bench::usage;

/// The sizes of a message in bytes, each with the number of messages of a round.
const SIZES: [(usize, u64); 5] = [(100, 20_000), (1024, 20_000), (10_240, 10_000), (102_400, 2_000), (1_048_576, 300)];
const DAEMONS: [usize; 3] = [1, 2, 4];
const DAEMON_MESSAGES: u64 = 30_000;
const ROUTE_COUNTS: [usize; 4] = [1, 20, 100, 500];
const PLUGIN_COUNTS: [usize; 4] = [1, 10, 30, 100];
/// Rounds of a point. A plot has many points, and no target.
const ROUNDS: usize = 3;

/// The figures and the plots.
pub(crate) fn run(context: &BenchContext) -> Result<RowResult> {
    Peer::Lapin.install()?;
    let plots = vec![
        ("sizes", sizes(context)?),
        ("daemons", daemons(context)?),
        ("routes", routes(context)?),
        ("plugins", plugins(context)?),
    ];
    let mut figures = Vec::new();
    for (_, plot) in &plots {
        for line in &plot.lines {
            for (place, value) in &line.points {
                let name = format!("{}, {place} {}, {}", plot.vertical, plot.horizontal, line.name);
                figures.push(Figure { row: "growth", name, ours: vec![*value], peer: None, target: Target::None });
            }
        }
    }
    Ok(RowResult { figures, plots })
}

/// Bytes a second of the bodies, for each size of a message.
fn sizes(context: &BenchContext) -> Result<Plot> {
    let (daemon, mut broker) = (context.daemon()?, EchoBroker::start()?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for (bytes, messages) in SIZES {
        let case = EchoCase { queue_type: "quorum", messages: context.scaled(messages).max(50), bytes };
        let (mut daemon_rates, mut lapin_rates) = (Vec::new(), Vec::new());
        for _round in 0..ROUNDS {
            let sample = broker.measure(case, |url| Ok(daemon.start(url, ROUTES)?.into_program()))?;
            daemon_rates.push(sample.messages_a_second);
            lapin_rates.push(broker.measure(case, |url| Peer::Lapin.start(url))?.messages_a_second);
        }
        let [rate, lapin] = [daemon_rates, lapin_rates].map(|rates| spread(&rates).median);
        println!("growth: {bytes} bytes, trunkline {rate:.0}/s, lapin {lapin:.0}/s");
        ours.push((number(bytes), rate));
        theirs.push((number(bytes), lapin));
    }
    Ok(Plot {
        title: "Messages a second by the size of a message, quorum queues".to_owned(),
        horizontal: "bytes of a message",
        vertical: "messages a second",
        lines: vec![line("trunkline", ours), line("lapin alone", theirs)],
    })
}

/// Messages a second of several daemons that consume one queue together.
fn daemons(context: &BenchContext) -> Result<Plot> {
    let (daemon, mut broker) = (context.daemon()?, EchoBroker::start()?);
    let case = EchoCase { queue_type: "quorum", messages: context.scaled(DAEMON_MESSAGES), bytes: 1024 };
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for count in DAEMONS {
        let (mut round_rates, mut round_costs) = (Vec::new(), Vec::new());
        for _round in 0..ROUNDS {
            // The others run beside the measured daemon, whose processor time is taken.
            let mut others: Vec<BenchDaemon> = Vec::new();
            let sample = broker.measure(case, |url| {
                for _other in 1..count {
                    others.push(daemon.start(url, ROUTES)?);
                }
                Ok(daemon.start(url, ROUTES)?.into_program())
            })?;
            round_rates.push(sample.messages_a_second);
            round_costs.push(sample.broker_cpu_s);
        }
        let [rate, cost] = [round_rates, round_costs].map(|values| spread(&values).median);
        println!("growth: {count} daemons, {rate:.0} messages/s, broker {cost:.1} s for 100 000");
        rates.push((number(count), rate));
        costs.push((number(count), cost));
    }
    Ok(Plot {
        title: "Messages a second of daemons that share a queue".to_owned(),
        horizontal: "daemons",
        vertical: "messages a second",
        lines: vec![line("all daemons together", rates)],
    })
}

/// Seconds until all routes are up.
fn routes(context: &BenchContext) -> Result<Plot> {
    let (daemon, server) = (context.daemon()?, newest()?);
    let (mut rabbitmq, mut embedded) = (Vec::new(), Vec::new());
    for count in ROUTE_COUNTS {
        let mut nodes = RabbitmqNode::start_cluster_of(&server, 1)?;
        let Some(node) = nodes.pop() else { bail!("no node") };
        let (_running, took) = topology::up(daemon, &node, &topology::routes(0..count, ""), count)?;
        rabbitmq.push((number(count), took.as_secs_f64()));
        let begun = Instant::now();
        let mut running = daemon.start("embedded", &topology::routes(0..count, ""))?;
        wait_until_up(&mut running, count)?;
        embedded.push((number(count), begun.elapsed().as_secs_f64()));
        println!(
            "growth: {count} routes, RabbitMQ {:.2} s, embedded {:.2} s",
            took.as_secs_f64(),
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(Plot {
        title: format!("Seconds until all routes are up, RabbitMQ {}", server.version().unwrap_or_default()),
        horizontal: "routes",
        vertical: "seconds",
        lines: vec![line("RabbitMQ", rabbitmq), line("embedded", embedded)],
    })
}

/// The resident memory of an idle daemon.
fn plugins(context: &BenchContext) -> Result<Plot> {
    let daemon = context.daemon()?;
    let mut memory = Vec::new();
    for count in PLUGIN_COUNTS {
        let (state, routes) = (TemporaryFolder::new()?, memory::routes(count));
        let place = state.path().join("state");
        // The first start compiles the plugins, and the second one loads them.
        for is_measured in [false, true] {
            let mut running = daemon.start_again("embedded", &routes, &place)?;
            wait_until_up(&mut running, count)?;
            if is_measured {
                let mib = usage::resident_mib(running.program.pid()).context("the daemon runs")?;
                println!("growth: {count} plugins, {mib:.1} MiB");
                memory.push((number(count), mib));
            }
            running.stop()?;
        }
    }
    Ok(Plot {
        title: "Resident memory of an idle daemon with cached plugins".to_owned(),
        horizontal: "plugins",
        vertical: "MiB",
        lines: vec![line("embedded", memory)],
    })
}

fn line(name: &str, points: Vec<(f64, f64)>) -> PlotLine {
    PlotLine { name: name.to_owned(), points }
}

#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn number(count: usize) -> f64 {
    count as f64
}
