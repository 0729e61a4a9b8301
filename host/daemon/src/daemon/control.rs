//! The owner of what changes while the daemon runs: one reload is prepared at a time, one waits behind it, and whoever
//! asked gets the result of the one that began after asking.
//!
//! The loop only takes in what happened. Whatever takes time, loading, compiling, a broker that does not answer, is a step
//! beside it, so that a signal is heard at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::info;

use super::Signals;
use super::backend::State;
use super::request::{Answer, By, Request};
use super::routes::Routes;
use super::signals::Signal;
use crate::reload::{Generation, Inputs, Preparer, Refused, Watch};
use trunkline_broker::Broker;
use trunkline_config::{self as config, Sources};
use trunkline_telemetry::wait;
use trunkline_telemetry::{self as telemetry, Condition};

/// What a broker gets to take bindings away; what is left is tried again in the next session.
const ADOPT_WITHIN: Duration = Duration::from_secs(5);
/// A broker or a store that takes longer for its part of a reload is told.
const SLOW: Duration = Duration::from_secs(3);

/// A reload that was prepared, and everybody who waits for it.
struct Prepared {
    by: By,
    began: Instant,
    waiting: Vec<oneshot::Sender<Answer>>,
    /// None: nothing is new. The inputs are those of the new files, even if they were refused.
    result: Result<Option<Generation>, Refused>,
    inputs: Option<Inputs>,
}

/// What was done beside the loop.
enum Step {
    /// The first generation is loaded.
    First(Generation, Instant),
    /// A reload is prepared; nothing that runs was touched.
    Prepared(Prepared),
    /// The broker has the topology of a generation, which can be taken over.
    Adopted(Arc<Generation>, Prepared),
}

/// The loop between start and stop.
pub(super) struct Control {
    pub(super) sources: Sources,
    pub(super) state: Arc<State>,
    pub(super) broker: Broker,
    pub(super) preparer: Arc<Preparer>,
    pub(super) routes: Routes,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) watch: Watch,
    /// One at a time.
    steps: JoinSet<Step>,
    next: Option<(By, Vec<oneshot::Sender<Answer>>)>,
}

impl Control {
    pub(super) fn new(
        sources: Sources,
        state: Arc<State>,
        broker: Broker,
        preparer: Preparer,
        requests: mpsc::Receiver<Request>,
        watch: Watch,
    ) -> Self {
        let routes = Routes::new(broker.clone(), state.rollouts());
        let preparer = Arc::new(preparer);
        Self { sources, state, broker, preparer, routes, requests, watch, steps: JoinSet::new(), next: None }
    }

