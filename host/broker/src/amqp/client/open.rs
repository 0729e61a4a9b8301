//! Starts a client.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::broker::AmqpClient;
use super::dedupe_store::DedupeStore;
use super::management::ManagementApi;
use super::supervisor::supervise;
use crate::BrokerStatus;
use crate::amqp::connection::Endpoint;
use trunkline_config::{self as config, Topology};
use trunkline_event::HeaderKey;

impl AmqpClient {
    /// Begins to connect, and returns at once, because the broker may be away.
    pub(crate) fn open(
        endpoint: Endpoint,
        management: Option<config::Management>,
        topology: Arc<Topology>,
        state_dir: &Path,
        key: HeaderKey,
    ) -> Arc<Self> {
        let amqp = Arc::new(Self {
            key,
            topology: Arc::new(ArcSwap::new(topology)),
            unbinds: Mutex::default(),
            tolerated: Arc::default(),
            unanswered: Arc::default(),
            status: watch::Sender::new(BrokerStatus::default()),
            session: watch::Sender::new(None),
            relays: AtomicBool::new(false),
            dedupe: DedupeStore::new(state_dir),
            management: management.map(|management| ManagementApi::new(management, endpoint.vhost())),
            asking: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
            supervisor: Mutex::default(),
        });
        let work = supervise(Arc::downgrade(&amqp), Arc::new(endpoint), amqp.stop.clone());
        amqp.supervisor.lock().spawn(work);
        amqp
    }
}
