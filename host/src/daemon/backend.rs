//! What the listener sees of the daemon.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::publish;
use crate::admin::{Accepted, Backend, Boxed, BrokerHealth, Health, Problem, PublishRequest, RouteHealth};
use crate::broker::{Broker, Status};
use crate::config::Config;
use crate::event::PluginName;
use crate::telemetry::{self, Exposition};

const STARTING: u8 = 0;
const RUNNING: u8 = 1;
const DRAINING: u8 = 2;

pub(super) struct State {
    config: Arc<Config>,
    broker: Broker,
    status: watch::Receiver<Status>,
    exposition: Exposition,
    phase: AtomicU8,
    /// Digest, or why the plugin does not run.
    plugins: Mutex<BTreeMap<PluginName, Result<String, String>>>,
}

impl State {
    pub(super) fn new(config: Arc<Config>, broker: Broker, exposition: Exposition) -> Self {
        Self {
            config,
            status: broker.status(),
            broker,
            exposition,
            phase: AtomicU8::new(STARTING),
            plugins: Mutex::default(),
        }
    }

    pub(super) fn started(&self) {
        self.phase.store(RUNNING, Ordering::Relaxed);
    }

    pub(super) fn draining(&self) {
        self.phase.store(DRAINING, Ordering::Relaxed);
    }

    pub(super) fn plugin_loaded(&self, name: &PluginName, digest: &str) {
        self.set_plugin(name, Ok(digest.to_owned()));
    }

    pub(super) fn plugin_refused(&self, name: &PluginName, error: String) {
        self.set_plugin(name, Err(error));
    }

    fn set_plugin(&self, name: &PluginName, state: Result<String, String>) {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), state);
    }

    pub(super) fn upkeep(&self) {
        self.exposition.upkeep();
    }

    fn routes(&self) -> BTreeMap<String, RouteHealth> {
        let plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        let health = |plugin: &PluginName| {
            let (digest, error) = match plugins.get(plugin) {
                Some(Ok(digest)) => (Some(digest.clone()), None),
                Some(Err(error)) => (None, Some(error.clone())),
                None => (None, Some("its plugin is being loaded".to_owned())),
            };
            RouteHealth { plugin: plugin.to_string(), digest, error }
        };
        self.config.routes.iter().map(|(name, route)| (name.to_string(), health(&route.plugin))).collect()
    }
}

impl Backend for State {
    fn publish(&self, request: PublishRequest) -> Boxed<'_, Result<Accepted, Problem>> {
        Box::pin(publish::publish(&self.config, &self.broker, request))
    }

    fn health(&self) -> Health {
        let status = self.status.borrow().clone();
        let phase = self.phase.load(Ordering::Relaxed);
        let routes = self.routes();
        let good = status.connected
            && !status.blocked
            && status.refused.is_empty()
            && routes.values().all(|route| route.error.is_none());
        Health {
            status: match (phase, good) {
                (DRAINING, _) => "draining",
                (_, true) => "ok",
                (_, false) => "degraded",
            },
            version: env!("CARGO_PKG_VERSION"),
            ready: status.connected && phase == RUNNING,
            broker: BrokerHealth {
                broker: self.config.broker.display(),
                connected: status.connected,
                blocked: status.blocked,
                session: status.session,
                refused: status.refused,
                error: status.error,
            },
            routes,
        }
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
