//! The row of the loading of plugins: the start with cached plugins, a changed plugin, and the first event of a large plugin in
//! JavaScript beside another route.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use xtask::{languages, root};

use super::memory;
use super::rabbitmq::ROUTES;
use super::topology::wait_until_up;
use crate::bench::components::write_copy;
use crate::bench::context::BenchContext;
use crate::bench::daemon::{BenchDaemon, DaemonProgram};
use crate::bench::echo::EchoBroker;
use crate::bench::figures::{Figure, Target};
use crate::bench::http::{HttpConnection, metric};
use crate::bench::peers::{Peer, run_lapin};
use crate::bench::place::TemporaryFolder;
use crate::bench::usage;

const PLUGINS: usize = 20;
const CHANGED_BYTES: usize = 200 * 1024;
/// The messages a second on the other route while the large plugin loads.
const RATE: &str = "--rate=500";
const WARM_UP: &str = "--warm=2";
/// The measured seconds. The large plugin has to load within this time.
const SECONDS: u64 = 45;
/// Time after which the large plugin is added.
const ADD_AFTER: Duration = Duration::from_secs(3);
/// Limit for the first event of the large plugin.
const FIRST_WITHIN: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(5);

const CHANGED: &str = "[defaults]\nexchange = { name = \"bench\", type = \"topic\" }\n\
    [routes.changed]\nfrom = \"changed\"\nplugin = \"changed\"\n";

/// The route of the large plugin, which is added to the route `echo`. `$FILE` is the component.
const LARGE: &str = r#"
[exchanges.calls]
type = "topic"
codec = "cloudevents"
[queues.large]
bind = { exchange = "calls", keys = "call.ended" }
[routes.large]
queue = "large"
plugin = "large"
[plugins.large]
file = "$FILE"
limits = { timeout = "20s" }
"#;
const CALL: &str =
    r#"{"type":"call.ended","exchange":"calls","data":{"call_id":"c-1","duration":12,"outcome":"callback_requested"}}"#;

pub(crate) fn run(context: &BenchContext) -> Result<Vec<Figure>> {
    let daemon = context.daemon()?;
    let figure = |name: &str, ours, target| Figure { row: "load", name: name.to_owned(), ours, peer: None, target };
    let mut figures = vec![
        figure("s until 20 cached plugins are ready", cached(context, daemon)?, Target::AtMost(0.1)),
        figure("s until a changed 200 KiB plugin is used", changed(context, daemon)?, Target::AtMost(0.1)),
    ];
    figures.extend(large(daemon)?);
    Ok(figures)
}

/// Starts with the compiled code of an earlier start.
fn cached(context: &BenchContext, daemon: &DaemonProgram) -> Result<Vec<f64>> {
    let (state, routes) = (TemporaryFolder::new()?, memory::routes(PLUGINS));
    let mut times = Vec::new();
    for round in 0..=context.rounds {
        let begun = Instant::now();
        let mut running = daemon.start_again("embedded", &routes, &state.path().join("state"))?;
        wait_until_up(&mut running, PLUGINS)?;
        let seconds = begun.elapsed().as_secs_f64();
        running.stop()?;
        println!("load: {PLUGINS} plugins ready after {seconds:.3} s{}", if round == 0 { ", not cached" } else { "" });
        // The first start compiles.
        if round > 0 {
            times.push(seconds);
        }
    }
    Ok(times)
}

/// Replaces the file of a plugin.
fn changed(context: &BenchContext, daemon: &DaemonProgram) -> Result<Vec<f64>> {
    let folder = TemporaryFolder::new()?;
    let echo = std::fs::read(daemon.plugins.join("echo.wasm"))?;
    let file = folder.path().join("changed.wasm");
    let zeros = CHANGED_BYTES.saturating_sub(echo.len());
    write_copy(&file, &echo, "0", zeros)?;
    let routes = format!("{CHANGED}[plugins.changed]\nfile = {:?}\n", file.display().to_string());
    let mut running = daemon.start("embedded", &routes)?;
    wait_until_up(&mut running, 1)?;
    let mut times = Vec::new();
    for round in 1..=context.rounds {
        let begun = Instant::now();
        write_copy(&file, &echo, &round.to_string(), zeros)?;
        running.logged_times("a route uses a new file of its plugin", round)?;
        times.push(begun.elapsed().as_secs_f64());
        println!("load: a changed plugin is used after {:.3} s", times[round - 1]);
    }
    Ok(times)
}

