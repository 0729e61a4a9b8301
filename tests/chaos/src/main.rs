//! `cargo xtask chaos`: the flags, and the exit code.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use trunkline_chaos::run::{Settings, run};
use trunkline_chaos::schedule::{BrokerKind, Kind, Pace};
use trunkline_chaos::{faults, strace};

/// The time of load and faults of `--short`. Start, drain and probes make it about a minute.
const SHORT: Duration = Duration::from_secs(40);
/// The limit for `--events` alone, which ends when all events are confirmed.
const EVENTS_WITHIN: Duration = Duration::from_secs(60 * 60);

/// Runs the real daemon under faults and checks that nothing confirmed is lost.
#[derive(Parser)]
#[command(name = "cargo xtask chaos")]
struct Flags {
    /// The broker.
    #[arg(long, value_enum, default_value = "embedded")]
    broker: BrokerKind,
    /// Seed of the events and of the sequence of faults; random when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Run load and faults for M minutes.
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Publish N events, with faults until they are confirmed.
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Run for about a minute with dense faults; the default.
    #[arg(long, conflicts_with_all = ["minutes", "events"])]
    short: bool,
    /// Only these faults, or "none"; all kinds that fit the broker when absent.
    #[arg(long, value_name = "KIND,...")]
    faults: Option<String>,
    /// Folder for report.json and the daemon's log.
    #[arg(long, value_name = "DIR", default_value = "target/chaos")]
    out: PathBuf,
    /// The daemon's binary; the one beside this program when absent.
    #[arg(long, value_name = "FILE")]
    daemon: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let seed = flags.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    // An interrupted run is dropped together with every process that it started.
    let ended = tokio::select! {
        ended = chaos(&flags, seed) => ended,
        () = interrupted() => Err(anyhow!("interrupted")),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("failed; the same faults again: --seed {seed}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}\nthe same faults again: --seed {seed}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _asked = tokio::signal::ctrl_c() => {}
        _asked = terminate.recv() => {}
    }
}

async fn chaos(flags: &Flags, seed: u64) -> Result<bool> {
    let is_short = flags.minutes.is_none() && flags.events.is_none();
    let time = match flags.minutes {
        Some(minutes) => Duration::try_from_secs_f64(minutes * 60.0).context("--minutes")?,
        None if is_short => SHORT,
        None => EVENTS_WITHIN,
    };
    let binary = match &flags.daemon {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?.with_file_name("trunkline"),
    };
    std::fs::create_dir_all(&flags.out)?;
    let settings = Settings {
        broker: flags.broker,
        seed,
        time,
        events: flags.events.unwrap_or(u64::MAX),
        kinds: kinds(flags).await?,
        pace: if is_short { Pace::Short } else { Pace::Long },
        binary,
        out: flags.out.clone(),
        commit: commit(),
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
    };
    let report = run(&settings).await?;
    report.write(&settings.out)?;
    println!("{}", report.table());
    println!("{}", settings.out.join("report.json").display());
    Ok(report.pass)
}

async fn kinds(flags: &Flags) -> Result<Vec<Kind>> {
    let kinds = match flags.faults.as_deref() {
        None => Kind::of(flags.broker, strace::is_there().await),
        Some("none") => Vec::new(),
        Some(list) => {
            let parse = |name| <Kind as clap::ValueEnum>::from_str(name, true).map_err(anyhow::Error::msg);
            list.split(',').map(parse).collect::<Result<_>>().context("--faults")?
        }
    };
    faults::fits(flags.broker, &kinds)?;
    Ok(kinds)
}

fn commit() -> String {
    let asked = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    let text = asked.ok().filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}
