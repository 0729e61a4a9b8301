//! The rows on RabbitMQ: messages of 1 KiB between two quorum queues, through a route with the plugin `echo`, and through each peer.
//! The programs take turns in each round.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::bench::context::BenchContext;
use crate::bench::daemon::DaemonProgram;
use crate::bench::echo::{EchoBroker, EchoCase, EchoSample};
use crate::bench::figures::{Figure, Target};
use crate::bench::peers::Peer;

const MESSAGES: u64 = 30_000;
const BYTES: usize = 1024;
/// The busy processes beside the programs in the row `busy`.
const BUSY: usize = 2;

/// The configuration of the route. The queues `IN` and `OUT` exist already.
pub(super) const ROUTES: &str = r#"
[exchanges."bench.x"]
type = "topic"
owned = false
[queues.IN]
owned = false
[routes.echo]
queue = "IN"
plugin = "echo"
emit = { exchange = "bench.x", key = "order.created" }
"#;

/// A program of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runner {
    Daemon,
    Peer(Peer),
}

/// A figure of a round and the way that its target is written.
struct Measure {
    name: &'static str,
    value: fn(&EchoSample) -> f64,
    /// The target against lapin.
    target: Target,
}

/// The targets of the messages a second against each peer.
const fn rate_target(peer: Peer) -> Target {
    match peer {
        Peer::Lapin => Target::AtLeast(0.9),
        Peer::Amqplib => Target::AtLeast(1.2),
        Peer::AioPika => Target::AtLeast(6.5),
        Peer::FastStream => Target::AtLeast(15.0),
    }
}

/// The daemon against all peers.
pub(crate) fn alone(context: &BenchContext) -> Result<Vec<Figure>> {
    let peers: Vec<Peer> = [Peer::Lapin, Peer::Amqplib, Peer::AioPika, Peer::FastStream]
        .into_iter()
        .filter(|peer| context.has_peer(peer.name()))
        .collect();
    let samples = rounds(context, "rabbitmq", &peers)?;
    let ours = &samples[&name(Runner::Daemon)];
    let mut figures = Vec::new();
    for peer in peers {
        let theirs = &samples[peer.name()];
        let target = if peer == Peer::Lapin { Target::AtMost(1.7) } else { Target::None };
        let broker = if peer == Peer::Lapin { Target::AtMost(1.15) } else { Target::None };
        let measures = [
            Measure { name: "messages a second", value: |s| s.messages_a_second, target: rate_target(peer) },
            Measure { name: "CPU s for 100 000", value: |s| s.cpu_s, target },
            Measure { name: "broker CPU s for 100 000", value: |s| s.broker_cpu_s, target: broker },
            Measure { name: "context switches a message", value: |s| s.switches, target: Target::None },
        ];
        figures.extend(measures.iter().map(|measure| figure("rabbitmq", measure, ours, Some((peer, theirs)))));
    }
    let switches =
        Measure { name: "context switches a message, alone", value: |s| s.switches, target: Target::AtMost(1.2) };
    figures.push(figure("rabbitmq", &switches, ours, None));
    Ok(figures)
}

/// The daemon against lapin, beside processes that use all processors.
pub(crate) fn busy(context: &BenchContext) -> Result<Vec<Figure>> {
    let _busy = (0..BUSY).map(|_| BusyProcess::start()).collect::<Result<Vec<_>>>()?;
    let samples = rounds(context, "busy", &[Peer::Lapin])?;
    let (ours, theirs) = (&samples[&name(Runner::Daemon)], &samples[Peer::Lapin.name()]);
    let measures = [
        Measure { name: "messages a second", value: |s| s.messages_a_second, target: Target::AtLeast(0.7) },
        Measure { name: "CPU s for 100 000", value: |s| s.cpu_s, target: Target::None },
        Measure { name: "context switches a message", value: |s| s.switches, target: Target::None },
    ];
    Ok(measures.iter().map(|measure| figure("busy", measure, ours, Some((Peer::Lapin, theirs)))).collect())
}

/// Runs all programs in each round, in turns, and gives the samples of each program.
fn rounds(context: &BenchContext, row: &str, peers: &[Peer]) -> Result<BTreeMap<String, Vec<EchoSample>>> {
    for peer in peers {
        peer.install()?;
    }
    let daemon = context.daemon()?;
    let mut broker = EchoBroker::start()?;
    let mut samples: BTreeMap<String, Vec<EchoSample>> = BTreeMap::new();
    for round in 1..=context.rounds {
        let mut runners = vec![Runner::Daemon];
        runners.extend(peers.iter().copied().map(Runner::Peer));
        // Each second round runs in the other direction, so that no program always runs after the same one.
        if round % 2 == 0 {
            runners.reverse();
        }
        for runner in runners {
            let messages = context.scaled(messages(runner));
            let case = EchoCase { queue_type: "quorum", messages, bytes: BYTES };
            let sample = run(&mut broker, case, runner, daemon).with_context(|| name(runner))?;
            println!("{row} {round}/{}  {}", context.rounds, line(runner, &sample));
            samples.entry(name(runner)).or_default().push(sample);
        }
    }
    Ok(samples)
}

fn run(broker: &mut EchoBroker, case: EchoCase, runner: Runner, daemon: &DaemonProgram) -> Result<EchoSample> {
    match runner {
        Runner::Daemon => broker.measure(case, |url| Ok(daemon.start(url, ROUTES)?.into_program())),
        Runner::Peer(peer) => broker.measure(case, |url| peer.start(url)),
    }
}

/// Slow programs get fewer messages.
const fn messages(runner: Runner) -> u64 {
    match runner {
        Runner::Daemon | Runner::Peer(Peer::Lapin | Peer::Amqplib) => MESSAGES,
        Runner::Peer(Peer::AioPika) => MESSAGES / 5,
        Runner::Peer(Peer::FastStream) => MESSAGES / 8,
    }
}

fn name(runner: Runner) -> String {
    match runner {
        Runner::Daemon => "trunkline".to_owned(),
        Runner::Peer(peer) => peer.name().to_owned(),
    }
}

fn line(runner: Runner, sample: &EchoSample) -> String {
    let EchoSample { messages_a_second, cpu_s, broker_cpu_s, switches, others } = sample;
    format!(
        "{:12} {messages_a_second:7.0} messages/s  CPU {cpu_s:6.2} s  broker {broker_cpu_s:6.2} s  switches {switches:5.2}  \
         other processes {others:4.2}",
        name(runner)
    )
}

fn figure(row: &'static str, measure: &Measure, ours: &[EchoSample], peer: Option<(Peer, &Vec<EchoSample>)>) -> Figure {
    let values = |samples: &[EchoSample]| samples.iter().map(measure.value).collect::<Vec<_>>();
    let peer = peer.map(|(peer, samples)| (peer.name().to_owned(), values(samples)));
    Figure { row, name: measure.name.to_owned(), ours: values(ours), peer, target: measure.target }
}

/// A process that uses one processor until the value is dropped.
struct BusyProcess(Child);

impl BusyProcess {
    fn start() -> Result<Self> {
        let child = Command::new("yes").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Self(child.context("`yes` cannot be run")?))
    }
}

impl Drop for BusyProcess {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}
