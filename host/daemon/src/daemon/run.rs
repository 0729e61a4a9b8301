//! The run of the daemon, from its start to its end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::control::Control;
use super::scrape::poll_queues;
use super::signals::Signals;
use super::state::DaemonState;
use super::{former_retry_queues, former_state_dir, threads};
use crate::plugins::start_engine;
use crate::reload::{Inputs, Preparer, Watch};
use crate::routes::Routes;
use trunkline_broker::Broker;
use trunkline_config::{BrokerChoice, Config, Sources};
use trunkline_telemetry::{Exposition, wait};

/// Requests for a reload that wait for the control loop. Waiting requests become one reload.
const REQUESTS_MAX: usize = 64;
/// Period of the upkeep: histograms, rollouts and queues of streams.
const UPKEEP: Duration = Duration::from_secs(5);
/// Time for the listener and the broker to end, after the routes.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// Every delivery was settled.
    Drained,
    /// The grace time passed. The broker delivers unfinished messages again.
    Overdue,
    /// A second signal ended the daemon at once.
    Hard,
}

/// The arguments of a run.
pub struct RunSettings {
    /// The sources of the configuration, for reloads.
    pub sources: Sources,
    /// The first configuration.
    pub config: Config,
    /// The metrics of the process.
    pub exposition: Exposition,
    /// Time to finish the events in work after a signal.
    pub grace: Duration,
}

/// Runs until a signal.
///
/// # Errors
/// When the listener, the store or the engine cannot start.
pub async fn run(settings: RunSettings) -> anyhow::Result<RunOutcome> {
    let RunSettings { sources, config, exposition, grace } = settings;
    let mut signals = Signals::new()?;
    let listener =
        trunkline_http::bind(config.http.listen).with_context(|| format!("cannot listen on {}", config.http.listen))?;
    let config = Arc::new(config);
    // The watch begins before plugins are read, so that a later change is noticed.
    let watch = Watch::new(Inputs::of(&config));
    let topology = Arc::new(config.topology.clone());
    let broker = tokio::select! {
        opened = Broker::open(&config.broker, topology, &config.state_dir) => opened?,
        // Opening a large store takes a while, and no event is in work yet.
        () = signals.stop() => return Ok(RunOutcome::Drained),
    };
    broker.begin_relay();
    let (requests, asked) = mpsc::channel(REQUESTS_MAX);
    let state = Arc::new(DaemonState::new(config.clone(), broker.clone(), exposition, requests));

    let http_stop = CancellationToken::new();
    let mut http = JoinSet::new();
    let address = listener.local_addr()?;
    info!(%address, broker = config.broker.display(), "the daemon listens for HTTP requests");
    {
        let (config, state, stop) = (config.clone(), state.clone(), http_stop.clone());
        let ticket_key = broker.secret_key("tickets of streams");
        http.spawn(async move { trunkline_http::serve(listener, &config.http, state, ticket_key, stop).await });
    }
    let mut upkeep = JoinSet::new();
    upkeep.spawn(keep_up(state.clone()));
    upkeep.spawn(threads::keep_one());
    if let BrokerChoice::Amqp(amqp) = &config.broker {
        upkeep.spawn(poll_queues(state.clone(), amqp.poll));
        upkeep.spawn(former_retry_queues::report(state.clone()));
    }
    let first_config = config.clone();
    upkeep.spawn(async move { former_state_dir::warn_about(&first_config).await });

    let preparer = Preparer::new(start_engine(&config)?.keeping_state(&config.state_dir));
    let mut control = Control::new(sources, state.clone(), broker.clone(), preparer, asked, watch);
    control.run(&mut signals).await;
    info!(
        grace_s = grace.as_secs(),
        "the daemon stops; the routes accept no further deliveries and finish their events"
    );
    state.draining();
    control.routes.drain();
    let end = drain(&mut control.routes, &mut signals, grace).await;
    if end == RunOutcome::Hard {
        return Ok(end);
    }
    http_stop.cancel();
    // Requests for a reload that still wait are refused.
    drop(control);
    let closing = async {
        state.streams_ended().await;
        while http.join_next().await.is_some() {}
        state.publishes_ended().await;
        state.rollouts().save().await;
        broker.close(CLOSE_WITHIN).await;
    };
    tokio::select! {
        () = closing => Ok(end),
        () = signals.stop() => Ok(RunOutcome::Hard),
        () = wait::after(CLOSE_WITHIN * 4) => Ok(RunOutcome::Overdue),
    }
}

async fn drain(routes: &mut Routes, signals: &mut Signals, grace: Duration) -> RunOutcome {
    let deadline = wait::after(grace);
    tokio::pin!(deadline);
    let mut end = RunOutcome::Drained;
    loop {
        tokio::select! {
            biased;
            () = signals.stop() => return RunOutcome::Hard,
            () = &mut deadline, if end == RunOutcome::Drained => {
                warn!("the grace time is over; the broker delivers unfinished messages again");
                routes.leave();
                end = RunOutcome::Overdue;
            }
            more = routes.next_end() => if !more {
                return end;
            },
        }
    }
}

async fn keep_up(state: Arc<DaemonState>) {
    let mut every = wait::every(UPKEEP);
    let rollouts = state.rollouts().clone();
    loop {
        tokio::select! {
            _ = every.tick() => state.upkeep().await,
            () = rollouts.verdict() => rollouts.save().await,
        }
    }
}
