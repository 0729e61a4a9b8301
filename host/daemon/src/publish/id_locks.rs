//! Locks by event id: one request at a time publishes under an id.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

type Ids = Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>;

/// The ids in work and their tasks. There are at most as many as requests and publishes without a confirm. Clones share the
/// ids.
#[derive(Clone, Default)]
pub(crate) struct IdLocks {
    ids: Ids,
    tasks: TaskTracker,
}

/// The lock on one id.
pub(super) struct IdLock {
    ids: Ids,
    id: String,
    held: Option<OwnedMutexGuard<()>>,
}

impl IdLocks {
    /// Runs `work` to its end, also when no caller waits for the result.
    pub(super) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn(work)
    }

    /// Waits for the lock on an id.
    pub(super) async fn lock(&self, id: &str) -> IdLock {
        let mutex = self.ids.lock().entry(id.to_owned()).or_default().clone();
        // The value exists before the wait, so that a caller that stops waiting cleans up too.
        let mut lock = IdLock { ids: self.ids.clone(), id: id.to_owned(), held: None };
        lock.held = Some(mutex.lock_owned().await);
        lock
    }

    /// Waits for the tasks in work.
    pub(crate) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for IdLock {
    fn drop(&mut self) {
        let mut ids = self.ids.lock();
        // The guard holds a reference too, so it is dropped first. Holders and waiters take their references under this lock.
        self.held = None;
        if ids.get(&self.id).is_some_and(|mutex| Arc::strong_count(mutex) == 1) {
            ids.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_task_has_an_id_and_no_id_is_left() {
        let locks = IdLocks::default();
        let first = locks.lock("a").await;
        let other = locks.lock("b").await;
        let impatient = tokio::time::timeout(Duration::from_millis(10), locks.lock("a")).await;
        assert!(impatient.is_err(), "the first has it");
        let waiting = locks.spawn({
            let locks = locks.clone();
            async move { drop(locks.lock("a").await) }
        });
        drop(first);
        waiting.await.expect("no panic");
        drop(other);
        locks.finish().await;
        assert!(locks.ids.lock().is_empty());
    }
}
