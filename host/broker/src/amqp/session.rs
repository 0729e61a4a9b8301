//! One pair of connections.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::collector::{self, Job};
use super::connect::{Endpoint, Unconnected};
use super::gate::Marker;
use super::link::Link;
use super::queues::Adopted;
use super::suspects::{Lane, Suspects};
use crate::{Server, Status};
use trunkline_event::{ExchangeName, HeaderKey, limits};
use trunkline_telemetry::wait;

/// For the end of a channel, and of what works on the session.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
const CLOSING_PAUSE: Duration = Duration::from_millis(2);
/// Publishes that wait for their channel.
const JOBS_WAITING_MAX: usize = 1024;

pub(super) struct Session {
    pub(super) number: u64,
    pub(super) consume: Link,
    pub(super) publish: Link,
    /// Cancelled when the session is over.
    pub(super) over: CancellationToken,
    pub(super) status: watch::Receiver<Status>,
    pub(super) key: HeaderKey,
    /// Tells messages that the gate wrote anew.
    pub(super) marker: Marker,
    pub(super) adopted: Arc<Adopted>,
    /// The end of the last alarm. Nothing could be confirmed before it.
    pub(super) unblocked: Mutex<Option<Instant>>,
    /// Exchanges that were not there when they were last published to.
    pub(super) missing: Mutex<HashSet<ExchangeName>>,
    /// The levels of delayed publishing are there.
    pub(super) delays: tokio::sync::Mutex<bool>,
    /// What comes out of them is published by this session.
    pub(super) relays: AtomicBool,
    suspects: Mutex<Suspects>,
    collectors: Mutex<HashMap<(ExchangeName, Lane), mpsc::Sender<Job>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Session {
    /// Makes both connections, one after the other: a login that is refused is tried once.
    pub(super) async fn connect(
        to: &Endpoint,
        number: u64,
        status: watch::Receiver<Status>,
        key: HeaderKey,
        adopted: Arc<Adopted>,
    ) -> Result<Self, Unconnected> {
        let tls = to.connector().await.map_err(Unconnected::Failed)?;
        let consume = to.connect(tls.clone(), "trunkline consume").await?;
        let publish = match to.connect(tls, "trunkline publish").await {
            Ok(publish) => publish,
            Err(error) => {
                consume.close().await;
                return Err(error);
            }
        };
        limits::agreed_frame_max(publish.configuration().frame_max());
        Ok(Self {
            number,
            consume,
            publish,
            over: CancellationToken::new(),
            status,
            key,
            marker: to.marker(),
            adopted,
            unblocked: Mutex::default(),
            missing: Mutex::default(),
            delays: tokio::sync::Mutex::default(),
            relays: AtomicBool::new(false),
            suspects: Mutex::default(),
            collectors: Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// The channel of a destination exchange, opened on first use: a missing exchange closes its channel, and must not
    /// take the confirms of others with it.
    pub(super) fn collector(self: &Arc<Self>, exchange: &ExchangeName, lane: Lane) -> mpsc::Sender<Job> {
        let mut collectors = self.collectors.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (exchange.clone(), lane);
        if let Some(known) = collectors.get(&place)
            && !known.is_closed()
        {
            return known.clone();
        }
        let (sender, jobs) = mpsc::channel(JOBS_WAITING_MAX);
        self.spawn(collector::run(self.clone(), exchange.clone(), lane, jobs));
        collectors.insert(place, sender.clone());
        sender
    }

    /// What is known of messages that this broker refuses.
    pub(super) fn suspects(&self) -> MutexGuard<'_, Suspects> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task that ends with the session.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Which broker it is, as it says itself.
    pub(super) fn server(&self) -> Option<&Server> {
        self.consume.server()
    }

    /// Whether both connections are up.
    pub(super) fn is_connected(&self) -> bool {
        self.consume.status().connected() && self.publish.status().connected()
    }

    /// Ends everything of the session.
    pub(super) async fn close(&self) {
        self.over.cancel();
        self.collectors.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::join!(self.publish.close(), self.consume.close());
        let ended = async { while tasks.join_next().await.is_some() {} };
        let _hung = tokio::time::timeout(CLOSE_WITHIN, ended).await;
    }
}

/// Lets go of a channel that failed. lapin closes a channel that is dropped while it is still closing by its number, and
/// by then the number may be another channel's: so it is kept until the close has come to its end.
pub(super) async fn let_go(channel: lapin::Channel) {
    let deadline = tokio::time::Instant::now() + CLOSE_WITHIN;
    while channel.status().closing() && tokio::time::Instant::now() < deadline {
        wait::after(CLOSING_PAUSE).await;
    }
}
