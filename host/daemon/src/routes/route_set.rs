//! The set of running routes.
//!
//! A changed route affects only its own consumer: the old route stops consuming and finishes its events, and then the new
//! route begins. A changed plugin affects no route: the slot that the routes read gets the new plugin.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tracing::{info, warn};

use super::restarts::{DueStep, Restarts};
use crate::reload::Generation;
use trunkline_broker::Broker;
use trunkline_config::{self as config, Config, Handler};
use trunkline_event::{PluginName, RouteName};
use trunkline_plugin_host::CurrentPlugin;
use trunkline_route::archive::RouteArchive;
use trunkline_route::{Handlers, Rollouts, RoutePlugins, RouteRunner, Stop};
use trunkline_telemetry as telemetry;
use trunkline_telemetry::{SeriesOwner, wait};

/// Time for a changed or removed route to finish its events. The broker delivers the others again.
const FINISH_WITHIN: Duration = Duration::from_secs(30);

/// The part of a configuration that a running route uses. A route with another shape has to begin anew.
#[derive(Debug, Clone, PartialEq)]
struct RouteShape {
    route: config::Route,
    queue: Option<config::Queue>,
    out: Option<config::Exchange>,
}

struct RunningRoute {
    stop: Stop,
    shape: RouteShape,
}

/// The routes of the daemon.
pub(crate) struct Routes {
    broker: Broker,
    slots: BTreeMap<PluginName, CurrentPlugin>,
    rollouts: Arc<Rollouts>,
    running: BTreeMap<RouteName, RunningRoute>,
    tasks: JoinSet<()>,
    names: HashMap<Id, RouteName>,
    /// The deadlines of routes that have to end.
    deadlines: JoinSet<()>,
    restarts: Restarts,
    /// Names that have series in `/metrics`.
    exposed: ExposedNames,
}

/// Names that have series in `/metrics`.
#[derive(Default)]
struct ExposedNames {
    routes: BTreeSet<RouteName>,
    plugins: BTreeSet<PluginName>,
}

/// An input of the set of routes: a task that ended, or a step that is due.
pub(crate) enum RouteSetInput {
    /// The task of a route ended.
    Ended(Result<(Id, ()), JoinError>),
    /// A step is due for a route that ended badly.
    Due(DueStep),
}

impl RouteShape {
    fn new(route: &config::Route, config: &Config) -> Self {
        let queue = config.topology.queues.get(&route.queue).cloned();
        Self { queue, out: config.topology.exchanges.get(&route.emit.exchange).cloned(), route: route.clone() }
    }
}

impl Routes {
    pub(crate) fn new(broker: Broker, rollouts: Arc<Rollouts>) -> Self {
        Self {
            broker,
            rollouts,
            slots: BTreeMap::new(),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            names: HashMap::new(),
            deadlines: JoinSet::new(),
            restarts: Restarts::default(),
            exposed: ExposedNames::default(),
        }
    }

