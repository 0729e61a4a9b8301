//! The life of a route: subscribe, take deliveries in, drain.

use std::sync::Arc;
use std::time::Duration;

use super::hand_out::{HandOut, HandOutEnd};
use super::list_queue::ListQueue;
use super::work::Work;
use crate::route_runner::{RouteRunner, Stop};
use trunkline_broker::{Next, Subscription};
use trunkline_telemetry::wait::{self, Loop, RetryLoop};
use trunkline_telemetry::{self as telemetry, RepeatLimit};

/// Longest time for which deliveries are held that cannot begin. A broker takes back every delivery of a channel when one has no
/// answer for half an hour. Therefore the route gives its deliveries back at once and consumes again later.
const HOLD_MAX: Duration = Duration::from_secs(300);

/// The end of consuming.
enum ConsumeEnd {
    /// The subscription ended, for this reason.
    Lost(String),
    /// The broker sends no more. Deliveries that it sent can still be settled.
    Cancelled(Box<Subscription>, String),
    /// No delivery can begin for this time.
    Paused(Duration),
    /// The daemon stops.
    Stopping,
}

/// An event of the consuming loop.
enum LoopEvent {
    Drain,
    Status,
    Next(Next),
    Worked,
}

impl RouteRunner {
    /// Runs until `stop`: subscribes, handles deliveries concurrently, and subscribes again after the broker was away. Returns
    /// when all work is settled or, after `stop.now`, left to the broker.
    pub async fn run(self: Arc<Self>, stop: Stop) {
        let mut work = Work::new(self.clone());
        let mut retry = RetryLoop::new(Loop::RouteSubscribe, self.profile.name.as_str());
        let mut lines = RepeatLimit::default();
        let mut cancelled = None;
        while !stop.drain.is_cancelled() {
            let Some(session) = self.connected(&mut work, &stop).await else {
                break;
            };
            match self.lead(session, &mut cancelled, &mut work, &stop).await {
                None => break,
                Some(Ok(())) => {}
                Some(Err(reason)) => {
                    self.is_down(&reason, &mut lines);
                    self.go_on_until(&mut work, &stop, retry.pause(&reason)).await;
                    continue;
                }
            }
            let reason = match self.subscribe(cancelled.take(), session, &mut work).await {
                Ok(subscription) => {
                    telemetry::route_up(&self.profile.name, &self.profile.settings.queue);
                    self.metrics.consumes();
                    retry.succeeded();
                    lines.clear();
                    match self.consume(subscription, session, &mut work, &stop).await {
                        ConsumeEnd::Stopping => {
                            work.unsubscribed();
                            return self.resign(&mut work).await;
                        }
                        ConsumeEnd::Paused(pause) => {
                            work.unsubscribed();
                            self.resign(&mut work).await;
                            self.go_on_until(&mut work, &stop, wait::after(pause)).await;
                            continue;
                        }
                        ConsumeEnd::Cancelled(subscription, reason) => {
                            cancelled = Some(*subscription);
                            reason
                        }
                        ConsumeEnd::Lost(reason) => {
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
            self.is_down(&reason, &mut lines);
            // The loop has no bound.
            self.go_on_until(&mut work, &stop, retry.pause(&reason)).await;
        }
        self.metrics.stopped_consuming();
        self.finish(&mut work, &stop).await;
        if let Some(subscription) = cancelled {
            self.close(subscription).await;
        }
        self.resign(&mut work).await;
    }

    /// Reports that the route does not consume. The log has at most one line a minute for the same reason.
    fn is_down(&self, reason: &str, lines: &mut RepeatLimit) {
        self.metrics.stopped_consuming();
        if let Some(left_out) = lines.allows(reason) {
            telemetry::route_down(&self.profile.name, &self.profile.settings.queue, reason, left_out);
        }
    }

    /// On an ordered route: waits until this daemon leads the route. None when the daemon stops first.
    async fn lead(
        self: &Arc<Self>,
        session: u64,
        cancelled: &mut Option<Subscription>,
        work: &mut Work,
        stop: &Stop,
    ) -> Option<Result<(), String>> {
        let Some(queue) = &self.profile.settings.waiting else { return Some(Ok(())) };
        if work.list_queue().is_some_and(|queue| queue.is_of(session)) {
            return Some(Ok(()));
        }
        work.unsubscribed();
        if let Some(subscription) = cancelled.take() {
            self.close(subscription).await;
        }
        self.resign(work).await;
        let taken_over = self.go_on_until(work, stop, self.clone().take_over(queue, session, work.began())).await?;
        Some(taken_over.map(|taken_over| work.lead(taken_over)))
    }

    /// Lets another daemon lead an ordered route. The broker delivers the messages of unfinished events again.
    async fn resign(&self, work: &mut Work) {
        if let Some(subscription) = work.resign() {
            self.close(subscription).await;
        }
    }

    /// Subscribes, or consumes again with a subscription that the broker cancelled, whose deliveries can still be settled. An
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
        let subscribed = self.broker.subscribe(&self.profile.settings.queue, 1, self.profile.name.as_str()).await;
        let subscription = subscribed.map_err(|error| (None, error.to_string()))?;
        work.subscribed(session);
        Ok(subscription)
    }

    /// Waits for the broker; gives the number of its session, or none when the daemon stops first.
    async fn connected(&self, work: &mut Work, stop: &Stop) -> Option<u64> {
        let mut status = self.status.clone();
        let seen = async { status.wait_for(|status| status.connected).await.ok().map(|status| status.clone()) };
        let seen = self.go_on_until(work, stop, seen).await??;
        work.status(&seen);
        Some(seen.session)
    }

    /// Continues the work until `wanted` is ready. None when the daemon stops first.
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
                () = work.progress() => {}
            }
        }
    }

