//! The deliveries that the broker may hand out ahead, and the turns in which a route takes them.

use std::time::{Duration, Instant};

use super::work::Work;
use trunkline_broker::{Delivery, Next, Subscription};

/// Longest time for which a route takes one delivery after another. Confirms, timers and the other routes of the thread wait
/// meanwhile.
const TURN_MAX: Duration = Duration::from_millis(1);

/// Deliveries that the broker may hand out ahead.
///
/// A message that ends the daemon comes back together with every message that was handed out beside it. Each of them counts
/// one more delivery, and a queue with a delivery limit would give them all up. Therefore a route begins *narrow*, with one
/// delivery at a time, widens when a message that is not a suspect is settled, and narrows again when a suspect arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Narrow,
    Wide,
}

/// The deliveries that a subscription hands out ahead.
pub(super) struct HandOut {
    prefetch: u16,
    width: Width,
    /// Whether no delivery has shown yet that it is no suspect.
    fresh: bool,
    /// A suspect that arrived while the route was wide.
    first: Option<Delivery>,
}

impl HandOut {
    /// The deliveries of a subscription that has a prefetch of 1, and `prefetch` later.
    pub(super) fn new(prefetch: u16) -> Self {
        Self { prefetch, width: Width::Narrow, fresh: true, first: None }
    }

    /// Whether a suspect waits until the work in progress is settled.
    pub(super) fn holds_suspect(&self) -> bool {
        self.first.is_some()
    }

    /// Whether another delivery should be taken. Narrow is one delivery at a time, even when the broker has handed out another
    /// one.
    pub(super) fn takes(&self, work: &Work) -> bool {
        work.wants() && self.first.is_none() && (self.width == Width::Wide || work.held() == 0)
    }

    /// Widens after a message that is not a suspect was settled, and begins with a suspect when nothing else is in work.
    ///
    /// # Errors
    /// The reason why the subscription is over.
    pub(super) async fn go_on(&mut self, subscription: &mut Subscription, work: &mut Work) -> Result<(), String> {
        if work.held() > 0 {
            return Ok(());
        }
        if self.width == Width::Narrow && !self.fresh {
            self.width = Width::Wide;
            subscription.resize(self.prefetch).await.map_err(|error| error.to_string())?;
        }
        if let Some(suspect) = self.first.take() {
            work.arrived(suspect);
        }
        Ok(())
    }

    /// Takes a delivery, and the deliveries that are there already.
    ///
    /// # Errors
    /// The end of the consumer or of the subscription.
    pub(super) async fn take_all(
        &mut self,
        mut next: Next,
        subscription: &mut Subscription,
        work: &mut Work,
    ) -> Result<(), HandOutEnd> {
        let began = Instant::now();
        loop {
            match next {
                Next::Delivery(delivery) => self.take(delivery, subscription, work).await?,
                Next::Cancelled(reason) => return Err(HandOutEnd::Cancelled(reason)),
                Next::Ended(reason) => return Err(HandOutEnd::Lost(reason)),
            }
            if !self.takes(work) || began.elapsed() >= TURN_MAX {
                return Ok(());
            }
            match subscription.try_next() {
                Some(found) => next = found,
                None => return Ok(()),
            }
        }
    }

    async fn take(
        &mut self,
        delivery: Delivery,
        subscription: &mut Subscription,
        work: &mut Work,
    ) -> Result<(), HandOutEnd> {
        self.fresh = delivery.is_suspect();
        if !self.fresh || self.width == Width::Narrow {
            work.arrived(delivery);
            return Ok(());
        }
        // The work in progress is settled first. Deliveries that were handed out are then taken one by one.
        self.width = Width::Narrow;
        self.first = Some(delivery);
        subscription.resize(1).await.map_err(|error| HandOutEnd::Lost(error.to_string()))
    }
}

/// The end of the deliveries.
pub(super) enum HandOutEnd {
    /// The broker sends no more. Deliveries that it sent can still be settled.
    Cancelled(String),
    /// The subscription is over.
    Lost(String),
}
