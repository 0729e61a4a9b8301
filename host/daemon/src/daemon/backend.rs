//! What the listener sees of the daemon.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use super::publish::{self, Claims, Publisher};
use super::request::{Answer, By, Request};
use super::statistics;
use super::streams::Streams;
use crate::reload::{Generation, Installed};
use trunkline_broker::{Broker, Status};
use trunkline_config::{self as config, Config, Hook};
use trunkline_event::{PluginName, RouteName};
use trunkline_http::{
    Accepted, Backend, Boxed, BrokerHealth, ConditionView, EventTypeView, Health, Problem, PublishRequest, RouteHealth,
};
use trunkline_http::{
    GenerationView, PluginView, QueuesView, Received, ReloadView, Reloaded, RolloutOrder, RolloutView,
};
use trunkline_http::{Items, StreamRequest};
use trunkline_route::{Phase, Rollouts, Trial};
use trunkline_telemetry::{self as telemetry, Condition, Exposition, RaisedCondition, raised_conditions};

const STARTING: u8 = 0;
const RUNNING: u8 = 1;
const DRAINING: u8 = 2;
/// Conditions whose subject is a route.
const OF_ROUTES: [Condition; 3] = [Condition::RouteEnded, Condition::RouteDown, Condition::RouteStuck];

pub(super) struct State {
    generation: ArcSwap<Generation>,
    requests: mpsc::Sender<Request>,
    reloads: Mutex<Reloads>,
    rollouts: Arc<Rollouts>,
    broker: Broker,
    claims: Claims,
    status: watch::Receiver<Status>,
    exposition: Exposition,
    streams: Arc<Streams>,
    phase: AtomicU8,
}

/// What became of reloads.
#[derive(Default)]
struct Reloads {
    last: Option<ReloadView>,
    refused: Option<ReloadView>,
}

impl State {
    pub(super) fn new(
        config: Arc<Config>,
        broker: Broker,
        exposition: Exposition,
        requests: mpsc::Sender<Request>,
    ) -> Self {
        Self {
            rollouts: Arc::new(Rollouts::open(&config.state_dir)),
            generation: ArcSwap::from_pointee(Generation::none(config)),
            requests,
            reloads: Mutex::default(),
            status: broker.status(),
            broker,
            claims: Claims::default(),
            exposition,
            streams: Arc::new(Streams::new()),
            phase: AtomicU8::new(STARTING),
        }
    }

    pub(super) fn started(&self) {
        self.phase.store(RUNNING, Ordering::Relaxed);
    }

    /// From here on the daemon only finishes: clients of streams go elsewhere.
    pub(super) fn draining(&self) {
        self.phase.store(DRAINING, Ordering::Relaxed);
        self.streams.stop();
    }

    /// Returns when no stream holds anything of the broker's any more.
    pub(super) async fn streams_ended(&self) {
        self.streams.ended().await;
    }

    /// What runs.
    pub(super) fn generation(&self) -> Arc<Generation> {
        self.generation.load_full()
    }

    pub(super) fn install(&self, generation: Arc<Generation>) {
        self.generation.store(generation);
    }

    /// The trials of canaries.
    pub(super) fn rollouts(&self) -> Arc<Rollouts> {
        self.rollouts.clone()
    }

    /// Remembers how a reload ended.
    pub(super) fn reloaded(&self, by: By, answer: &Answer) {
        let (result, errors) = match answer {
            Ok((_, true)) => ("swapped", Vec::new()),
            Ok((_, false)) => ("unchanged", Vec::new()),
            Err(refused) => ("refused", refused.faults.iter().map(|fault| serde_json::json!(fault)).collect()),
        };
        let at = jiff::Timestamp::now().to_string();
        let view = ReloadView { at, by: by.as_str(), result, errors };
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        if answer.is_err() {
            reloads.refused = Some(view.clone());
        }
        reloads.last = Some(view);
    }

    pub(super) async fn upkeep(&self) {
        self.exposition.upkeep();
        self.rollouts.save().await;
        self.broker.expire_taps().await;
    }

