//! The life of a route: subscribe, hand deliveries out, drain.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Route, Stop};
use crate::broker::{Next, Subscription};
use crate::telemetry;

/// Pause before the next try to subscribe; doubled up to [`SUBSCRIBE_PAUSE_MAX`], and jittered.
const SUBSCRIBE_PAUSE_MIN: Duration = Duration::from_millis(200);
const SUBSCRIBE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why consuming ended.
enum End {
    /// The subscription is over, for this reason.
    Lost(String),
    /// The daemon stops.
    Stopping,
}

impl Route {
    /// Runs until `stop`: subscribes, handles deliveries side by side, and subscribes again whenever the broker was
    /// away. Returns when everything in work is settled or, after `stop.now`, left to the broker.
    pub async fn run(self: Arc<Self>, stop: Stop) {
        let mut pause = SUBSCRIBE_PAUSE_MIN;
        while !stop.drain.is_cancelled() {
            let Some(session) = self.connected(&stop).await else {
                return;
            };
            let subscribed = self.broker.subscribe(&self.settings.queue, self.prefetch, self.name.as_str()).await;
            let reason = match subscribed {
                Ok(subscription) => {
                    telemetry::route_up(&self.name, &self.settings.queue);
                    self.metrics.consuming(true);
                    pause = SUBSCRIBE_PAUSE_MIN;
                    let end = self.consume(subscription, session, &stop).await;
                    self.metrics.consuming(false);
                    match end {
                        End::Stopping => return,
                        End::Lost(reason) => reason,
                    }
                }
                Err(error) => error.to_string(),
            };
            telemetry::route_down(&self.name, &self.settings.queue, &reason);
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
                () = stop.drain.cancelled() => return,
            }
            pause = (pause * 2).min(SUBSCRIBE_PAUSE_MAX);
        }
    }

    /// Waits for the broker; gives the number of its session, or nothing when the daemon stops first.
    async fn connected(&self, stop: &Stop) -> Option<u64> {
        let mut status = self.status.clone();
        tokio::select! {
            seen = status.wait_for(|status| status.connected) => seen.ok().map(|status| status.session),
            () = stop.drain.cancelled() => None,
        }
    }

    async fn consume(self: &Arc<Self>, mut subscription: Subscription, session: u64, stop: &Stop) -> End {
        let mut work = JoinSet::new();
        let limit = usize::from(self.settings.concurrency);
        let end = loop {
            tokio::select! {
                biased;
                () = stop.drain.cancelled() => break End::Stopping,
                Some(ended) = work.join_next(), if !work.is_empty() => self.watch(ended),
                next = subscription.next(), if work.len() < limit => match next {
                    Next::Delivery(delivery) => drop(work.spawn(self.clone().handle(delivery, session))),
                    Next::Ended(reason) => break End::Lost(reason),
                },
            }
        };
        match &end {
            End::Stopping => self.drain(subscription, work, stop).await,
            // What is in work notices by itself that its session is over; it is not cut off in the middle, because
            // its emissions may be confirmed already and then its acknowledgement still counts.
            End::Lost(_) => self.finish(&mut work, stop).await,
        }
        end
    }

    async fn drain(&self, mut subscription: Subscription, mut work: JoinSet<()>, stop: &Stop) {
        subscription.cancel().await;
        self.finish(&mut work, stop).await;
        let unfinished = work.len();
        work.shutdown().await;
        let closed = subscription.close().await;
        if unfinished > 0 {
            tracing::warn!(route = %self.name, unfinished, "left to the broker at the deadline");
        }
        if let Err(error) = closed {
            tracing::warn!(route = %self.name, "acknowledgements may not have arrived: {error}");
        }
    }

    /// Waits for everything in work, or for the deadline.
    async fn finish(&self, work: &mut JoinSet<()>, stop: &Stop) {
        loop {
            tokio::select! {
                biased;
                () = stop.now.cancelled() => return,
                ended = work.join_next() => match ended {
                    Some(ended) => self.watch(ended),
                    None => return,
                },
            }
        }
    }

    /// A panic in the handling of one delivery is our bug; the delivery comes again when the subscription ends.
    fn watch(&self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(route = %self.name, %error, "handling a delivery panicked; report this");
        }
    }
}
