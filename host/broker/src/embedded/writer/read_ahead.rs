//! Reading ahead the next messages of queues, in two steps. A thread reads their pages into the caches, so that a slow disk
//! delays only the queue that waits for its messages, and no transaction. The writer then reads the messages into the
//! queues between two transactions, so that every message it reads is already counted.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use super::shared::BrokerShared;
use crate::embedded::state::{QueueState, ReadRequest};
use crate::embedded::store::{Fault, MessageStore, report_damage};
use crate::guard::guarded;

/// Most queues that wait for the thread. The writer itself reads further ones.
const WAITING_MAX: usize = 1024;

/// Most queues that the writer reads between two transactions.
const READ_MAX: usize = 16;

/// The thread that reads pages into the caches. The thread ends when this is dropped.
pub(crate) struct ReadAheadThread {
    queues: Option<SyncSender<(usize, ReadRequest)>>,
    thread: Option<JoinHandle<()>>,
}

impl ReadAheadThread {
    pub(crate) fn start(shared: &Arc<BrokerShared>) -> std::io::Result<Self> {
        let (queues, waiting) = mpsc::sync_channel(WAITING_MAX);
        let shared = Arc::downgrade(shared);
        let thread = std::thread::Builder::new().name("trunkline-read".to_owned());
        let thread = thread.spawn(move || read(&shared, &waiting))?;
        Ok(Self { queues: Some(queues), thread: Some(thread) })
    }

    /// Asks the thread to read for a queue and to wake the writer afterwards. Returns false when too many queues wait.
    pub(crate) fn ask(&self, number: usize, request: ReadRequest) -> bool {
        self.queues.as_ref().is_some_and(|queues| queues.try_send((number, request)).is_ok())
    }
}

fn read(shared: &Weak<BrokerShared>, waiting: &Receiver<(usize, ReadRequest)>) {
    while let Ok((number, ReadRequest { id, from, most, most_bytes })) = waiting.recv() {
        let Some(shared) = shared.upgrade() else { return };
        // The writer reads the same pages again and reports their errors.
        let _ignored = guarded(|| {
            shared.store().as_ref().map_or(Ok(()), |store| store.load_into_cache(id, from, most, most_bytes))
        });
        shared.lock().cached.insert(number);
        shared.wake();
    }
}

impl Drop for ReadAheadThread {
    fn drop(&mut self) {
        drop(self.queues.take());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Reads the next messages of queues whose pages are in the caches. Returns whether further queues are ready.
pub(crate) fn read_ahead(
    shared: &BrokerShared,
    store: &MessageStore,
    thread: &ReadAheadThread,
    wanted: BTreeSet<usize>,
) -> Result<bool, Fault> {
    let cached = {
        let mut state = shared.lock();
        for number in wanted {
            state.read_ahead(number);
        }
        for number in std::mem::take(&mut state.to_read) {
            let Some(request) = state.queues.get(&number).and_then(QueueState::read_request) else { continue };
            let is_asked = thread.ask(number, request);
            let next = if is_asked { &mut state.loading } else { &mut state.cached };
            next.insert(number);
        }
        std::mem::take(&mut state.cached)
    };
    let mut cached = cached.into_iter();
    for number in cached.by_ref().take(READ_MAX) {
        let request = {
            let mut state = shared.lock();
            state.loading.remove(&number);
            state.queues.get(&number).and_then(QueueState::read_request)
        };
        let Some(request) = request else { continue };
        let page = store.read(request.id, request.from, request.most, request.most_bytes)?;
        let mut state = shared.lock();
        let Some(queue) = state.queues.get_mut(&number) else { continue };
        if let Some(read_error) = &page.read_error {
            report_damage(&format!("queue {}", queue.name), read_error);
        }
        queue.add_page(page);
        queue.arrivals.notify_waiters();
    }
    let left: BTreeSet<usize> = cached.collect();
    let has_more = !left.is_empty();
    shared.lock().cached.extend(left);
    Ok(has_more)
}
