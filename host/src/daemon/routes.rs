//! The running routes: which there should be, which there are, and the way from one to the other.
//!
//! Changing a route touches only its own consumer: it stops taking, finishes what is in work, and the new one begins when
//! it is done. Changing a plugin touches none: the slot that the route reads from gets the new one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tracing::{info, warn};

use crate::archive::Archive;
use crate::broker::Broker;
use crate::config::{self, Config, Handler};
use crate::event::{PluginName, RouteName};
use crate::plugin::Slot;
use crate::reload::Generation;
use crate::route::{Handlers, Plugins, Rollouts, Route, Stop};
use crate::wait;

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
        let task = self.tasks.spawn(route.run(stop.clone()));
        self.names.insert(task.id(), name.clone());
        self.running.insert(name.clone(), Running { stop, shape: Shape::new(settings, &generation.config) });
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

    /// Waits until a route ends; for ever while there is none.
    pub(super) async fn ended(&mut self) -> Result<(Id, ()), JoinError> {
        match self.tasks.join_next_with_id().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// A route ended: its successor begins, if the generation has one.
    pub(super) fn over(&mut self, ended: &Result<(Id, ()), JoinError>, generation: &Arc<Generation>) {
        let id = match ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let Some(name) = self.names.remove(&id) else { return };
        self.running.remove(&name);
        match ended {
            Ok(_) => self.start(generation, &name),
            // Our bug. Starting it again could end in a loop; the next generation does.
            Err(error) => warn!(route = %name, %error, "a route ended badly"),
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
