//! The state that the control loop, the listener and the upkeep share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::phase::{DaemonPhase, PresentPhase};
use super::queue_poll::QueuePoll;
use super::reload_request::{AdoptedGeneration, ReloadReply, ReloadRequest, ReloadTrigger};
use super::removable_queues::RemovableQueues;
use crate::publish::{EventPublisher, IdLocks};
use crate::reload::Generation;
use crate::streams::Streams;
use trunkline_broker::{Broker, BrokerStatus};
use trunkline_config::Config;
use trunkline_http::{Problem, ReloadView};
use trunkline_route::Rollouts;
use trunkline_telemetry::Exposition;

/// The shared state.
pub(super) struct DaemonState {
    generation: ArcSwap<Generation>,
    requests: mpsc::Sender<ReloadRequest>,
    reloads: Mutex<ReloadHistory>,
    rollouts: Arc<Rollouts>,
    pub(super) broker: Broker,
    id_locks: IdLocks,
    pub(super) status: watch::Receiver<BrokerStatus>,
    pub(super) exposition: Exposition,
    pub(super) streams: Arc<Streams>,
    pub(super) queue_poll: QueuePoll,
    pub(super) removable: RemovableQueues,
    phase: PresentPhase,
}

/// The results of the last reloads.
#[derive(Clone, Default)]
pub(super) struct ReloadHistory {
    pub(super) last: Option<ReloadView>,
    pub(super) last_refusal: Option<ReloadView>,
}

impl DaemonState {
    pub(super) fn new(
        config: Arc<Config>,
        broker: Broker,
        exposition: Exposition,
        requests: mpsc::Sender<ReloadRequest>,
    ) -> Self {
        Self {
            rollouts: Arc::new(Rollouts::open(&config.state_dir)),
            generation: ArcSwap::from_pointee(Generation::before_first(config)),
            requests,
            reloads: Mutex::default(),
            status: broker.status(),
            broker,
            id_locks: IdLocks::default(),
            exposition,
            streams: Arc::new(Streams::new()),
            queue_poll: QueuePoll::default(),
            removable: RemovableQueues::default(),
            phase: PresentPhase::new(),
        }
    }

    pub(super) fn phase(&self) -> DaemonPhase {
        self.phase.get()
    }

    /// The daemon only finishes its work from now on. The streams end, and their clients reconnect elsewhere.
    pub(super) fn draining(&self) {
        self.phase.set(DaemonPhase::Draining);
        self.streams.stop();
    }

    /// The running generation.
    pub(super) fn generation(&self) -> Arc<Generation> {
        self.generation.load_full()
    }

    /// Makes a generation the running one. The first one ends the start of the daemon, also when an earlier attempt to load the
    /// first generation panicked.
    pub(super) fn install(&self, generation: Arc<Generation>) {
        self.generation.store(generation);
        self.phase.set(DaemonPhase::Running);
    }

    /// The trials of canaries.
    pub(super) fn rollouts(&self) -> &Arc<Rollouts> {
        &self.rollouts
    }

    /// Keeps the result of a reload for `GET /api/v1/generation`.
    pub(super) fn reloaded(&self, trigger: ReloadTrigger, reply: &ReloadReply) {
        let (result, errors) = match reply {
            Ok(AdoptedGeneration::Swapped(_)) => ("swapped", Vec::new()),
            Ok(AdoptedGeneration::Unchanged(_)) => ("unchanged", Vec::new()),
            Err(refused) => ("refused", refused.reasons.iter().map(|reason| serde_json::json!(reason)).collect()),
        };
        let at = jiff::Timestamp::now().to_string();
        let view = ReloadView { at, by: trigger.as_str(), result, errors };
        let mut reloads = self.reloads.lock();
        if reply.is_err() {
            reloads.last_refusal = Some(view.clone());
        }
        reloads.last = Some(view);
    }

    /// The results of the last reloads.
    pub(super) fn reload_history(&self) -> ReloadHistory {
        self.reloads.lock().clone()
    }

    /// Asks the control loop for a reload and waits for the result.
    pub(super) async fn request_reload(&self) -> Result<ReloadReply, Problem> {
        let (reply, result) = oneshot::channel();
        let stopping = || Problem::unavailable("the daemon is stopping");
        let request = ReloadRequest { trigger: ReloadTrigger::Api, reply: Some(reply) };
        self.requests.send(request).await.map_err(|_closed| stopping())?;
        result.await.map_err(|_closed| stopping())
    }

    /// The publisher for events that come in over HTTP.
    pub(super) fn publisher<'a>(&'a self, config: &'a Config) -> EventPublisher<'a> {
        EventPublisher { config, broker: &self.broker, id_locks: &self.id_locks }
    }

    /// Work that is due every few seconds.
    pub(super) async fn upkeep(&self) {
        self.exposition.upkeep();
        self.rollouts.save().await;
        self.broker.expire_event_streams().await;
    }

    /// Waits for publishes without a confirm.
    pub(super) async fn publishes_ended(&self) {
        self.id_locks.finish().await;
    }

    /// Returns when no stream has an unacknowledged message.
    pub(super) async fn streams_ended(&self) {
        self.streams.ended().await;
    }
}
