//! The running routes: which there should be, which there are, and the way from one to the other.
//!
//! Changing a route touches only its own consumer: it stops taking, finishes what is in work, and the new one begins when
//! it is done. Changing a plugin touches none: the slot that the route reads from gets the new one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tracing::{info, warn};

use super::restarts::{Due, Restarts};
use crate::reload::Generation;
use trunkline_broker::Broker;
use trunkline_config::{self as config, Config, Handler};
use trunkline_event::{PluginName, RouteName};
use trunkline_plugin_host::Slot;
use trunkline_route::archive::Archive;
use trunkline_route::{Handlers, Plugins, Rollouts, Route, Stop};
use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait;

/// What a route that is changed or removed gets to finish what is in work; then it is left to the broker.
const FINISH_WITHIN: Duration = Duration::from_secs(30);

/// Everything of a configuration that a running route has taken over; with another one it has to begin anew.
#[derive(Debug, Clone, PartialEq)]
struct Shape {
    route: config::Route,
    queue: Option<config::Queue>,
    out: Option<config::Exchange>,
}

struct Running {
    stop: Stop,
    shape: Shape,
}

/// All routes of a daemon.
pub(super) struct Routes {
    broker: Broker,
    slots: BTreeMap<PluginName, Slot>,
    rollouts: Arc<Rollouts>,
    running: BTreeMap<RouteName, Running>,
    tasks: JoinSet<()>,
    names: HashMap<Id, RouteName>,
    /// Ends of routes that have to go.
    deadlines: JoinSet<()>,
    restarts: Restarts,
}

/// What happened to the routes.
pub(super) enum Happened {
    /// A task ended.
    Ended(Result<(Id, ()), JoinError>),
    /// Something is due for a route that ended badly.
    Due(Due),
}

impl Shape {
    fn new(route: &config::Route, config: &Config) -> Self {
        let queue = config.topology.queues.get(&route.queue).cloned();
        Self { queue, out: config.topology.exchanges.get(&route.emit.exchange).cloned(), route: route.clone() }
    }
}

impl Routes {
    pub(super) fn new(broker: Broker, rollouts: Arc<Rollouts>) -> Self {
        Self {
            broker,
            rollouts,
            slots: BTreeMap::new(),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            names: HashMap::new(),
            deadlines: JoinSet::new(),
            restarts: Restarts::default(),
        }
    }

    /// How many run, those that are about to end too.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Goes over to a generation: plugins at once, routes as they come free.
    pub(super) fn adopt(&mut self, generation: &Generation) {
        for (name, installed) in &generation.plugins {
            let Ok(plugin) = &installed.state else { continue };
            match self.slots.get(name) {
                Some(slot) => slot.put(plugin.clone()),
                None => _ = self.slots.insert(name.clone(), Slot::new(plugin.clone())),
            }
        }
        for (name, running) in &self.running {
            let wanted = wanted(generation, name).map(|route| Shape::new(route, &generation.config));
            if wanted.as_ref() != Some(&running.shape) && !running.stop.drain.is_cancelled() {
                info!(route = %name, removed = wanted.is_none(), "route ends: it was changed");
                running.stop.drain.cancel();
                let now = running.stop.now.clone();
                self.deadlines.spawn(async move {
                    wait::after(FINISH_WITHIN).await;
                    now.cancel();
                });
            }
        }
        while self.deadlines.try_join_next().is_some() {}
        self.restarts.retain(|name| wanted(generation, name).is_some());
        for name in generation.config.routes.keys() {
            self.start(generation, name);
        }
    }

    /// Starts a route unless it runs; one that is about to end is started when it has.
    fn start(&mut self, generation: &Generation, name: &RouteName) {
        let Some(settings) = wanted(generation, name).filter(|_| !self.running.contains_key(name)) else { return };
        let Some(handlers) = self.handlers(name, settings) else { return };
        let route = Route::new(name, &generation.config, handlers, &self.rollouts, self.broker.clone());
        let Some(route) = route else { return };
        let stop = Stop::default();
        let shape = Shape::new(settings, &generation.config);
        self.run(name, route.run(stop.clone()), Running { stop, shape });
    }

    fn run(&mut self, name: &RouteName, route: impl Future<Output = ()> + Send + 'static, running: Running) {
        let task = self.tasks.spawn(route).id();
        self.names.insert(task, name.clone());
        self.running.insert(name.clone(), running);
        self.restarts.started(name, task);
    }

    fn handlers(&self, name: &RouteName, settings: &config::Route) -> Option<Handlers> {
        let plugin = match &settings.handler {
            Handler::Plugin(plugin) => plugin,
            Handler::Archive(archive) => {
                return Some(Handlers::Archive(Archive::start(name, archive, settings.concurrency)));
            }
        };
        let beside = |plugin: Option<&PluginName>| plugin.and_then(|plugin| self.slots.get(plugin)).cloned();
        Some(Handlers::Plugins(Plugins {
            stable: self.slots.get(plugin).cloned()?,
            canary: beside(settings.canary.as_ref().map(|canary| &canary.plugin)),
            shadow: beside(settings.shadow.as_ref().map(|shadow| &shadow.plugin)),
        }))
    }