    /// Loads the first generation, starts its routes, and runs until a signal ends the daemon.
    pub(super) async fn run(&mut self, signals: &mut Signals) {
        let (preparer, config) = (self.preparer.clone(), self.state.generation().config.clone());
        self.steps.spawn(async move {
            let began = Instant::now();
            Step::First(preparer.first(config).await, began)
        });
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => break,
                    Signal::Reload => self.ask(By::Signal, None),
                },
                Some(Request { by, reply }) = self.requests.recv() => self.ask(by, reply),
                () = self.watch.changed() => self.ask(By::Watch, None),
                what = self.routes.happens() => self.routes.happened(&what, &self.state.generation()),
                Some(step) = self.steps.join_next(), if !self.steps.is_empty() => match step {
                    Ok(Step::First(first, began)) => self.first(first, began),
                    Ok(Step::Prepared(prepared)) => self.prepared(prepared),
                    Ok(Step::Adopted(next, prepared)) => self.adopted(next, prepared),
                    Err(error) => tracing::error!(%error, "preparing a generation panicked; report this"),
                },
            }
            self.begin();
        }
        self.steps.abort_all();
        let stopping = || Err(Refused::because("the daemon stops"));
        for reply in self.next.take().map(|(_, waiting)| waiting).unwrap_or_default() {
            let _nobody_waits = reply.send(stopping());
        }
    }

    fn first(&mut self, first: Generation, began: Instant) {
        let first = Arc::new(first);
        self.routes.adopt(&first);
        self.watch.set(first.inputs());
        telemetry::generation_adopted(first.number, &first.config.digest, "start", began.elapsed());
        self.state.install(first);
        self.state.started();
        info!(routes = self.routes.len(), "started");
    }

    /// Notes a wish; all that come while one is prepared become one.
    fn ask(&mut self, by: By, reply: Option<oneshot::Sender<Answer>>) {
        let (_, waiting) = self.next.get_or_insert_with(|| (by, Vec::new()));
        waiting.extend(reply);
    }

    /// Begins the reload that waits, unless one runs.
    fn begin(&mut self) {
        if !self.steps.is_empty() {
            return;
        }
        let Some((by, waiting)) = self.next.take() else { return };
        let (sources, broker) = (self.sources.clone(), self.broker.clone());
        let (preparer, before) = (self.preparer.clone(), self.state.generation());
        self.steps.spawn(async move {
            let began = Instant::now();
            let (result, inputs) = prepare(&sources, &broker, &preparer, &before).await;
            Step::Prepared(Prepared { by, began, waiting, result, inputs })
        });
    }

    fn prepared(&mut self, mut prepared: Prepared) {
        let before = self.state.generation();
        if let Some(inputs) = prepared.inputs.take() {
            self.watch.set(inputs);
        }
        match std::mem::replace(&mut prepared.result, Ok(None)) {
            Ok(None) => {
                telemetry::reload_unchanged(before.number, prepared.by.as_str());
                self.answer(prepared, &Ok((before, false)));
            }
            Ok(Some(next)) if next.config.topology != before.config.topology => self.adopt(Arc::new(next), prepared),
            Ok(Some(next)) => self.adopted(Arc::new(next), prepared),
            Err(refused) => {
                telemetry::reload_refused(before.number, prepared.by.as_str(), &refused.to_string());
                self.answer(prepared, &Err(refused));
            }
        }
    }

    /// Gives the broker another topology, beside the loop.
    fn adopt(&mut self, next: Arc<Generation>, prepared: Prepared) {
        let broker = self.broker.clone();
        self.steps.spawn(async move {
            let adopting = broker.adopt(Arc::new(next.config.topology.clone()));
            let adopting = told_when_slow("the broker takes old bindings away", adopting);
            if tokio::time::timeout(ADOPT_WITHIN, adopting).await.is_err() {
                tracing::warn!("the broker takes long to take old bindings away; they may still be there");
            }
            Condition::ReloadSlow.clear("");
            Step::Adopted(next, prepared)
        });
    }

    /// Takes a generation over: plugins at once, routes as they come free.
    fn adopted(&mut self, next: Arc<Generation>, prepared: Prepared) {
        let before = self.state.generation();
        self.preparer.retire(&before, &next);
        self.routes.adopt(&next);
        for plugin in next.changed_plugins(&before) {
            info!(%plugin, digest = next.digest(&plugin), "plugin replaced");
        }
        if before.config.digest != next.config.digest {
            telemetry::generation_left(&before.config.digest);
        }
        let took = prepared.began.elapsed();
        telemetry::generation_adopted(next.number, &next.config.digest, prepared.by.as_str(), took);
        self.state.install(next.clone());
        self.answer(prepared, &Ok((next, true)));
    }

    fn answer(&self, prepared: Prepared, answer: &Answer) {
        self.state.reloaded(prepared.by, answer);
        for reply in prepared.waiting {
            let _nobody_waits = reply.send(answer.clone());
        }
    }
}

/// Does a part of a reload, and shows when it takes long.
async fn told_when_slow<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = wait::after(SLOW) => {}
    }
    Condition::ReloadSlow.raise("", format!("a reload waits: {what}"));
    let done = work.await;
    Condition::ReloadSlow.clear("");
    done
}

/// Everything that can fail, before anything that runs is touched.
async fn prepare(
    sources: &Sources,
    broker: &Broker,
    preparer: &Preparer,
    before: &Generation,
) -> (Result<Option<Generation>, Refused>, Option<Inputs>) {
    let read = {
        let sources = sources.clone();
        tokio::task::spawn_blocking(move || config::load(&sources)).await
    };
    let config = match read {
        Ok(Ok(loaded)) => loaded.config,
        Ok(Err(rejected)) => {
            // The files that are wrong now, and the plugins of what runs.
            let inputs = Inputs::of(&before.config).and(rejected.files.iter().cloned());
            return (Err(Refused::by_config(rejected)), Some(inputs));
        }
        Err(error) => return (Err(Refused::because(format!("reading the files panicked: {error}"))), None),
    };
    let inputs = Some(Inputs::of(&config));
    let next = match preparer.next(before, config).await {
        Ok(Some(next)) => next,
        Ok(None) => return (Ok(None), inputs),
        Err(refused) => return (Err(refused), inputs),
    };
    let topology = Arc::new(next.config.topology.clone());
    let result = match told_when_slow("the broker makes what is new", broker.prepare(&topology)).await {
        Ok(refusals) if refusals.is_empty() => Ok(Some(next)),
        Ok(refusals) => Err(Refused::because(refusals.join("; "))),
        // A broker that is away is no reason to refuse: the next session declares what is adopted now.
        Err(error) => {
            info!(%error, "the topology is declared when the broker is back");
            Ok(Some(next))
        }
    };
    (result, inputs)
}
