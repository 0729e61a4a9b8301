//! The loop that owns every change of the running daemon. One reload is prepared at a time and one waits. A request gets the
//! result of a reload that began after the request.
//!
//! The loop only receives. Work that takes time, such as compiling or waiting for the broker, runs in a task beside it. A
//! signal is therefore handled at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tracing::info;

use super::reload_request::{AdoptedGeneration, ReloadReply, ReloadRequest, ReloadTrigger};
use super::signals::{Signal, Signals};
use super::state::DaemonState;
use crate::reload::{Generation, Inputs, Preparer, RefusedReload, Watch};
use crate::routes::Routes;
use trunkline_broker::Broker;
use trunkline_config::{self as config, Config, Sources};
use trunkline_telemetry::wait;
use trunkline_telemetry::{self as telemetry, Condition};

/// Time for the broker to remove bindings. Bindings that are left are removed in the next session.
const ADOPT_WITHIN: Duration = Duration::from_secs(5);
/// Time after which a reload that waits for the broker raises a condition.
const SLOW_AFTER: Duration = Duration::from_secs(3);

/// A prepared reload.
struct PreparedReload {
    began: Instant,
    /// `None` when nothing changed.
    result: Result<Option<Generation>, RefusedReload>,
    /// The inputs of the new files, also when the reload was refused.
    inputs: Option<Inputs>,
}

/// The result of a task beside the loop.
enum ReloadStep {
    /// The first generation is loaded.
    First(Generation, Instant),
    /// A reload is prepared. The running routes and plugins are unchanged.
    Prepared(PreparedReload),
    /// The broker has the topology of the generation, which can be adopted.
    Adopted(Arc<Generation>, PreparedReload),
}

/// A requested reload, and the clients that wait for its result.
struct RequestedReload {
    trigger: ReloadTrigger,
    waiting: Vec<oneshot::Sender<ReloadReply>>,
}

/// The loop between start and stop.
pub(super) struct Control {
    pub(super) sources: Sources,
    pub(super) state: Arc<DaemonState>,
    pub(super) broker: Broker,
    pub(super) preparer: Arc<Preparer>,
    pub(super) routes: Routes,
    pub(super) requests: mpsc::Receiver<ReloadRequest>,
    pub(super) watch: Watch,
    /// At most one step at a time.
    steps: JoinSet<ReloadStep>,
    /// The requests of the reload in work.
    in_work: Option<RequestedReload>,
    /// The requests of the reload that waits.
    next: Option<RequestedReload>,
}

impl Control {
    pub(super) fn new(
        sources: Sources,
        state: Arc<DaemonState>,
        broker: Broker,
        preparer: Preparer,
        requests: mpsc::Receiver<ReloadRequest>,
        watch: Watch,
    ) -> Self {
        let routes = Routes::new(broker.clone(), state.rollouts().clone());
        let preparer = Arc::new(preparer);
        Self {
            sources,
            state,
            broker,
            preparer,
            routes,
            requests,
            watch,
            steps: JoinSet::new(),
            in_work: None,
            next: None,
        }
    }

