//! The work that a route waits for. The route's own task polls this work, and other threads only poll calls that compute.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::task::JoinSet;
use tokio_util::sync::ReusableBoxFuture;

use super::list_queue::ListQueue;
use super::ports::{Completion, DeliveryGroup, FailedCommit, WorkRequest};
use crate::core::Ticket;
use crate::route_runner::RouteRunner;
use trunkline_broker::{Batch, Confirmed, DedupeRecord, Deliveries, Delivery, Publishing};
use trunkline_event::Event;

/// Mean time of a call up to which the route's own task runs the calls, one after another. A wake-up of another thread takes a
/// part of this time. Longer calls run on all processors.
const SHORT_NANOS: u64 = 100_000;
/// Weight of the earlier calls in the mean.
const MEAN_OF: u64 = 8;
/// The most that one call adds to the mean. A thread that loses its processor during a short call makes the call look long, and
/// one such call must not move the next ones to other threads.
const COUNTED_MAX_NANOS: u64 = 4 * SHORT_NANOS;
/// Part of the mean that each longer call takes off.
const FORGOTTEN_OF: u64 = 64;
/// Most answers that are taken at once.
const ANSWERS_MAX: usize = 256;

/// The answer to a request about one delivery.
pub(super) type Answer = (Ticket, Completion<Delivery>);

/// A call, in memory that the next call uses again.
type CallSlot = ReusableBoxFuture<'static, Completion<Delivery>>;

/// Work that is moved to another thread, or polled in place.
type BoxedWork = Pin<Box<dyn Future<Output = Completion<Delivery>> + Send>>;

/// The work of a route that is in progress.
pub(super) struct Tasks {
    /// The work on deliveries.
    pub(super) work: DeliveryWork,
    /// The queue of the waiting list, while this daemon leads its ordered route.
    pub(super) list_queue: Option<ListQueue>,
}

/// The work on deliveries that is in progress.
pub(super) struct DeliveryWork {
    route: Arc<RouteRunner>,
    /// Work that waits for the broker or the disk, polled by the route's own task.
    waiting: FuturesUnordered<Waiting>,
    /// Calls, polled by any thread.
    calls: JoinSet<Answer>,
    /// Answers that came at once.
    answered: Vec<Answer>,
    /// The memory of a call that ended in place, for the next call.
    slot: Option<CallSlot>,
    /// Mean time of the calls that the route's own task ran, in nanoseconds. Recent calls count most.
    mean_nanos: u64,
}

impl Tasks {
    pub(super) fn new(route: Arc<RouteRunner>) -> Self {
        let work = DeliveryWork {
            route,
            waiting: FuturesUnordered::new(),
            calls: JoinSet::new(),
            answered: Vec::new(),
            slot: None,
            mean_nanos: 0,
        };
        Self { work, list_queue: None }
    }

    /// Begins the work of a request.
    pub(super) fn perform(&mut self, request: WorkRequest<Delivery>) {
        match request {
            WorkRequest::Settle(delivery, settlement) => delivery.settle(settlement),
            WorkRequest::Publish(ticket, batch) => self.work.publish(ticket, batch),
            WorkRequest::Commit { ticket, deliveries, batch, record } => {
                self.work.wait(ticket, |route| async move {
                    Completion::Committed(route.commit(deliveries, batch, record).await)
                });
            }
            WorkRequest::Invoke { ticket, event, received_at } => self.work.call(ticket, event, received_at),
            WorkRequest::LookUp(ticket, record) => {
                self.work
                    .wait(ticket, |route| async move { Completion::LookedUp(route.broker.look_up(&record).await) });
            }
            WorkRequest::WriteRecord(ticket, record) => self.work.wait(ticket, |route| async move {
                let event = record.id.clone();
                if let Err(error) = route.broker.record(record).await {
                    // Everything is confirmed: to acknowledge is right, and a repeat will not be noticed.
                    route.metrics.unmarked(&event, &error.to_string());
                }
                Completion::RecordWritten
            }),
            WorkRequest::Entry(request) => {
                if let Some(queue) = &mut self.list_queue {
                    queue.perform(request);
                }
            }
        }
    }
}

impl DeliveryWork {
    /// The route.
    pub(super) fn route(&self) -> &RouteRunner {
        &self.route
    }

