//! Who publishes under an id now: one at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// The ids that are in work, which are never more than requests.
#[derive(Default)]
pub(in crate::daemon) struct Claims(Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>);

/// An id that nobody else has meanwhile.
pub(super) struct Claim {
    claims: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
    id: String,
    held: Option<OwnedMutexGuard<()>>,
}

impl Claims {
    /// Waits until nobody else has the id.
    pub(super) async fn claim(&self, id: &str) -> Claim {
        let mutex = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_default().clone();
        // Made before the wait: who stops waiting cleans up too.
        let mut claim = Claim { claims: self.0.clone(), id: id.to_owned(), held: None };
        claim.held = Some(mutex.lock_owned().await);
        claim
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        // The guard counts too, so it goes first; others count for who holds or awaits it, and only under this lock.
        self.held = None;
        if claims.get(&self.id).is_some_and(|mutex| Arc::strong_count(mutex) == 1) {
            claims.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_is_left() {
        let claims = Arc::new(Claims::default());
        let first = claims.claim("a").await;
        let other = claims.claim("b").await;
        let impatient = tokio::time::timeout(Duration::from_millis(10), claims.claim("a")).await;
        assert!(impatient.is_err(), "the first has it");
        let waiting = {
            let claims = claims.clone();
            tokio::task::JoinSet::from_iter([async move { drop(claims.claim("a").await) }])
        };
        drop(first);
        waiting.join_all().await;
        drop(other);
        assert!(claims.0.lock().expect("no panic").is_empty());
    }
}