    /// The number of running routes, with those that are about to end.
    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Adopts a generation: plugins at once, changed routes when their old tasks have ended. Plugins that no generation uses
    /// are dropped.
    pub(crate) fn adopt(&mut self, generation: &Generation) {
        for (name, installed) in &generation.plugins {
            let Ok(plugin) = &installed.state else { continue };
            plugin.optimise();
            match self.slots.get(name) {
                Some(slot) => slot.replace(plugin.clone()),
                None => _ = self.slots.insert(name.clone(), CurrentPlugin::new(plugin.clone())),
            }
        }
        self.slots.retain(|name, _| generation.plugins.contains_key(name));
        for (name, running) in &self.running {
            let wanted = wanted(generation, name).map(|route| RouteShape::new(route, &generation.config));
            if wanted.as_ref() != Some(&running.shape) && !running.stop.drain.is_cancelled() {
                info!(route = %name, removed = wanted.is_none(), "a route ends, because a reload changed or removed the route");
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
        self.exposed.routes.extend(generation.config.routes.keys().cloned());
        self.exposed.plugins.extend(generation.plugins.keys().cloned());
        self.end_series(generation);
    }

    /// Ends the series of routes and plugins that the generation does not have. A removed route keeps its series until its task has
    /// ended, and its plugin too.
    fn end_series(&mut self, generation: &Generation) {
        let Self { running, exposed, .. } = self;
        exposed.routes.retain(|name| {
            let stays = generation.config.routes.contains_key(name) || running.contains_key(name);
            if !stays {
                telemetry::route_removed(name);
            }
            stays
        });
        let is_draining = running.values().any(|route| route.stop.drain.is_cancelled());
        exposed.plugins.retain(|name| {
            let stays = generation.plugins.contains_key(name) || is_draining;
            if !stays {
                SeriesOwner::Plugin.leaves(name.as_str());
            }
            stays
        });
    }

    /// Starts a route unless it runs. A route that is about to end is started after its end.
    fn start(&mut self, generation: &Generation, name: &RouteName) {
        let Some(settings) = wanted(generation, name).filter(|_| !self.running.contains_key(name)) else { return };
        let Some(handlers) = self.handlers(name, settings) else { return };
        let route = RouteRunner::new(name, &generation.config, handlers, &self.rollouts, self.broker.clone());
        let Some(route) = route else { return };
        let stop = Stop::default();
        let shape = RouteShape::new(settings, &generation.config);
        self.run(name, route.run(stop.clone()), RunningRoute { stop, shape });
    }

    fn run(&mut self, name: &RouteName, route: impl Future<Output = ()> + Send + 'static, running: RunningRoute) {
        let task = self.tasks.spawn(route).id();
        self.names.insert(task, name.clone());
        self.running.insert(name.clone(), running);
        self.restarts.started(name, task);
    }

    fn handlers(&self, name: &RouteName, settings: &config::Route) -> Option<Handlers> {
        let plugin = match &settings.handler {
            Handler::Plugin(plugin) => plugin,
            Handler::Archive(archive) => {
                return Some(Handlers::Archive(RouteArchive::start(name, archive, settings.concurrency)));
            }
        };
        let beside = |plugin: Option<&PluginName>| plugin.and_then(|plugin| self.slots.get(plugin)).cloned();
        Some(Handlers::Plugins(RoutePlugins {
            stable: self.slots.get(plugin).cloned()?,
            canary: beside(settings.canary.as_ref().map(|canary| &canary.plugin)),
            shadow: beside(settings.shadow.as_ref().map(|shadow| &shadow.plugin)),
        }))
    }

    /// The next input. Waits without end while no task ends and no step is due.
    pub(crate) async fn next_input(&mut self) -> RouteSetInput {
        let (tasks, restarts) = (&mut self.tasks, &mut self.restarts);
        let ended = async {
            match tasks.join_next_with_id().await {
                Some(ended) => ended,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = ended => RouteSetInput::Ended(ended),
            due = restarts.next() => RouteSetInput::Due(due),
        }
    }

    /// Handles an input of the set.
    pub(crate) fn handle(&mut self, input: &RouteSetInput, generation: &Generation) {
        match input {
            RouteSetInput::Ended(ended) => self.ended(ended, generation),
            RouteSetInput::Due(DueStep::Start(name)) => self.start(generation, name),
            RouteSetInput::Due(DueStep::Stable(name, task)) => {
                if self.names.get(task) == Some(name) {
                    self.restarts.over(name);
                }
            }
        }
    }

    /// Handles the end of a route: its successor begins, if the generation has one.
    fn ended(&mut self, ended: &Result<(Id, ()), JoinError>, generation: &Generation) {
        let id = match ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let Some(name) = self.names.remove(&id) else { return };
        self.running.remove(&name);
        match ended {
            Ok(_) => self.start(generation, &name),
            // A panic is a bug. The broker delivers the route's messages again.
            Err(error) => {
                warn!(route = %name, %error, "a route panicked; the daemon restarts the route");
                telemetry::route_ended(&name);
                self.restarts.ended_badly(&name, &format!("the route panicked: {error}"));
            }
        }
        self.end_series(generation);
    }

    /// Drains every route: no route takes further deliveries.
    pub(crate) fn drain(&self) {
        self.running.values().for_each(|running| running.stop.drain.cancel());
    }

    /// Ends every route at once. The broker delivers unfinished messages again.
    pub(crate) fn leave(&self) {
        self.running.values().for_each(|running| running.stop.now.cancel());
    }

    /// Waits for the next end of a route. Returns false when no route is left.
    pub(crate) async fn next_end(&mut self) -> bool {
        match self.tasks.join_next().await {
            None => false,
            Some(Ok(())) => true,
            Some(Err(error)) => {
                warn!(%error, "a route panicked while the daemon stopped; the broker delivers the events in progress again; report this bug");
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

    /// One route that writes an archive and needs no plugin.
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
        Generation::before_first(Arc::new(config))
    }

    /// A panic in a route ends its task.
    #[tokio::test]
    async fn a_route_that_ends_badly_is_restarted() {
        let dir = tempfile::tempdir().expect("a directory");
        let generation = generation(dir.path());
        let config = &generation.config;
        let topology = Arc::new(config.topology.clone());
        let broker = Broker::open(&config.broker, topology, &config.state_dir).await.expect("a broker");
        let mut routes = Routes::new(broker.clone(), Arc::new(Rollouts::open(&config.state_dir)));
        let name = RouteName::new("kept").expect("a name");
        let settings = wanted(&generation, &name).expect("a route");
        let running = || RunningRoute { stop: Stop::default(), shape: RouteShape::new(settings, config) };
        routes.run(&name, async { panic!("for the test") }, running());

        let ended = routes.next_input().await;
        assert!(matches!(&ended, RouteSetInput::Ended(Err(error)) if error.is_panic()));
        routes.handle(&ended, &generation);
        assert_eq!(routes.len(), 0);
        assert!(Condition::RouteEnded.is_raised("kept"), "the condition is raised");

        let due = routes.next_input().await;
        assert!(matches!(&due, RouteSetInput::Due(DueStep::Start(due)) if *due == name));
        routes.handle(&due, &generation);
        assert_eq!(routes.len(), 1, "the restarted route runs");
        assert!(Condition::RouteEnded.is_raised("kept"), "the condition lasts until the route is stable");
        let task = *routes.names.keys().next().expect("it runs");
        routes.handle(&RouteSetInput::Due(DueStep::Stable(name.clone(), task)), &generation);
        assert!(!Condition::RouteEnded.is_raised("kept"));

        routes.drain();
        while routes.next_end().await {}
        broker.close(FINISH_WITHIN).await;
    }
}