    /// Loads the first generation, starts its routes, and runs until a signal ends the daemon.
    pub(super) async fn run(&mut self, signals: &mut Signals) {
        let (preparer, config) = (self.preparer.clone(), self.state.generation().config.clone());
        self.steps.spawn(async move {
            let began = Instant::now();
            ReloadStep::First(preparer.first(config).await, began)
        });
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => break,
                    Signal::Reload => self.request(ReloadTrigger::Signal, None),
                },
                Some(ReloadRequest { trigger, reply }) = self.requests.recv() => self.request(trigger, reply),
                () = self.watch.changed() => self.request(ReloadTrigger::Watch, None),
                input = self.routes.next_input() => {
                    self.routes.handle(&input, &self.state.generation());
                }
                Some(step) = self.steps.join_next(), if !self.steps.is_empty() => match step {
                    Ok(ReloadStep::First(first, began)) => self.first(first, began),
                    Ok(ReloadStep::Prepared(prepared)) => self.prepared(prepared),
                    Ok(ReloadStep::Adopted(next, prepared)) => self.adopted(next, prepared),
                    Err(error) => self.step_panicked(&error),
                },
            }
            self.begin();
        }
        self.steps.abort_all();
        // Dropping the senders answers the clients of the aborted reload now, before the drain.
        self.in_work = None;
        let stopping = || Err(RefusedReload::because("the daemon is stopping"));
        for reply in self.next.take().map(|next| next.waiting).unwrap_or_default() {
            let _disconnected = reply.send(stopping());
        }
    }

    fn first(&mut self, first: Generation, began: Instant) {
        let first = Arc::new(first);
        self.routes.adopt(&first);
        expose_hooks(None, &first.config);
        self.watch.set(first.inputs());
        telemetry::generation_adopted(first.number, &first.config.digest, "start", began.elapsed());
        self.state.install(first);
        info!(routes = self.routes.len(), "the daemon started");
    }

    /// Notes a request. All requests that come while a reload is prepared become one reload.
    fn request(&mut self, trigger: ReloadTrigger, reply: Option<oneshot::Sender<ReloadReply>>) {
        let next = self.next.get_or_insert_with(|| RequestedReload { trigger, waiting: Vec::new() });
        next.waiting.extend(reply);
    }

    /// Begins the reload that waits, unless one runs.
    fn begin(&mut self) {
        if !self.steps.is_empty() {
            return;
        }
        let Some(requested) = self.next.take() else { return };
        self.in_work = Some(requested);
        let (sources, broker) = (self.sources.clone(), self.broker.clone());
        let (preparer, before) = (self.preparer.clone(), self.state.generation());
        self.steps.spawn(async move {
            let began = Instant::now();
            let (result, inputs) = prepare(&sources, &broker, &preparer, &before).await;
            ReloadStep::Prepared(PreparedReload { began, result, inputs })
        });
    }

    fn prepared(&mut self, mut prepared: PreparedReload) {
        let before = self.state.generation();
        if let Some(inputs) = prepared.inputs.take() {
            self.watch.set(inputs);
        }
        match std::mem::replace(&mut prepared.result, Ok(None)) {
            Ok(None) => {
                telemetry::reload_unchanged(before.number, self.trigger());
                self.answer(&Ok(AdoptedGeneration::Unchanged(before)));
            }
            Ok(Some(next)) if next.config.topology != before.config.topology => self.adopt(Arc::new(next), prepared),
            Ok(Some(next)) => self.adopted(Arc::new(next), prepared),
            Err(refused) => {
                telemetry::reload_refused(before.number, self.trigger(), &refused.to_string());
                self.answer(&Err(refused));
            }
        }
    }

    /// Gives the broker the new topology, beside the loop.
    fn adopt(&mut self, next: Arc<Generation>, prepared: PreparedReload) {
        let broker = self.broker.clone();
        self.steps.spawn(async move {
            let adopting = broker.adopt(Arc::new(next.config.topology.clone()));
            let adopting = raise_when_slow("the broker has not removed the old bindings yet", adopting);
            if tokio::time::timeout(ADOPT_WITHIN, adopting).await.is_err() {
                tracing::warn!("the broker did not remove old bindings in time; queues may still receive the events of these bindings");
            }
            ReloadStep::Adopted(next, prepared)
        });
    }

    /// Adopts a generation: plugins at once, changed routes when their old tasks have ended.
    fn adopted(&mut self, next: Arc<Generation>, prepared: PreparedReload) {
        let before = self.state.generation();
        self.preparer.retire(&before, &next);
        self.routes.adopt(&next);
        expose_hooks(Some(&before.config), &next.config);
        for plugin in next.changed_plugins(&before) {
            info!(%plugin, digest = next.digest(&plugin), "a route uses a new file of its plugin");
        }
        let took = prepared.began.elapsed();
        telemetry::generation_adopted(next.number, &next.config.digest, self.trigger(), took);
        self.state.install(next.clone());
        self.answer(&Ok(AdoptedGeneration::Swapped(next)));
    }

    /// A panic is a bug. The reload is refused, and the running generation stays.
    fn step_panicked(&mut self, error: &JoinError) {
        tracing::error!(%error, "the preparation of a generation panicked; the running generation stays; report this bug");
        if self.in_work.is_some() {
            let refused =
                RefusedReload::because(format!("the preparation of a generation panicked: {error}; report this bug"));
            telemetry::reload_refused(self.state.generation().number, self.trigger(), &refused.to_string());
            self.answer(&Err(refused));
        }
    }

    /// The origin of the reload in work.
    fn trigger(&self) -> &'static str {
        self.in_work.as_ref().map_or("start", |requested| requested.trigger.as_str())
    }

    /// Sends the result to the clients of the reload in work.
    fn answer(&mut self, result: &ReloadReply) {
        let Some(RequestedReload { trigger, waiting }) = self.in_work.take() else { return };
        self.state.reloaded(trigger, result);
        for reply in waiting {
            let _disconnected = reply.send(result.clone());
        }
    }
}

