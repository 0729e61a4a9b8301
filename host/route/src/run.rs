//! The life of a route: subscribe, take deliveries in, drain.

use std::sync::Arc;
use std::time::Duration;

use super::listed::Listed;
use super::work::Work;
use super::{Route, Stop};
use trunkline_broker::{Next, Subscription};
use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait::{self, Loop, Retry};

/// A broker takes a delivery back that is not answered for half an hour, and everything else on its channel. So what
/// cannot begin for so long is given back at once, and consumed again when its time comes.
const HOLD_MAX: Duration = Duration::from_secs(300);

/// Why consuming ended.
enum End {
    /// The subscription is over, for this reason.
    Lost(String),
    /// The broker sends no more; what it sent is still ours.
    Cancelled(Subscription, String),
    /// Nothing may begin for so long.
    Paused(Duration),
    /// The daemon stops.
    Stopping,
}

/// How many deliveries the broker may hand out ahead.
///
/// A message that ends the daemon comes back, and with it everything that was handed out beside it: all of them count
/// one more delivery, and a queue with a delivery limit would give up the innocent too. So a route begins *narrow*, with
/// one delivery at a time, widens when a message that is no suspect is settled, and narrows again when a suspect comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Narrow,
    Wide,
}

/// What the loop saw.
enum Seen {
    Drain,
    Status,
    Next(Next),
    Worked,
}

impl Route {
    /// Runs until `stop`: subscribes, handles deliveries side by side, and subscribes again whenever the broker was
    /// away. Returns when everything in work is settled or, after `stop.now`, left to the broker.
    pub async fn run(self: Arc<Self>, stop: Stop) {
        let mut work = Work::new(self.clone());
        let mut retry = Retry::new(Loop::RouteSubscribe, self.name.as_str());
        let mut cancelled = None;
        while !stop.drain.is_cancelled() {
            let Some(session) = self.connected(&mut work, &stop).await else {
                break;
            };
            match self.lead(session, &mut cancelled, &mut work, &stop).await {
                None => break,
                Some(Ok(())) => {}
                Some(Err(reason)) => {
                    self.metrics.consuming(false);
                    telemetry::route_down(&self.name, &self.settings.queue, &reason);
                    self.go_on_until(&mut work, &stop, retry.pause(&reason)).await;
                    continue;
                }
            }
            let reason = match self.subscribe(cancelled.take(), session, &mut work).await {
                Ok(subscription) => {
                    telemetry::route_up(&self.name, &self.settings.queue);
                    self.metrics.consuming(true);
                    retry.succeeded();
                    match self.consume(subscription, session, &mut work, &stop).await {
                        End::Stopping => {
                            work.unsubscribed();
                            return self.resign(&mut work).await;
                        }
                        End::Paused(pause) => {
                            work.unsubscribed();
                            self.resign(&mut work).await;
                            self.go_on_until(&mut work, &stop, wait::after(pause)).await;
                            continue;
                        }
                        End::Cancelled(subscription, reason) => {
                            cancelled = Some(subscription);
                            reason
                        }
                        End::Lost(reason) => {
                            work.unsubscribed();
                            self.resign(&mut work).await;
                            reason
                        }
                    }
                }
                Err((subscription, reason)) => {
                    cancelled = subscription;
                    reason
                }
            };
            self.metrics.consuming(false);
            telemetry::route_down(&self.name, &self.settings.queue, &reason);
            // The loop has no bound.
            self.go_on_until(&mut work, &stop, retry.pause(&reason)).await;
        }
        self.metrics.consuming(false);
        self.finish(&mut work, &stop).await;
        if let Some(subscription) = cancelled {
            self.close(subscription).await;
        }
        self.resign(&mut work).await;
    }

    /// On an ordered route: waits until this daemon is the one that runs it, unless it is. None when the daemon stops first.
    async fn lead(
        self: &Arc<Self>,
        session: u64,
        cancelled: &mut Option<Subscription>,
        work: &mut Work,
        stop: &Stop,
    ) -> Option<Result<(), String>> {
        let Some(queue) = &self.settings.waiting else { return Some(Ok(())) };
        if work.listed().is_some_and(|listed| listed.is_of(session)) {
            return Some(Ok(()));
        }
        work.unsubscribed();
        if let Some(subscription) = cancelled.take() {
            self.close(subscription).await;
        }
        self.resign(work).await;
        let taken_over = self.go_on_until(work, stop, self.clone().take_over(queue, session)).await?;
        Some(taken_over.map(|listed| work.lead(listed)))
    }

    /// Lets another daemon run an ordered route. What this one has in work comes again.
    async fn resign(&self, work: &mut Work) {
        if let Some(subscription) = work.resign() {
            self.close(subscription).await;
        }
    }

