//! The row of the latency: messages of 1 KiB at a fixed rate through a route, against lapin alone, with the same client.

use anyhow::{Context, Result};
use serde_json::Value;

use super::rabbitmq::ROUTES;
use crate::bench::context::BenchContext;
use crate::bench::echo::EchoBroker;
use crate::bench::figures::{Figure, Target};
use crate::bench::peers::{Peer, run_lapin};
use crate::bench::program::MeasuredProgram;

/// The messages a second.
const RATES: [u64; 2] = [500, 2000];
/// The measured seconds of a round, and the seconds before them.
const SECONDS: u64 = 6;
const WARM_UP_SECONDS: u64 = 2;

pub(crate) fn run(context: &BenchContext) -> Result<Vec<Figure>> {
    Peer::Lapin.install()?;
    let daemon = context.daemon()?;
    let broker = EchoBroker::start()?;
    let url = broker.node.url();
    let mut figures = Vec::new();
    for rate in RATES {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 1..=context.rounds {
            let mut turns = [true, false];
            if round % 2 == 0 {
                turns.reverse();
            }
            for is_daemon in turns {
                broker.prepare("quorum")?;
                let program =
                    if is_daemon { daemon.start(&url, ROUTES)?.into_program() } else { Peer::Lapin.start(&url)? };
                let sample = latency(&url, rate, program)?;
                let name = if is_daemon { "trunkline" } else { "lapin" };
                println!(
                    "latency {rate}/s {round}/{}  {name:10} p50 {:.2} ms  p99 {:.2} ms",
                    context.rounds, sample.0, sample.1
                );
                if is_daemon { &mut ours } else { &mut theirs }.push(sample);
            }
        }
        let values = |samples: &[(f64, f64)], is_p99: bool| {
            samples.iter().map(|(p50, p99)| if is_p99 { *p99 } else { *p50 }).collect::<Vec<_>>()
        };
        for (name, is_p99, limit) in [("p50", false, 1.2), ("p99", true, 1.5)] {
            let peer = Some(("lapin".to_owned(), values(&theirs, is_p99)));
            let name = format!("{name} in ms at {rate} a second");
            figures.push(Figure {
                row: "latency",
                name,
                ours: values(&ours, is_p99),
                peer,
                target: Target::AtMost(limit),
            });
        }
    }
    Ok(figures)
}

/// The median and the p99 in milliseconds.
fn latency(url: &str, rate: u64, mut program: MeasuredProgram) -> Result<(f64, f64)> {
    let [rate, seconds, warm] =
        [("rate", rate), ("secs", SECONDS), ("warm", WARM_UP_SECONDS)].map(|(name, value)| format!("--{name}={value}"));
    let text = run_lapin(&["lat", &rate, &seconds, &warm], url)?;
    program.check()?;
    let line = text.lines().rfind(|line| line.starts_with('{')).context("no latencies")?;
    let found: Value = serde_json::from_str(line)?;
    let ms = |name: &str| found[name].as_f64().map(|us| us / 1000.0).with_context(|| format!("no {name} in {line}"));
    Ok((ms("p50_us")?, ms("p99_us")?))
}
