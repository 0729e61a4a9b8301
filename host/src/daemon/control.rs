//! The owner of what changes while the daemon runs: one reload is prepared at a time, one waits behind it, and whoever
//! asked gets the result of the one that began after asking.

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
use crate::broker::Broker;
use crate::config::{self, Sources};
use crate::reload::{Generation, Inputs, Preparer, Refused, Watch};
use crate::telemetry;

/// What a broker gets to take bindings away; what is left is tried again in the next session.
const ADOPT_WITHIN: Duration = Duration::from_secs(5);

/// A reload that was prepared, and everybody who waits for it.
struct Prepared {
    by: By,
    began: Instant,
    waiting: Vec<oneshot::Sender<Answer>>,
    /// None: nothing is new. The inputs are those of the new files, even if they were refused.
    result: Result<Option<Generation>, Refused>,
    inputs: Option<Inputs>,
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
    preparing: JoinSet<Prepared>,
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
        Self { sources, state, broker, preparer, routes, requests, watch, preparing: JoinSet::new(), next: None }
    }

    /// Loads the first generation and starts its routes.
    pub(super) async fn start(&mut self) {
        let began = Instant::now();
        let first = Arc::new(self.preparer.first(self.state.generation().config.clone()).await);
        self.routes.adopt(&first);
        self.watch.set(first.inputs());
        telemetry::generation_adopted(first.number, &first.config.digest, "start", began.elapsed());
        self.state.install(first);
    }

    /// Runs until a signal ends the daemon.
    pub(super) async fn run(&mut self, signals: &mut Signals) {
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => break,
                    Signal::Reload => self.ask(By::Signal, None),
                },
                Some(Request { by, reply }) = self.requests.recv() => self.ask(by, reply),
                () = self.watch.changed() => self.ask(By::Watch, None),
                what = self.routes.happens() => self.routes.happened(&what, &self.state.generation()),
                Some(prepared) = self.preparing.join_next(), if !self.preparing.is_empty() => match prepared {
                    Ok(prepared) => self.prepared(prepared).await,
                    Err(error) => tracing::error!(%error, "preparing a generation panicked; report this"),
                },
            }
            self.begin();
        }
        self.preparing.abort_all();
        let stopping = || Err(Refused::because("the daemon stops"));
        for reply in self.next.take().map(|(_, waiting)| waiting).unwrap_or_default() {
            let _nobody_waits = reply.send(stopping());
        }
    }

    /// Notes a wish; all that come while one is prepared become one.
    fn ask(&mut self, by: By, reply: Option<oneshot::Sender<Answer>>) {
        let (_, waiting) = self.next.get_or_insert_with(|| (by, Vec::new()));
        waiting.extend(reply);
    }

    /// Begins the reload that waits, unless one runs.
    fn begin(&mut self) {
        if !self.preparing.is_empty() {
            return;
        }
        let Some((by, waiting)) = self.next.take() else { return };
        let (sources, broker) = (self.sources.clone(), self.broker.clone());
        let (preparer, before) = (self.preparer.clone(), self.state.generation());
        self.preparing.spawn(async move {
            let began = Instant::now();
            let (result, inputs) = prepare(&sources, &broker, &preparer, &before).await;
            Prepared { by, began, waiting, result, inputs }
        });
    }

    async fn prepared(&mut self, prepared: Prepared) {
        let Prepared { by, began, waiting, result, inputs } = prepared;
        let before = self.state.generation();
        if let Some(inputs) = inputs {
            self.watch.set(inputs);
        }
        let answer = match result {
            Ok(None) => {
                telemetry::reload_unchanged(before.number, by.as_str());
                Ok((before.clone(), false))
            }
            Ok(Some(next)) => Ok((self.swap(&before, Arc::new(next), by, began).await, true)),
            Err(refused) => {
                telemetry::reload_refused(before.number, by.as_str(), &refused.to_string());
                Err(refused)
            }
        };
        self.state.reloaded(by, &answer);
        for reply in waiting {
            let _nobody_waits = reply.send(answer.clone());
        }
    }

    async fn swap(
        &mut self,
        before: &Arc<Generation>,
        next: Arc<Generation>,
        by: By,
        began: Instant,
    ) -> Arc<Generation> {
        if before.config.topology != next.config.topology {
            let adopting = self.broker.adopt(Arc::new(next.config.topology.clone()));
            if tokio::time::timeout(ADOPT_WITHIN, adopting).await.is_err() {
                tracing::warn!("the broker takes long to take old bindings away; they may still be there");
            }
        }
        self.preparer.retire(before, &next);
        self.routes.adopt(&next);
        for plugin in next.changed_plugins(before) {
            info!(%plugin, digest = next.digest(&plugin), "plugin replaced");
        }
        if before.config.digest != next.config.digest {
            telemetry::generation_left(&before.config.digest);
        }
        telemetry::generation_adopted(next.number, &next.config.digest, by.as_str(), began.elapsed());
        self.state.install(next.clone());
        next
    }
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
    let result = match broker.prepare(&topology).await {
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
