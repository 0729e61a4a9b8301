//! Wiring: owns the broker, the engine, the route tasks and the listener, and the phases of a shutdown.
//!
//! Start: listen, open the broker, load plugins, run routes; a plugin that cannot run holds only its own routes down.
//! Then `control` owns what changes: prepare a whole generation beside the one that runs, swap, or keep what runs.
//! Stop: routes drain, what is unfinished at the deadline is left to the broker, then the listener and the broker end.

mod backend;
mod control;
mod earlier;
mod lock;
mod publish;
mod request;
mod restarts;
mod routes;
mod signals;
mod statistics;
mod streams;
mod threads;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use lock::lock_plugins;
pub use threads::room_for_threads;
pub use trunkline_broker::amqp::is_fit_to_log;
pub use trunkline_broker::embedded::{Repaired, repair};
use trunkline_http as admin;

use crate::reload::{Inputs, Preparer, Watch};
use backend::State;
use control::Control;
use routes::Routes;
use signals::Signals;
use trunkline_broker::Broker;
use trunkline_config::state_dir::{self, StateDir};
use trunkline_config::{self as config, Config, Sources};
use trunkline_event::PluginName;
use trunkline_plugin_host::{self as plugin, Compiler, Engine, Ready};
pub use trunkline_plugin_host::{COMPILE_VERB, compile_for_parent};
use trunkline_telemetry::Exposition;
use trunkline_telemetry::wait;

/// Requests for a reload that wait to be heard; they become one anyway.
const REQUESTS_MAX: usize = 64;
/// How often histograms are folded and gauges of the store refreshed.
const UPKEEP: Duration = Duration::from_secs(5);
/// What the listener and the broker get to end, after the routes.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything in work was settled.
    Drained,
    /// The deadline passed first: the rest is with the broker.
    Overdue,
    /// A second signal: at once.
    Hard,
}

/// What a run begins with.
pub struct Start {
    /// Where the configuration comes from, for reloads.
    pub sources: Sources,
    /// What it was at first.
    pub config: Config,
    /// The metrics.
    pub exposition: Exposition,
    /// How long to finish what is in work after a signal.
    pub grace: Duration,
}

/// Runs until a signal.
///
/// # Errors
/// What keeps the daemon from starting at all: the listener, the store, the engine.
pub async fn run(start: Start) -> anyhow::Result<End> {
    let Start { sources, config, exposition, grace } = start;
    let mut signals = Signals::new()?;
    let listener =
        admin::bind(config.http.listen).with_context(|| format!("cannot listen on {}", config.http.listen))?;
    let config = Arc::new(config);
    // Before anything is read: what changes from here on is noticed.
    let watch = Watch::new(Inputs::of(&config));
    let topology = Arc::new(config.topology.clone());
    let broker = tokio::select! {
        opened = Broker::open(&config.broker, topology, &config.state_dir) => opened?,
        // A large store takes its time to be looked at, and nothing is in work yet.
        () = signals.stop() => return Ok(End::Drained),
    };
    let (requests, asked) = mpsc::channel(REQUESTS_MAX);
    let state = Arc::new(State::new(config.clone(), broker.clone(), exposition, requests));

    let http_stop = CancellationToken::new();
    let mut http = JoinSet::new();
    let address = listener.local_addr()?;
    info!(%address, broker = config.broker.display(), "listening");
    {
        let (config, state, stop) = (config.clone(), state.clone(), http_stop.clone());
        http.spawn(async move { admin::serve(listener, &config.http, state, stop).await });
    }
    let mut upkeep = JoinSet::new();
    upkeep.spawn(keep_up(state.clone()));
    let told = config.clone();
    upkeep.spawn(async move { earlier::tell(&told).await });

    let preparer = Preparer::new(start_engine(&config)?.keeping_state(&config.state_dir));
    let mut control = Control::new(sources, state.clone(), broker.clone(), preparer, asked, watch);
    control.run(&mut signals).await;
    info!(grace_s = grace.as_secs(), "stopping: routes take nothing new and finish what is in work");
    state.draining();
    control.routes.drain();
    let end = drain(&mut control.routes, &mut signals, grace).await;
    if end == End::Hard {
        return Ok(end);
    }
    http_stop.cancel();
    // Who still waits for a reload is told that there will be none.
    drop(control);
    let closing = async {
        state.streams_ended().await;
        while http.join_next().await.is_some() {}
        state.finish().await;
        state.rollouts().save().await;
        broker.close(CLOSE_WITHIN).await;
    };
    tokio::select! {
        () = closing => Ok(end),
        () = signals.stop() => Ok(End::Hard),
        () = wait::after(CLOSE_WITHIN * 4) => Ok(End::Overdue),
    }
}