    /// Waits until a route ends, or is to be started again; for ever while neither can be.
    pub(super) async fn happens(&mut self) -> Happened {
        let (tasks, restarts) = (&mut self.tasks, &mut self.restarts);
        let ended = async {
            match tasks.join_next_with_id().await {
                Some(ended) => ended,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = ended => Happened::Ended(ended),
            due = restarts.next() => Happened::Due(due),
        }
    }

    /// Takes in what happened.
    pub(super) fn happened(&mut self, what: &Happened, generation: &Generation) {
        match what {
            Happened::Ended(ended) => self.ended(ended, generation),
            Happened::Due(Due::Start(name)) => self.start(generation, name),
            Happened::Due(Due::Well(name, task)) => {
                if self.names.get(task) == Some(name) {
                    self.restarts.over(name);
                }
            }
        }
    }

    /// A route ended: its successor begins, if the generation has one.
    fn ended(&mut self, ended: &Result<(Id, ()), JoinError>, generation: &Generation) {
        let id = match ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let Some(name) = self.names.remove(&id) else { return };
        self.running.remove(&name);
        match ended {
            Ok(_) => self.start(generation, &name),
            // A bug of ours: whatever it holds comes again from the broker.
            Err(error) => {
                warn!(route = %name, %error, "a route ended badly; it is started again");
                telemetry::route_ended(&name);
                self.restarts.ended_badly(&name, &format!("the route ended badly: {error}"));
            }
        }
    }

    /// Nothing new is taken from here on.
    pub(super) fn drain(&self) {
        self.running.values().for_each(|running| running.stop.drain.cancel());
    }

    /// What is unfinished is left to the broker.
    pub(super) fn leave(&self) {
        self.running.values().for_each(|running| running.stop.now.cancel());
    }

    /// Waits for the next end of a route; false when there is none left.
    pub(super) async fn next_end(&mut self) -> bool {
        match self.tasks.join_next().await {
            None => false,
            Some(Ok(())) => true,
            Some(Err(error)) => {
                warn!(%error, "a route ended badly");
                true
            }
        }
    }
}

/// The settings of a route that can run.
fn wanted<'g>(generation: &'g Generation, name: &RouteName) -> Option<&'g config::Route> {
    let route = generation.config.routes.get(name)?;
    if let Some(plugin) = route.plugin() {
        generation.plugins.get(plugin)?.state.as_ref().ok()?;
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_telemetry::Condition;

    /// One route, which writes an archive and so needs no plugin.
    fn generation(dir: &std::path::Path) -> Generation {
        let file = dir.join("routes.toml");
        let text = format!(
            "[defaults]\nexchange = {{ name = \"events\", type = \"topic\" }}\n[routes.kept]\nfrom = \"in\"\narchive = {{ dir = {:?} }}\n",
            dir.join("archive").display().to_string()
        );
        std::fs::write(&file, text).expect("a file");
        let sources = config::Sources {
            file,
            environment: BTreeMap::new(),
            broker_url: None,
            listen: None,
            state_dir: Some(dir.join("state")),
            insecure: false,
        };
        let config = config::load(&sources).unwrap_or_else(|rejected| panic!("{}", rejected.render(false))).config;
        Generation::none(Arc::new(config))
    }

    /// A bug anywhere in a route is a panic of its task.
    #[tokio::test]
    async fn a_route_that_ends_badly_is_seen_and_started_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let generation = generation(dir.path());
        let config = &generation.config;
        let topology = Arc::new(config.topology.clone());
        let broker = Broker::open(&config.broker, topology, &config.state_dir).await.expect("a broker");
        let mut routes = Routes::new(broker.clone(), Arc::new(Rollouts::open(&config.state_dir)));
        let name = RouteName::new("kept").expect("a name");
        let settings = wanted(&generation, &name).expect("a route");
        let running = || Running { stop: Stop::default(), shape: Shape::new(settings, config) };
        routes.run(&name, async { panic!("for the test") }, running());

        let ended = routes.happens().await;
        assert!(matches!(&ended, Happened::Ended(Err(error)) if error.is_panic()));
        routes.happened(&ended, &generation);
        assert_eq!(routes.len(), 0);
        assert!(Condition::RouteEnded.is_raised("kept"), "an operator sees it");

        let due = routes.happens().await;
        assert!(matches!(&due, Happened::Due(Due::Start(due)) if *due == name));
        routes.happened(&due, &generation);
        assert_eq!(routes.len(), 1, "the real one runs");
        assert!(Condition::RouteEnded.is_raised("kept"), "until it has run for a while");
        let task = *routes.names.keys().next().expect("it runs");
        routes.happened(&Happened::Due(Due::Well(name.clone(), task)), &generation);
        assert!(!Condition::RouteEnded.is_raised("kept"));

        routes.drain();
        while routes.next_end().await {}
        broker.close(FINISH_WITHIN).await;
    }
}