    async fn consume(&self, mut subscription: Subscription, session: u64, work: &mut Work, stop: &Stop) -> ConsumeEnd {
        let mut status = self.status.clone();
        let mut hand_out = HandOut::new(self.profile.prefetch);
        loop {
            if let Err(reason) = hand_out.go_on(&mut subscription, work).await {
                return ConsumeEnd::Lost(reason);
            }
            if let Some(reason) = work.list_queue().and_then(ListQueue::lost) {
                return ConsumeEnd::Lost(reason.to_owned());
            }
            let pause = work.nothing_begins_for().filter(|pause| *pause > HOLD_MAX && !hand_out.holds_suspect());
            if let Some(pause) = pause {
                self.close(subscription).await;
                return ConsumeEnd::Paused(pause);
            }
            let takes = hand_out.takes(work);
            let seen = tokio::select! {
                biased;
                () = stop.drain.cancelled() => LoopEvent::Drain,
                changed = status.changed() => if changed.is_ok() { LoopEvent::Status } else { LoopEvent::Drain },
                next = async { if takes { subscription.next().await } else { subscription.ended().await } } => LoopEvent::Next(next),
                () = work.progress() => LoopEvent::Worked,
            };
            match seen {
                LoopEvent::Worked => {}
                LoopEvent::Status => {
                    let now = status.borrow_and_update().clone();
                    work.status(&now);
                    if !now.connected || now.session != session {
                        return ConsumeEnd::Lost(now.error.unwrap_or_else(|| "the session is over".to_owned()));
                    }
                }
                LoopEvent::Next(next) => match hand_out.take_all(next, &mut subscription, work).await {
                    Ok(()) => {}
                    Err(HandOutEnd::Cancelled(reason)) => {
                        return ConsumeEnd::Cancelled(Box::new(subscription), reason);
                    }
                    Err(HandOutEnd::Lost(reason)) => return ConsumeEnd::Lost(reason),
                },
                LoopEvent::Drain => {
                    self.metrics.stopped_consuming();
                    self.drain(subscription, work, stop).await;
                    return ConsumeEnd::Stopping;
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
            tracing::warn!(route = %self.profile.name, unfinished, "the route left unfinished events to the broker at the deadline; the broker delivers these events again");
        }
        self.close(subscription).await;
    }

    async fn close(&self, subscription: Subscription) {
        if let Err(error) = subscription.close().await {
            tracing::warn!(route = %self.profile.name, "acknowledgements may not have reached the broker, and the broker may deliver finished events again: {error}");
        }
    }

    /// Waits until all work is settled, or until the deadline.
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
                () = work.progress() => {}
            }
        }
    }
}
