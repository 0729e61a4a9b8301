//! Brings from the disk what a queue delivers next, so that the writer, which takes it in, finds it in memory: a disk that
//! reads slowly holds up the queue that waits for it, and no transaction of another.
//!
//! What is read here is thrown away. Only the writer reads into queues, between two transactions, so that nothing can be
//! read that is committed and not yet counted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use super::queue::Reading;
use super::shared::Shared;

/// Queues that wait to be read; one more is read by the writer itself.
const WAITING_MAX: usize = 1024;

/// The thread that reads. It ends when this is dropped.
pub(super) struct Prefetch {
    queues: Option<SyncSender<(usize, Reading)>>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetch {
    pub(super) fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let (queues, waiting) = mpsc::sync_channel(WAITING_MAX);
        let shared = Arc::downgrade(shared);
        let thread = std::thread::Builder::new().name("trunkline-read".to_owned());
        let thread = thread.spawn(move || read(&shared, &waiting))?;
        Ok(Self { queues: Some(queues), thread: Some(thread) })
    }

    /// Reads for a queue, and tells the writer then. False when it cannot now.
    pub(super) fn ask(&self, number: usize, reading: Reading) -> bool {
        self.queues.as_ref().is_some_and(|queues| queues.try_send((number, reading)).is_ok())
    }
}

fn read(shared: &Weak<Shared>, waiting: &Receiver<(usize, Reading)>) {
    while let Ok((number, Reading { id, from, most, most_bytes })) = waiting.recv() {
        let Some(shared) = shared.upgrade() else { return };
        // Whatever is wrong is seen by the writer, which reads it again.
        let _seen = catch_unwind(AssertUnwindSafe(|| {
            shared.store().as_ref().map(|store| store.prefetch(id, from, most, most_bytes))
        }));
        shared.lock().warm.insert(number);
        shared.wake();
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        drop(self.queues.take());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