    /// Every route; what is wrong with one is its plugin, or the first condition that names it.
    fn routes(&self, raised: &[ConditionView]) -> BTreeMap<String, RouteHealth> {
        let generation = self.generation.load();
        let health = |plugin: &PluginName| {
            let (digest, error) = match generation.plugins.get(plugin).map(|installed| &installed.state) {
                Some(Ok(ready)) => (Some(ready.digest.to_string()), None),
                Some(Err(error)) => (None, Some(error.clone())),
                None => (None, Some("its plugin is being loaded".to_owned())),
            };
            RouteHealth { plugin: plugin.to_string(), digest, error }
        };
        let routes = generation.config.routes.iter();
        let health = |route: &config::Route| match route.plugin() {
            Some(plugin) => health(plugin),
            None => RouteHealth { plugin: route.runs().to_owned(), digest: None, error: None },
        };
        let with_conditions = |(name, route): (&RouteName, &config::Route)| {
            let RouteHealth { plugin, digest, error } = health(route);
            let of_route = |raised: &&ConditionView| {
                raised.subject == name.as_str() && OF_ROUTES.iter().any(|kind| kind.as_str() == raised.condition)
            };
            let error = error.or_else(|| raised.iter().find(of_route).map(|raised| raised.detail.clone()));
            (name.to_string(), RouteHealth { plugin, digest, error })
        };
        routes.map(with_conditions).collect()
    }

    /// Waits for events that come in and are not confirmed yet.
    pub(super) async fn finish(&self) {
        self.claims.finish().await;
    }

    fn publisher<'a>(&'a self, config: &'a Config) -> Publisher<'a> {
        Publisher { config, broker: &self.broker, claims: &self.claims }
    }

    /// Ends a trial; what it came to is on disk when it returns.
    async fn ordered(&self, route: &str, order: RolloutOrder) -> Result<RolloutView, Problem> {
        let none = || Problem::not_found_because(format!("route {route:?} has no canary, or it got no event yet"));
        let name = RouteName::new(route).map_err(|_| none())?;
        let (phase, reason) = match order {
            RolloutOrder::Promote => (Phase::Promoted, "by order"),
            RolloutOrder::Abort => (Phase::RolledBack, "by order"),
        };
        let is_known = Backend::rollouts(self).iter().any(|known| known.route == route);
        if !is_known || self.rollouts.order(&name, phase, reason).is_none() {
            return Err(none());
        }
        self.rollouts.save().await;
        Backend::rollouts(self).into_iter().find(|known| known.route == route).ok_or_else(none)
    }

    async fn ask(&self) -> Result<Answer, Problem> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Problem::unavailable("the daemon stops");
        self.requests.send(Request { by: By::Api, reply: Some(reply) }).await.map_err(|_gone| stopping())?;
        answer.await.map_err(|_gone| stopping())
    }
}

fn conditions() -> Vec<ConditionView> {
    let view = |raised: RaisedCondition| ConditionView {
        condition: raised.condition.as_str(),
        subject: raised.subject,
        detail: raised.detail,
        since: raised.since,
    };
    raised_conditions().into_iter().map(view).collect()
}

fn view(generation: &Generation) -> GenerationView {
    let plugin = |installed: &Installed| match &installed.state {
        Ok(ready) => PluginView {
            state: if installed.orphaned { "orphaned" } else { "ready" },
            digest: Some(ready.digest.to_string()),
            version: ready.descriptor.as_ref().map(|descriptor| descriptor.version.clone()),
            error: None,
        },
        Err(error) => PluginView { state: "refused", digest: None, version: None, error: Some(error.clone()) },
    };
    let plugins = generation.plugins.iter().map(|(name, installed)| (name.to_string(), plugin(installed)));
    let routes = generation.config.routes.iter();
    GenerationView {
        number: generation.number,
        since: generation.since.clone(),
        config: generation.config.digest.clone(),
        files: generation.config.files.iter().map(|file| file.display().to_string()).collect(),
        plugins: plugins.collect(),
        routes: routes.map(|(name, route)| (name.to_string(), route.runs().to_owned())).collect(),
        last_reload: None,
        last_refusal: None,
    }
}