    /// Subscribes, or consumes again with a subscription that the broker cancelled: what came from that is still ours. An
    /// error gives such a subscription back while it is open.
    async fn subscribe(
        &self,
        cancelled: Option<Subscription>,
        session: u64,
        work: &mut Work,
    ) -> Result<Subscription, (Option<Subscription>, String)> {
        if let Some(mut subscription) = cancelled.filter(Subscription::is_open) {
            return match self.broker.renew(&mut subscription, 1).await {
                Ok(()) => Ok(subscription),
                Err(error) => Err((Some(subscription), error.to_string())),
            };
        }
        work.unsubscribed();
        let subscribed = self.broker.subscribe(&self.settings.queue, 1, self.name.as_str()).await;
        let subscription = subscribed.map_err(|error| (None, error.to_string()))?;
        work.subscribed(session);
        Ok(subscription)
    }

    /// Waits for the broker; gives the number of its session, or nothing when the daemon stops first.
    async fn connected(&self, work: &mut Work, stop: &Stop) -> Option<u64> {
        let mut status = self.status.clone();
        let seen = async { status.wait_for(|status| status.connected).await.ok().map(|status| status.clone()) };
        let seen = self.go_on_until(work, stop, seen).await??;
        work.status(&seen);
        Some(seen.session)
    }

    /// Goes on with what is in work until something else is there, or nothing when the daemon stops first.
    async fn go_on_until<T>(&self, work: &mut Work, stop: &Stop, wanted: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(wanted);
        let mut status = self.status.clone();
        loop {
            tokio::select! {
                () = stop.drain.cancelled() => return None,
                found = &mut wanted => return Some(found),
                changed = status.changed() => {
                    changed.ok()?;
                    work.status(&status.borrow_and_update());
                }
                () = work.step() => {}
            }
        }
    }

    async fn consume(&self, mut subscription: Subscription, session: u64, work: &mut Work, stop: &Stop) -> End {
        let mut status = self.status.clone();
        let mut width = Width::Narrow;
        let mut fresh = true;
        // A suspect that came while it was wide, with what the broker had handed out before it is known.
        let mut first = None;
        loop {
            if width == Width::Narrow && !fresh && work.held() == 0 {
                width = Width::Wide;
                if let Err(error) = subscription.resize(self.prefetch).await {
                    return End::Lost(error.to_string());
                }
            }
            if work.held() == 0
                && let Some(suspect) = first.take()
            {
                work.arrived(suspect);
            }
            if let Some(reason) = work.listed().and_then(Listed::lost) {
                return End::Lost(reason.to_owned());
            }
            if let Some(pause) = work.nothing_begins_for().filter(|pause| *pause > HOLD_MAX && first.is_none()) {
                self.close(subscription).await;
                return End::Paused(pause);
            }
            // Narrow is one at a time, also when the broker is quicker with the next than we with the last.
            let takes = work.wants() && first.is_none() && (width == Width::Wide || work.held() == 0);
            let seen = tokio::select! {
                biased;
                () = stop.drain.cancelled() => Seen::Drain,
                changed = status.changed() => if changed.is_ok() { Seen::Status } else { Seen::Drain },
                next = subscription.next_or_end(takes) => Seen::Next(next),
                () = work.step() => Seen::Worked,
            };
            match seen {
                Seen::Worked => {}
                Seen::Status => {
                    let now = status.borrow_and_update().clone();
                    work.status(&now);
                    if !now.connected || now.session != session {
                        return End::Lost(now.error.unwrap_or_else(|| "the session is over".to_owned()));
                    }
                }
                Seen::Next(Next::Delivery(delivery)) => {
                    let suspect = delivery.is_suspect();
                    fresh = suspect;
                    if suspect && width == Width::Wide {
                        // What is in work is settled first, and what else was handed out is then taken one by one.
                        width = Width::Narrow;
                        first = Some(delivery);
                        if let Err(error) = subscription.resize(1).await {
                            return End::Lost(error.to_string());
                        }
                    } else {
                        work.arrived(delivery);
                    }
                }
                Seen::Next(Next::Cancelled(reason)) => return End::Cancelled(subscription, reason),
                Seen::Next(Next::Ended(reason)) => return End::Lost(reason),
                Seen::Drain => {
                    self.metrics.consuming(false);
                    self.drain(subscription, work, stop).await;
                    return End::Stopping;
                }
            }
        }
    }

    async fn drain(&self, mut subscription: Subscription, work: &mut Work, stop: &Stop) {
        subscription.cancel().await;
        work.drain();
        self.finish(work, stop).await;
        let unfinished = work.abandon().await;
        if unfinished > 0 {
            tracing::warn!(route = %self.name, unfinished, "left to the broker at the deadline");
        }
        self.close(subscription).await;
    }

    async fn close(&self, subscription: Subscription) {
        if let Err(error) = subscription.close().await {
            tracing::warn!(route = %self.name, "acknowledgements may not have arrived: {error}");
        }
    }

    /// Waits for everything in work, or for the deadline.
    async fn finish(&self, work: &mut Work, stop: &Stop) {
        let mut status = self.status.clone();
        while work.held() > 0 {
            tokio::select! {
                biased;
                () = stop.now.cancelled() => return,
                () = stop.drain.cancelled(), if !work.is_draining() => work.drain(),
                changed = status.changed() => match changed {
                    Ok(()) => work.status(&status.borrow_and_update()),
                    Err(_gone) => return,
                },
                () = work.step() => {}
            }
        }
    }
}