/// Begins the series of hooks, and ends the series of removed hooks.
fn expose_hooks(before: Option<&Config>, now: &Config) {
    for old in before.into_iter().flat_map(|before| before.hooks.values()) {
        if !now.hooks.contains_key(&old.name) {
            telemetry::hook_removed(&old.name);
        }
        if now.hooks.values().all(|hook| hook.path != old.path) {
            telemetry::hook_path_removed(&old.path);
        }
    }
    for hook in now.hooks.values() {
        telemetry::hook_added(&hook.name, &hook.path);
    }
}

/// The condition of a slow reload. It ends with the value, also when a task panics or is aborted.
struct SlowReload;

impl SlowReload {
    fn raise(what: &str) -> Self {
        Condition::ReloadSlow.raise("", format!("a reload waits, because {what}"));
        Self
    }
}

impl Drop for SlowReload {
    fn drop(&mut self) {
        Condition::ReloadSlow.clear("");
    }
}

/// Does a part of a reload. Raises a condition while the part takes long.
async fn raise_when_slow<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = wait::after(SLOW_AFTER) => {}
    }
    let _slow = SlowReload::raise(what);
    work.await
}

/// Does everything that can fail. The running routes and plugins are unchanged.
async fn prepare(
    sources: &Sources,
    broker: &Broker,
    preparer: &Preparer,
    before: &Generation,
) -> (Result<Option<Generation>, RefusedReload>, Option<Inputs>) {
    let read = {
        let sources = sources.clone();
        tokio::task::spawn_blocking(move || config::load(&sources)).await
    };
    let config = match read {
        Ok(Ok(loaded)) => loaded.config,
        Ok(Err(rejected)) => {
            // The files of the rejected configuration, and the plugins of the running one.
            let inputs = Inputs::of(&before.config).and(rejected.files.iter().cloned());
            return (Err(RefusedReload::by_config(rejected)), Some(inputs));
        }
        Err(error) => {
            return (
                Err(RefusedReload::because(format!("the reading of the files panicked: {error}; report this bug"))),
                None,
            );
        }
    };
    let inputs = Some(Inputs::of(&config));
    let next = match preparer.next(before, config).await {
        Ok(Some(next)) => next,
        Ok(None) => return (Ok(None), inputs),
        Err(refused) => return (Err(refused), inputs),
    };
    let topology = Arc::new(next.config.topology.clone());
    let result = match raise_when_slow("the broker has not declared the new topology yet", broker.prepare(&topology))
        .await
    {
        Ok(refusals) if refusals.is_empty() => Ok(Some(next)),
        Ok(refusals) => Err(RefusedReload::because(refusals.join("; "))),
        // Without a session the reload is not refused: the next session declares the topology.
        Err(error) => {
            info!(%error, "the new topology is not declared yet; the daemon declares the topology in the next session with the broker");
            Ok(Some(next))
        }
    };
    (result, inputs)
}