impl Backend for State {
    fn publish(&self, request: PublishRequest) -> Boxed<'_, Result<Accepted, Problem>> {
        let generation = self.generation();
        Box::pin(async move { publish::publish(self.publisher(&generation.config), request).await })
    }

    fn hook(&self, path: &str) -> Option<Hook> {
        self.generation.load().config.hooks.values().find(|hook| hook.path == path).cloned()
    }

    fn receive(&self, hook: Hook, received: Received) -> Boxed<'_, Result<Accepted, Problem>> {
        let generation = self.generation();
        Box::pin(async move { publish::receive(self.publisher(&generation.config), hook, received).await })
    }

    fn event_types(&self) -> Vec<EventTypeView> {
        let generation = self.generation();
        let types = generation.config.event_types.iter().map(|(name, known)| EventTypeView {
            r#type: name.clone(),
            key: known.key.as_ref().map_or_else(|| name.clone(), ToString::to_string),
            priority: known.priority,
            description: known.description.clone(),
            schema: known.schema.as_ref().map(|schema| schema.document().clone()),
        });
        types.collect()
    }

    fn queues(&self) -> Boxed<'_, Result<QueuesView, Problem>> {
        let generation = self.generation();
        Box::pin(async move {
            let known = self.broker.statistics(&generation.config.topology).await;
            let known = known.map_err(|error| Problem::unavailable(error.to_string()))?;
            Ok(statistics::view(&generation.config, known))
        })
    }

    fn stream(&self, request: StreamRequest) -> Boxed<'_, Result<Items, Problem>> {
        let generation = self.generation();
        Box::pin(async move { self.streams.open(&generation.config, &self.broker, request).await })
    }

    fn health(&self) -> Health {
        let status = self.status.borrow().clone();
        let phase = self.phase.load(Ordering::Relaxed);
        let conditions = conditions();
        let routes = self.routes(&conditions);
        let good = status.connected
            && !status.blocked
            && status.refused.is_empty()
            && conditions.is_empty()
            && routes.values().all(|route| route.error.is_none());
        let (product, version) = status.server.map(|server| (server.product, server.version.to_string())).unzip();
        Health {
            status: match (phase, good) {
                (DRAINING, _) => "draining",
                (_, true) => "ok",
                (_, false) => "degraded",
            },
            version: env!("CARGO_PKG_VERSION"),
            ready: status.connected && phase == RUNNING,
            broker: BrokerHealth {
                broker: self.generation.load().config.broker.display(),
                connected: status.connected,
                blocked: status.blocked,
                session: status.session,
                product,
                version,
                refused: status.refused,
                error: status.error,
            },
            routes,
            conditions,
        }
    }

    fn generation(&self) -> GenerationView {
        let reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        let (last_reload, last_refusal) = (reloads.last.clone(), reloads.refused.clone());
        GenerationView { last_reload, last_refusal, ..view(&self.generation.load()) }
    }

    fn reload(&self) -> Boxed<'_, Result<Reloaded, Problem>> {
        Box::pin(async move {
            match self.ask().await? {
                Ok((generation, is_new)) => {
                    let result = if is_new { "swapped" } else { "unchanged" };
                    Ok(Reloaded { result, generation: generation.number })
                }
                Err(refused) => {
                    let errors = refused.faults.iter().map(|fault| serde_json::json!(fault)).collect();
                    Err(Problem::refused(refused.to_string(), errors))
                }
            }
        })
    }

    fn rollouts(&self) -> Vec<RolloutView> {
        let generation = self.generation();
        let canary = |name: &RouteName| generation.config.routes.get(name).and_then(|route| route.canary.clone());
        let trials = self.rollouts.all(|name| canary(name).is_some());
        let view = |(name, trial): (RouteName, Trial)| {
            let canary = canary(&name)?;
            let stable = generation.config.routes.get(&name)?.runs().to_owned();
            Some(RolloutView {
                route: name.to_string(),
                stable,
                canary: canary.plugin.to_string(),
                percent: f64::from(canary.share) / 100.0,
                auto: canary.auto,
                trial: serde_json::json!(trial),
            })
        };
        trials.into_iter().filter_map(view).collect()
    }

    fn order_rollout<'a>(&'a self, route: &'a str, order: RolloutOrder) -> Boxed<'a, Result<RolloutView, Problem>> {
        Box::pin(self.ordered(route, order))
    }

    fn metrics(&self) -> String {
        for (queue, depth) in self.broker.queue_depths() {
            telemetry::queue_depth(&queue, depth.ready, depth.unacknowledged, depth.oldest_age);
        }
        if let Some(bytes) = self.broker.store_bytes() {
            telemetry::store_size(bytes);
        }
        self.exposition.render()
    }
}
