//! The functions of the daemon for the HTTP listener.

use super::phase::DaemonPhase;
use super::reload_request::AdoptedGeneration;
use super::state::DaemonState;
use super::{former_retry_queues, queue_views, views};
use trunkline_config::Hook;
use trunkline_event::RouteName;
use trunkline_http::{
    Accepted, Backend, Boxed, BrokerHealth, EventTypeView, GenerationView, Health, HookRequest, Problem,
    PublishRequest, QueuesView, Reloaded, RolloutOrder, RolloutView, StreamItems, StreamRequest,
};
use trunkline_route::{Trial, TrialPhase};
use trunkline_telemetry as telemetry;

impl Backend for DaemonState {
    fn publish(&self, request: PublishRequest) -> Boxed<'_, Result<Accepted, Problem>> {
        let generation = DaemonState::generation(self);
        Box::pin(async move { self.publisher(&generation.config).publish(request).await })
    }

    fn hook(&self, path: &str) -> Option<Hook> {
        let generation = DaemonState::generation(self);
        let taking = generation.config.hooks.values().filter(|hook| hook.takes(path));
        taking.max_by_key(|hook| hook.path.len()).cloned()
    }

    fn receive(&self, hook: Hook, request: HookRequest) -> Boxed<'_, Result<Accepted, Problem>> {
        let generation = DaemonState::generation(self);
        Box::pin(async move { self.publisher(&generation.config).receive(&hook, request).await })
    }

    fn event_types(&self) -> Vec<EventTypeView> {
        let generation = DaemonState::generation(self);
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
        let generation = DaemonState::generation(self);
        Box::pin(async move {
            let known = self.broker.statistics(&generation.config.topology).await;
            let known = known.map_err(|error| Problem::unavailable(error.to_string()))?;
            let removable = self.removable.look(&self.broker).await;
            let removable = removable.map_err(|error| Problem::unavailable(error.to_string()))?;
            let view = queue_views::queues(&generation.config, known);
            Ok(QueuesView { removable: former_retry_queues::views(removable), ..view })
        })
    }

    fn stream(&self, request: StreamRequest) -> Boxed<'_, Result<StreamItems, Problem>> {
        let generation = DaemonState::generation(self);
        Box::pin(async move { self.streams.open(&generation.config, &self.broker, request).await })
    }

    fn health(&self) -> Health {
        let status = self.status.borrow().clone();
        let phase = self.phase();
        let generation = DaemonState::generation(self);
        let conditions = views::conditions();
        let routes = views::routes(&generation, &conditions);
        let good = status.connected
            && !status.blocked
            && status.refused.is_empty()
            && conditions.is_empty()
            && routes.values().all(|route| route.error.is_none());
        let (product, version) = status.server.map(|server| (server.product, server.version.to_string())).unzip();
        Health {
            status: match (phase, good) {
                (DaemonPhase::Draining, _) => "draining",
                (DaemonPhase::Starting | DaemonPhase::Running, true) => "ok",
                (DaemonPhase::Starting | DaemonPhase::Running, false) => "degraded",
            },
            version: env!("CARGO_PKG_VERSION"),
            ready: status.connected && phase == DaemonPhase::Running,
            broker: BrokerHealth {
                broker: generation.config.broker.display(),
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
        let history = self.reload_history();
        let view = views::generation(&DaemonState::generation(self));
        GenerationView { last_reload: history.last, last_refusal: history.last_refusal, ..view }
    }

    fn reload(&self) -> Boxed<'_, Result<Reloaded, Problem>> {
        Box::pin(async move {
            match self.request_reload().await? {
                Ok(AdoptedGeneration::Swapped(generation)) => {
                    Ok(Reloaded { result: "swapped", generation: generation.number })
                }
                Ok(AdoptedGeneration::Unchanged(generation)) => {
                    Ok(Reloaded { result: "unchanged", generation: generation.number })
                }
                Err(refused) => {
                    let errors = refused.reasons.iter().map(|reason| serde_json::json!(reason)).collect();
                    Err(Problem::refused(refused.to_string(), errors))
                }
            }
        })
    }

    fn rollouts(&self) -> Vec<RolloutView> {
        let generation = DaemonState::generation(self);
        let canary = |name: &RouteName| generation.config.routes.get(name).and_then(|route| route.canary.clone());
        let trials = DaemonState::rollouts(self).all(|name| canary(name).is_some());
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
        if let Some(bytes) = self.broker.store_bytes() {
            telemetry::store_size(bytes);
        }
        self.exposition.render(self.scrape_figures())
    }
}

impl DaemonState {
    /// Ends a trial. The result is on disk when the future ends.
    async fn ordered(&self, route: &str, order: RolloutOrder) -> Result<RolloutView, Problem> {
        let none = || {
            Problem::not_found_because(format!(
                "the route {route:?} has no canary, or the canary has received no event yet"
            ))
        };
        let name = RouteName::new(route).map_err(|_| none())?;
        let (phase, reason) = match order {
            RolloutOrder::Promote => (TrialPhase::Promoted, "by order"),
            RolloutOrder::Abort => (TrialPhase::RolledBack, "by order"),
        };
        let is_known = Backend::rollouts(self).iter().any(|known| known.route == route);
        if !is_known || DaemonState::rollouts(self).order(&name, phase, reason).is_none() {
            return Err(none());
        }
        DaemonState::rollouts(self).save().await;
        Backend::rollouts(self).into_iter().find(|known| known.route == route).ok_or_else(none)
    }
}