    /// The answers that came at once since the last call of this method.
    pub(super) fn take_answered(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answered)
    }

    /// Whether no work is in progress.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.calls.is_empty()
    }

    /// The answers that have arrived. Pending while there is none.
    pub(super) fn poll_answers(&mut self, context: &mut Context<'_>) -> Poll<Vec<Answer>> {
        let mut answers = Vec::new();
        while answers.len() < ANSWERS_MAX
            && let Poll::Ready(Some(answer)) = self.waiting.poll_next_unpin(context)
        {
            answers.push(answer);
        }
        while answers.len() < ANSWERS_MAX
            && let Poll::Ready(Some(ended)) = self.calls.poll_join_next(context)
        {
            answers.extend(ended.ok());
        }
        if answers.is_empty() { Poll::Pending } else { Poll::Ready(answers) }
    }

    /// Ends all work that is in progress.
    pub(super) async fn shutdown(&mut self) {
        self.waiting.clear();
        self.answered.clear();
        self.calls.shutdown().await;
    }

    /// Begins to publish the unconfirmed messages of a batch.
    fn publish(&mut self, ticket: Ticket, batch: Batch) {
        let started = Instant::now();
        self.route.metrics.publishing();
        let publishing = self.route.broker.begin_publish(batch);
        self.waiting.push(Waiting::Publish { ticket, route: self.route.clone(), started, publishing });
    }

    /// Begins work that waits for the broker or the disk.
    fn wait<F>(&mut self, ticket: Ticket, work: impl FnOnce(Arc<RouteRunner>) -> F)
    where
        F: Future<Output = Completion<Delivery>> + Send + 'static,
    {
        let mut work: BoxedWork = Box::pin(guarded(work(self.route.clone())));
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(completion) => self.answered.push((ticket, completion)),
            Poll::Pending => self.waiting.push(Waiting::Other(ticket, work)),
        }
    }

    /// Runs a call in place, as far as it gets without waiting. The rest runs on any thread. A call of a plugin that is known to
    /// compute runs on any thread from its beginning.
    fn call(&mut self, ticket: Ticket, event: Arc<Event>, received_at: String) {
        let route = self.route.clone();
        let call = guarded(async move {
            let called = route.call(event, received_at).await;
            called.map_or(Completion::Abandoned("the route ends"), Completion::Invoked)
        });
        let mut slot = match self.slot.take() {
            Some(mut slot) => {
                slot.set(call);
                slot
            }
            None => CallSlot::new(call),
        };
        if self.mean_nanos <= SHORT_NANOS {
            let begun = Instant::now();
            let polled = slot.poll(&mut Context::from_waker(Waker::noop()));
            self.note(begun.elapsed());
            if let Poll::Ready(completion) = polled {
                self.slot = Some(slot);
                return self.answered.push((ticket, completion));
            }
        } else {
            // After some calls, one call shows again how long the calls take.
            self.mean_nanos -= self.mean_nanos / FORGOTTEN_OF;
        }
        self.calls.spawn(async move {
            let completion = slot.await;
            (ticket, completion)
        });
    }

    fn note(&mut self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).min(COUNTED_MAX_NANOS);
        self.mean_nanos = self.mean_nanos - self.mean_nanos / MEAN_OF + took / MEAN_OF;
    }
}

/// Work that the route's own task polls.
enum Waiting {
    /// The common case, without a box.
    Publish {
        ticket: Ticket,
        route: Arc<RouteRunner>,
        started: Instant,
        publishing: Publishing,
    },
    Other(Ticket, BoxedWork),
}

impl Future for Waiting {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        match &mut *self {
            Self::Publish { ticket, route, started, publishing } => publishing.poll_unpin(context).map(|published| {
                route.metrics.published(started.elapsed());
                (*ticket, Completion::Published(published))
            }),
            Self::Other(ticket, work) => work.as_mut().poll(context).map(|completion| (*ticket, completion)),
        }
    }
}

/// Work whose panic leaves its delivery to the broker.
async fn guarded(work: impl Future<Output = Completion<Delivery>>) -> Completion<Delivery> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_panic| {
        tracing::error!("the handling of a delivery panicked, and its event stays unacknowledged; report this bug");
        Completion::Abandoned("the handling of the delivery failed")
    })
}

impl RouteRunner {
    /// Publishes, writes the dedupe record and acknowledges in one transaction.
    async fn commit(
        &self,
        deliveries: DeliveryGroup<Delivery>,
        batch: Batch,
        record: Option<DedupeRecord>,
    ) -> Result<Vec<Confirmed>, Box<FailedCommit<Delivery>>> {
        let started = Instant::now();
        self.metrics.publishing();
        let DeliveryGroup { first, entries } = deliveries;
        let result = self.broker.commit(Deliveries { first, others: entries }, batch, record).await;
        self.metrics.published(started.elapsed());
        result.map_err(|failed| {
            let (Deliveries { first, others }, unpublished) = *failed;
            Box::new(FailedCommit { deliveries: DeliveryGroup { first, entries: others }, unpublished })
        })
    }
}