/// Adds a plugin in JavaScript to a running daemon, while messages go through another route.
fn large(daemon: &DaemonProgram) -> Result<Vec<Figure>> {
    let sources = root().join("plugins/callback-task-js");
    let component = languages::plugin(&daemon.file, "js", "callback-task", Some(&sources))?;
    Peer::Lapin.install()?;
    let broker = EchoBroker::start()?;
    let url = broker.node.url();
    let alone = {
        broker.prepare("quorum")?;
        let _running = daemon.start(&url, ROUTES)?;
        p99_ms(&url, 10)?
    };
    broker.prepare("quorum")?;
    let mut running = daemon.start(&url, ROUTES)?;
    let pid = running.program.pid();
    let (beside, first, cpu) = std::thread::scope(|scope| -> Result<(f64, f64, f64)> {
        let latency = scope.spawn(|| p99_ms(&url, SECONDS));
        std::thread::sleep(ADD_AFTER);
        let cpu_before = usage::cpu_s(pid)?;
        let first = first_event(&mut running, &component)?;
        let cpu = usage::cpu_s(pid)? - cpu_before;
        let beside = latency.join().map_err(|_panic| anyhow!("the measurement of the latency panicked"))??;
        Ok((beside, first.as_secs_f64(), cpu))
    })?;
    println!("load: first event after {first:.2} s, p99 of the other route {alone:.1} ms alone, {beside:.1} ms beside");
    let figure = |name: &str, ours: f64, peer: Option<f64>, target| Figure {
        row: "load",
        name: name.to_owned(),
        ours: vec![ours],
        peer: peer.map(|value| ("alone".to_owned(), vec![value])),
        target,
    };
    Ok(vec![
        figure("s until the first event of a JavaScript plugin", first, None, Target::AtMost(8.0)),
        figure("CPU s of the daemon meanwhile", cpu, None, Target::None),
        figure("p99 in ms of another route meanwhile", beside, Some(alone), Target::AtMost(2.0)),
    ])
}

fn p99_ms(url: &str, seconds: u64) -> Result<f64> {
    let text = run_lapin(&["lat", RATE, WARM_UP, &format!("--secs={seconds}")], url)?;
    let line = text.lines().rfind(|line| line.starts_with('{')).context("no latencies")?;
    let found: Value = serde_json::from_str(line)?;
    Ok(found["p99_us"].as_f64().context("no p99")? / 1000.0)
}

/// Adds the route of the large plugin, and gives the time until its first event is settled.
fn first_event(running: &mut BenchDaemon, component: &Path) -> Result<Duration> {
    let file: PathBuf = component.canonicalize()?;
    let begun = Instant::now();
    running.change(&(ROUTES.to_owned() + &LARGE.replace("$FILE", &file.display().to_string())))?;
    let mut connection = HttpConnection::open(running.address())?;
    wait_for(&mut connection, "trunkline_route_up{route=\"large\"", &begun)?;
    connection.post("/api/v1/events", CALL)?;
    wait_for(&mut connection, "trunkline_messages_settled_total{route=\"large\"", &begun)?;
    Ok(begun.elapsed())
}

fn wait_for(connection: &mut HttpConnection, series: &str, begun: &Instant) -> Result<()> {
    while metric(connection, series)? < 1.0 {
        if begun.elapsed() > FIRST_WITHIN {
            bail!("{series} is still 0 after {FIRST_WITHIN:?}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
