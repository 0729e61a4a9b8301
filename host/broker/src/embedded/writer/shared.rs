//! The handle that clients, the read-ahead thread and the writer share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};
use tokio::sync::{Semaphore, oneshot, watch};

use super::commands::{PendingQueueChange, PendingWrite, QueueSetChange, WriterCommand};
use crate::BrokerStatus;
use crate::embedded::plan::{WriteError, WriteRequest};
use crate::embedded::state::{Routing, SessionState};
use crate::embedded::store::{MessageStore, StoreClock};

/// Most requests that wait for the writer. The next caller waits for a permit.
const WRITES_WAITING_MAX: usize = 4096;

/// The store, the state in memory, and the way to the writer.
pub(crate) struct BrokerShared {
    /// `None` while the store is closed. Only the writer and threads that may block take this lock.
    pub(crate) store: RwLock<Option<MessageStore>>,
    /// The clock of the store, which stays the same over all sessions.
    pub(crate) clock: StoreClock,
    /// Replaced as a whole when the topology or the streams change.
    pub(crate) routing: ArcSwap<Routing>,
    state: Mutex<SessionState>,
    pub(crate) status: watch::Sender<BrokerStatus>,
    commands: Sender<WriterCommand>,
    is_woken: AtomicBool,
    permits: Arc<Semaphore>,
    next_consumer: AtomicU64,
    /// Length of the store's file in bytes.
    pub(crate) store_bytes: AtomicU64,
}

impl BrokerShared {
    pub(crate) fn new(store: MessageStore, clock: StoreClock, state: SessionState) -> (Self, Receiver<WriterCommand>) {
        // The permits bound requests, and one flag bounds wake-ups. The channel itself needs no bound.
        let (commands, receiver) = mpsc::channel();
        let status = BrokerStatus { connected: true, session: state.session, ..BrokerStatus::default() };
        let shared = Self {
            store_bytes: AtomicU64::new(store.size().map_or(0, |(length, _)| length)),
            store: RwLock::new(Some(store)),
            clock,
            routing: ArcSwap::from_pointee(state.routing()),
            state: Mutex::new(state),
            status: watch::Sender::new(status),
            commands,
            is_woken: AtomicBool::new(false),
            permits: Arc::new(Semaphore::new(WRITES_WAITING_MAX)),
            next_consumer: AtomicU64::new(1),
        };
        (shared, receiver)
    }

    /// The state in memory. The lock is never held across a wait or a disk access.
    pub(crate) fn lock(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock()
    }

    /// The store, for the writer and for threads that may block.
    pub(crate) fn store(&self) -> RwLockReadGuard<'_, Option<MessageStore>> {
        self.store.read()
    }

    /// Routes by the bindings of the state from now on.
    pub(crate) fn reroute(&self, state: &SessionState) {
        self.routing.store(Arc::new(state.routing()));
    }

    pub(crate) fn new_consumer(&self) -> u64 {
        self.next_consumer.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a command. After the end of the writer the command is dropped, and with it the sender of its answer.
    pub(crate) fn send(&self, command: WriterCommand) {
        let _ended = self.commands.send(command);
    }

    /// Wakes the writer, once until the writer has called [`BrokerShared::woken`].
    pub(crate) fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.send(WriterCommand::Wake);
        }
    }

    pub(crate) fn woken(&self) {
        self.is_woken.store(false, Ordering::Release);
    }

    /// Why the writer does not answer.
    pub(crate) fn failure(&self) -> String {
        self.lock().failed.clone().unwrap_or_else(|| "the store is closed".to_owned())
    }

    /// Stores a request; it is on disk when this returns.
    pub(crate) async fn write(&self, request: WriteRequest) -> Result<(), WriteError> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_closed| WriteError::Lost(self.failure()))?;
        let (reply, answer) = oneshot::channel();
        self.send(WriterCommand::Write(PendingWrite { request, reply, permit }));
        answer.await.unwrap_or_else(|_dropped| Err(WriteError::Lost(self.failure())))
    }

    /// Changes the set of queues; the change is on disk when this returns.
    pub(crate) async fn change_queues(&self, change: QueueSetChange) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.send(WriterCommand::ChangeQueues(PendingQueueChange { change, reply }));
        answer.await.unwrap_or_else(|_dropped| Err(self.failure()))
    }
}