/// Takes the state directory for this process. Everything in it is closed to other users, and no other daemon may have it.
/// The directory that is the default tells version control to leave it alone, since keys and messages lie in it.
///
/// # Errors
/// When it cannot be used, or another daemon has it.
pub fn take_state_dir(config: &Config) -> anyhow::Result<StateDir> {
    let taken = StateDir::take(&config.state_dir)?;
    if config.state_dir.ends_with(config::STATE_BESIDE) {
        let ignored = config.state_dir.join(".gitignore");
        let written = match state_dir::file(&ignored) {
            Ok(mut file) if file.metadata().is_ok_and(|facts| facts.len() == 0) => file.write_all(b"*\n"),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        written.with_context(|| format!("cannot write {}", ignored.display()))?;
    }
    Ok(taken)
}

/// Loads every plugin and reports what each is, without a broker. The names are those that cannot run.
///
/// # Errors
/// When the engine does not start.
pub async fn check_plugins(config: &Config) -> anyhow::Result<Vec<(PluginName, String)>> {
    let (engine, _beside) = engine_to_check(config)?;
    let loaded = plugin::load(&engine, &config.plugins).await;
    let refused = |(name, result): (PluginName, Result<Ready, plugin::Error>)| Some((name, result.err()?.to_string()));
    Ok(loaded.into_iter().filter_map(refused).collect())
}

fn start_engine(config: &Config) -> anyhow::Result<Engine> {
    state_dir::prepare(&config.state_dir)?;
    Ok(Engine::new(&config.state_dir.join("compiled"), Compiler::in_children())?)
}

/// Where nobody runs a daemon the state directory may be out of reach: then code is compiled into a place that goes again.
fn engine_to_check(config: &Config) -> anyhow::Result<(Engine, Option<tempfile::TempDir>)> {
    match state_dir::prepare(&config.state_dir) {
        Err(state_dir::Error::Unusable { .. }) => {
            let place = tempfile::tempdir().context("there is no place for compiled code")?;
            Ok((Engine::new(place.path(), Compiler::in_children())?, Some(place)))
        }
        Ok(()) | Err(_) => Ok((start_engine(config)?, None)),
    }
}

async fn drain(routes: &mut Routes, signals: &mut Signals, grace: Duration) -> End {
    let deadline = wait::after(grace);
    tokio::pin!(deadline);
    let mut end = End::Drained;
    loop {
        tokio::select! {
            biased;
            () = signals.stop() => return End::Hard,
            () = &mut deadline, if end == End::Drained => {
                warn!("the grace time is over: what is unfinished is left to the broker");
                routes.leave();
                end = End::Overdue;
            }
            more = routes.next_end() => if !more {
                return end;
            },
        }
    }
}

async fn keep_up(state: Arc<State>) {
    let mut every = wait::every(UPKEEP);
    let rollouts = state.rollouts();
    loop {
        tokio::select! {
            _ = every.tick() => {
                threads::keep_one();
                state.upkeep().await;
            }
            () = rollouts.verdict() => rollouts.save().await,
        }
    }
}
