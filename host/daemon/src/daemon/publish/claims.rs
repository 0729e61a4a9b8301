//! Who publishes under an id now: one at a time, to the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

type Ids = Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>;

/// The ids that are in work, and the tasks that have them: never more than requests, and what the broker owes a confirm.
/// Cheap to clone.
#[derive(Clone, Default)]
pub(in crate::daemon) struct Claims {
    ids: Ids,
    tasks: TaskTracker,
}

/// An id that nobody else has meanwhile.
pub(super) struct Claim {
    ids: Ids,
    id: String,
    held: Option<OwnedMutexGuard<()>>,
}

impl Claims {
    /// Runs something to its end, whether its result is waited for or not.
    pub(super) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn(work)
    }

    /// Waits until nobody else has the id.
    pub(super) async fn claim(&self, id: &str) -> Claim {
        let mutex = self.ids.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_default().clone();
        // Made before the wait: who stops waiting cleans up too.
        let mut claim = Claim { ids: self.ids.clone(), id: id.to_owned(), held: None };
        claim.held = Some(mutex.lock_owned().await);
        claim
    }

    /// Waits for what is under way.
    pub(in crate::daemon) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        // The guard counts too, so it goes first; others count for who holds or awaits it, and only under this lock.
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
    async fn one_at_a_time_and_nothing_is_left() {
        let claims = Claims::default();
        let first = claims.claim("a").await;
        let other = claims.claim("b").await;
        let impatient = tokio::time::timeout(Duration::from_millis(10), claims.claim("a")).await;
        assert!(impatient.is_err(), "the first has it");
        let waiting = claims.spawn({
            let claims = claims.clone();
            async move { drop(claims.claim("a").await) }
        });
        drop(first);
        waiting.await.expect("no panic");
        drop(other);
        claims.finish().await;
        assert!(claims.ids.lock().expect("no panic").is_empty());
    }
}
