//! The rows of the topology on RabbitMQ: the queues that a route adds, and the time until many routes are up.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use xtask::rabbitmq::{RELEASES, RabbitmqNode, RabbitmqServer, RootUse};

use crate::bench::context::BenchContext;
use crate::bench::daemon::{BenchDaemon, DaemonProgram};
use crate::bench::figures::{Figure, Target};
use crate::bench::http::{HttpConnection, metric};
use crate::bench::usage;

/// Limit for the start of all routes.
const UP_WITHIN: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time between two equal counts of queues that end the count.
const QUEUES_STABLE_FOR: Duration = Duration::from_secs(3);
/// The numbers of routes in the row `routes`, each with the seconds of its target.
const MANY: [(usize, f64); 2] = [(100, 3.0), (500, 12.0)];

/// The kinds of routes in the row `queues`, each with its keys.
const KINDS: [(&str, &str); 4] = [
    ("plain", ""),
    ("order-by", "order-by = \"data.id\"\n"),
    ("tenant rate", "tenant = { by = \"data.tenant\", rate = \"100/s\" }\n"),
    ("canary", "canary = { plugin = \"echo-1\", percent = 5 }\n"),
];

const HEAD: &str = "[defaults]\nexchange = { name = \"bench\", type = \"topic\" }\n";

/// Routes of one kind with numbers.
pub(super) fn routes(numbers: std::ops::Range<usize>, keys: &str) -> String {
    let route = |number| format!("[routes.r{number}]\nfrom = \"kind.{number}\"\nplugin = \"echo\"\n{keys}");
    HEAD.to_owned() + &numbers.map(route).collect::<String>()
}

/// The queues that a second route of each kind adds, and the queues that all routes share.
pub(crate) fn queues(context: &BenchContext) -> Result<Vec<Figure>> {
    let daemon = context.daemon()?;
    let mut figures = Vec::new();
    for (kind, keys) in KINDS {
        let node = RabbitmqNode::start()?;
        let (mut running, _) = up(daemon, &node, &routes(0..1, keys), 1)?;
        let one = queue_count(&node)?;
        // A second daemon would add the queue of its own relay, so the same daemon gets the second route.
        running.change(&routes(0..2, keys))?;
        wait_until_up(&mut running, 2)?;
        let two = queue_count(&node)?;
        println!("queues {kind}: {one} queues with one route, {two} with two");
        let figure = |name: String, queues: usize, target| {
            #[expect(clippy::cast_precision_loss, reason = "a small count")]
            let ours = vec![queues as f64];
            Figure { row: "queues", name, ours, peer: None, target }
        };
        figures.push(figure(format!("queues for a route, {kind}"), two - one, Target::AtMost(2.0)));
        figures.push(figure(format!("shared queues, {kind}"), (2 * one).saturating_sub(two), Target::None));
    }
    Ok(figures)
}

/// The number of queues, when it no longer changes. The daemon declares its delay queues beside its routes.
fn queue_count(node: &RabbitmqNode) -> Result<usize> {
    let begun = Instant::now();
    let mut last = 0;
    loop {
        let count = node.ctl(&["list_queues", "name", "--no-table-headers"])?.lines().count();
        if count == last {
            return Ok(count);
        }
        if begun.elapsed() > UP_WITHIN {
            bail!("the number of queues still changes after {UP_WITHIN:?}");
        }
        last = count;
        std::thread::sleep(QUEUES_STABLE_FOR);
    }
}

/// The time until all routes are up on a fresh node of the newest RabbitMQ.
pub(crate) fn many(context: &BenchContext) -> Result<Vec<Figure>> {
    let daemon = context.daemon()?;
    let server = newest()?;
    let version = server.version().unwrap_or_else(|| "?".to_owned());
    let mut figures = Vec::new();
    for (count, limit) in MANY {
        let (mut seconds, mut broker) = (Vec::new(), Vec::new());
        for round in 1..=context.rounds {
            let mut nodes = RabbitmqNode::start_cluster_of(&server, 1)?;
            let Some(node) = nodes.pop() else { bail!("no node") };
            let before = node.pid().map_or(Ok(0.0), usage::cpu_s)?;
            let (_daemon, took) = up(daemon, &node, &routes(0..count, ""), count)?;
            broker.push(node.pid().map_or(Ok(0.0), usage::cpu_s)? - before);
            seconds.push(took.as_secs_f64());
            println!("routes {count} {round}/{}  up after {:.2} s", context.rounds, took.as_secs_f64());
        }
        let name = format!("s until {count} routes are up, RabbitMQ {version}");
        figures.push(Figure { row: "routes", name, ours: seconds, peer: None, target: Target::AtMost(limit) });
        let name = format!("broker CPU s for {count} routes");
        figures.push(Figure { row: "routes", name, ours: broker, peer: None, target: Target::None });
    }
    Ok(figures)
}

/// The newest RabbitMQ that this machine can run: the root of the newest release where `cargo xtask matrix` has made the root, or
/// the user may make one; else the installed server.
pub(super) fn newest() -> Result<RabbitmqServer> {
    let Some(release) = RELEASES.last() else { bail!("no release") };
    match release.server(RootUse::Kept) {
        Ok(server) => Ok(server),
        Err(error) => {
            println!("note: RabbitMQ {} cannot be run ({error:#}); the installed one is measured", release.series);
            Ok(RabbitmqServer::installed())
        }
    }
}

/// Starts a daemon and waits until all its routes are up. The time begins with the start of the process.
pub(super) fn up(
    daemon: &DaemonProgram,
    node: &RabbitmqNode,
    routes: &str,
    count: usize,
) -> Result<(BenchDaemon, Duration)> {
    let begun = Instant::now();
    let mut running = daemon.start(&node.url(), routes)?;
    wait_until_up(&mut running, count)?;
    Ok((running, begun.elapsed()))
}

/// Waits until that many routes are up.
pub(super) fn wait_until_up(running: &mut BenchDaemon, count: usize) -> Result<()> {
    let begun = Instant::now();
    let mut connection = HttpConnection::open(running.address())?;
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let wanted = count as f64;
    loop {
        let up = metric(&mut connection, "trunkline_route_up{")?;
        if up >= wanted {
            return Ok(());
        }
        running.program.check()?;
        if begun.elapsed() > UP_WITHIN {
            bail!("only {up} of {count} routes are up after {UP_WITHIN:?}:\n{}", running.program.last_lines());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
