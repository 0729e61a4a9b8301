//! The state that producers, sinks and faults share: the next event, the history, and the end of the run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::hostile::Hostile;
use crate::ledger::Ledger;
use crate::plan::{Event, Plan};

const PAUSE: Duration = Duration::from_millis(5);

/// The shared state of a run.
pub struct Source {
    plan: Plan,
    ledger: Mutex<Ledger>,
    hostile: Mutex<Hostile>,
    next: AtomicU64,
    /// The largest number of events.
    limit: u64,
    /// The largest number of events that may wait in the daemon's queues.
    backlog_max: u64,
    backlog: AtomicU64,
    stopped: AtomicBool,
}

impl Source {
    /// A source of at most `limit` events, which pauses while `backlog_max` of them wait.
    #[must_use]
    pub fn new(plan: Plan, limit: u64, backlog_max: u64) -> Self {
        Self {
            ledger: Mutex::new(Ledger::new(plan.clone())),
            hostile: Mutex::new(Hostile::new(plan.seed())),
            plan,
            next: AtomicU64::new(0),
            limit,
            backlog_max,
            backlog: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// The plan of the events.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The history.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The history of hostile messages.
    pub fn hostile(&self) -> MutexGuard<'_, Hostile> {
        self.hostile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next events to send, once there is room for them; none when the run is over.
    pub async fn take(&self, count: u64) -> Vec<Event> {
        while self.backlog.load(Ordering::Relaxed) > self.backlog_max && !self.is_stopped() {
            tokio::time::sleep(PAUSE).await;
        }
        if self.is_stopped() {
            return Vec::new();
        }
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        let last = (first + count).min(self.limit);
        if last >= self.limit {
            self.stop();
        }
        (first..last).map(|number| self.plan.event(number)).collect()
    }

    /// A number that no event has had, for probes. Producers do not use it afterwards.
    pub fn after_all(&self) -> u64 {
        self.stop();
        self.next.load(Ordering::Relaxed).max(self.ledger().entries().len() as u64)
    }

    /// Ends the source.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// True when the source has ended.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Sets the number of waiting events, as far as it is known.
    pub fn set_backlog(&self, waiting: u64) {
        self.backlog.store(waiting, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_gives_each_event_once_and_ends() {
        let source = Source::new(Plan::new(1).unwrap(), 25, 10);
        let mut numbers = Vec::new();
        loop {
            let events = source.take(10).await;
            if events.is_empty() {
                break;
            }
            numbers.extend(events.iter().map(|event| event.number));
        }
        assert_eq!(numbers, (0..25).collect::<Vec<_>>());
        assert!(source.after_all() >= 25);
    }

    #[tokio::test]
    async fn it_waits_while_too_much_waits() {
        let source = Source::new(Plan::new(1).unwrap(), 100, 10);
        source.set_backlog(11);
        assert!(tokio::time::timeout(Duration::from_millis(50), source.take(1)).await.is_err());
        source.set_backlog(10);
        assert_eq!(source.take(1).await.len(), 1);
    }
}
