//! Wiring: owns the broker, the engine, the route tasks and the listener, and the phases of a shutdown.
//!
//! Start: listen, open the broker, load plugins, run routes; a plugin that cannot run holds only its own routes down.
//! Stop: routes drain, what is unfinished at the deadline is left to the broker, then the listener and the broker end.

mod backend;
mod publish;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin;
pub use crate::broker::amqp::is_fit_to_log;

use crate::broker::Broker;
use crate::config::Config;
use crate::event::PluginName;
use crate::plugin::{self, Engine, Ready};
use crate::route::{Route, Stop};
use crate::telemetry::{self, Exposition};
use backend::State;

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

/// Runs until a signal.
///
/// # Errors
/// What keeps the daemon from starting at all: the listener, the store, the engine.
pub async fn run(config: Config, exposition: Exposition, grace: Duration) -> anyhow::Result<End> {
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind(config.http.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.http.listen))?;
    let config = Arc::new(config);
    let topology = Arc::new(config.topology.clone());
    let broker = Broker::open(&config.broker, topology, &config.state_dir).await?;
    let state = Arc::new(State::new(config.clone(), broker.clone(), exposition));

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

    let stop = Stop::default();
    let mut routes = start_routes(&config, &state, &broker, &stop).await?;
    state.started();
    info!(routes = routes.len(), "started");

    signals.wait_for_stop().await;
    info!(grace_s = grace.as_secs(), "stopping: routes take nothing new and finish what is in work");
    state.draining();
    stop.drain.cancel();
    let end = drain(&mut routes, &stop, &mut signals, grace).await;
    if end == End::Hard {
        return Ok(end);
    }
    http_stop.cancel();
    let closing = async {
        while http.join_next().await.is_some() {}
        broker.close(CLOSE_WITHIN).await;
    };
    tokio::select! {
        () = closing => Ok(end),
        () = signals.wait_for_stop() => Ok(End::Hard),
        () = tokio::time::sleep(CLOSE_WITHIN * 2) => Ok(End::Overdue),
    }
}

/// Loads every plugin and reports what each is, without a broker. The names are those that cannot run.
///
/// # Errors
/// When the engine does not start.
pub async fn check_plugins(config: &Config) -> anyhow::Result<Vec<(PluginName, String)>> {
    let engine = start_engine(config)?;
    let loaded = plugin::load(&engine, &config.plugins).await;
    let refused = |(name, result): (PluginName, Result<Ready, plugin::Error>)| Some((name, result.err()?.to_string()));
    Ok(loaded.into_iter().filter_map(refused).collect())
}

fn start_engine(config: &Config) -> anyhow::Result<Engine> {
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("cannot make the state directory {}", config.state_dir.display()))?;
    Ok(Engine::new(&config.state_dir.join("compiled"))?)
}

async fn start_routes(config: &Config, state: &State, broker: &Broker, stop: &Stop) -> anyhow::Result<JoinSet<()>> {
    let engine = start_engine(config)?;
    let mut ready: BTreeMap<PluginName, Ready> = BTreeMap::new();
    for (name, result) in plugin::load(&engine, &config.plugins).await {
        match result {
            Ok(plugin) => {
                telemetry::plugin_loaded(&name, &plugin.digest, plugin.cached, plugin.took);
                state.plugin_loaded(&name, &plugin.digest);
                ready.insert(name, plugin);
            }
            Err(error) => {
                telemetry::plugin_refused(&name, &error.to_string());
                state.plugin_refused(&name, error.to_string());
            }
        }
    }
    let mut routes = JoinSet::new();
    for (name, settings) in &config.routes {
        let plugin = ready.get(&settings.plugin).cloned();
        if let Some(route) = plugin.and_then(|plugin| Route::new(name, config, plugin, broker.clone())) {
            routes.spawn(route.run(stop.clone()));
        }
    }
    Ok(routes)
}

async fn drain(routes: &mut JoinSet<()>, stop: &Stop, signals: &mut Signals, grace: Duration) -> End {
    let deadline = tokio::time::sleep(grace);
    tokio::pin!(deadline);
    let mut end = End::Drained;
    loop {
        tokio::select! {
            biased;
            () = signals.wait_for_stop() => return End::Hard,
            () = &mut deadline, if end == End::Drained => {
                warn!("the grace time is over: what is unfinished is left to the broker");
                stop.now.cancel();
                end = End::Overdue;
            }
            ended = routes.join_next() => match ended {
                None => return end,
                Some(Ok(())) => {}
                Some(Err(error)) => warn!(%error, "a route ended badly"),
            },
        }
    }
}

async fn keep_up(state: Arc<State>) {
    let mut every = tokio::time::interval(UPKEEP);
    loop {
        every.tick().await;
        state.upkeep();
    }
}

/// SIGTERM and SIGINT stop; SIGHUP will reload once reloading exists, and must not end the daemon until then.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn wait_for_stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => warn!("SIGHUP: this version does not reload; restart it for new routes"),
            }
        }
    }
}
