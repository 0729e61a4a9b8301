//! The work of a route: performs the requests of the executor on the real broker and the real plugin, and gives the answers
//! back.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::list_queue::{ListQueue, Takeover};
use super::ports::{Completion, DeliveryGroup, ExecutorInput, FailedCommit, WorkRequest};
use super::reports::RoutePorts;
use super::state::Executor;
use crate::core::Ticket;
use crate::route_runner::RouteRunner;
use trunkline_broker::{
    Batch, BrokerStatus, Confirmed, DedupeRecord, Deliveries, Delivery, Receipt, Subscription, Unpublished,
};
use trunkline_telemetry::wait;

/// The deliveries of a route, with the tasks that work on them.
pub(super) struct Work {
    executor: Executor<RoutePorts>,
    tasks: Tasks,
    began: Instant,
}

/// The tasks that perform requests.
struct Tasks {
    route: Arc<RouteRunner>,
    running: JoinSet<(Ticket, Completion<Delivery>)>,
    /// The queue of the waiting list, while this daemon leads its ordered route.
    list_queue: Option<ListQueue>,
}

impl Work {
    pub(super) fn new(route: Arc<RouteRunner>) -> Self {
        let began = Instant::now();
        let ports = RoutePorts::new(route.clone(), began);
        let executor = Executor::new(route.profile.clone(), ports, fastrand::Rng::new());
        Self { executor, tasks: Tasks { route, running: JoinSet::new(), list_queue: None }, began }
    }

    /// When the executor began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Whether another delivery should be taken.
    pub(super) fn wants(&self) -> bool {
        self.executor.wants()
    }

    /// Deliveries in work.
    pub(super) fn held(&self) -> usize {
        self.executor.held()
    }

    /// Time within which no held or new delivery can begin; none when work is in progress or may begin.
    pub(super) fn nothing_begins_for(&self) -> Option<Duration> {
        self.executor.nothing_begins_for()
    }

    /// Whether nothing new is begun.
    pub(super) fn is_draining(&self) -> bool {
        self.executor.is_draining()
    }

    /// The queue of the waiting list, while this daemon leads its ordered route.
    pub(super) fn list_queue(&self) -> Option<&ListQueue> {
        self.tasks.list_queue.as_ref()
    }

    /// This daemon leads its ordered route from now on.
    pub(super) fn lead(&mut self, taken_over: Takeover) {
        let Takeover { queue, list, began } = taken_over;
        self.tasks.list_queue = Some(queue);
        self.step([ExecutorInput::Leading { list, began }]);
    }

    /// This daemon leads its ordered route no longer. Gives the subscription of the waiting list.
    pub(super) fn resign(&mut self) -> Option<Subscription> {
        let queue = self.tasks.list_queue.take()?;
        self.step([ExecutorInput::Resigned]);
        Some(queue.resign())
    }

    /// Takes a delivery in.
    pub(super) fn arrived(&mut self, delivery: Delivery) {
        self.step([ExecutorInput::Arrived(delivery)]);
    }

    /// Deliveries come from a new subscription, in this session of the broker.
    pub(super) fn subscribed(&mut self, session: u64) {
        self.step([ExecutorInput::Subscribed { session }]);
    }

    /// The subscription is over.
    pub(super) fn unsubscribed(&mut self) {
        self.step([ExecutorInput::Unsubscribed]);
    }

    /// The broker's state changed.
    pub(super) fn status(&mut self, status: &BrokerStatus) {
        let session = status.connected.then_some(status.session);
        self.step([ExecutorInput::Broker { session, blocked: status.blocked }]);
    }

    /// Begins nothing new from here on.
    pub(super) fn drain(&mut self) {
        self.tasks.route.handler.drain();
        self.step([ExecutorInput::Drain]);
    }

    /// Waits until tasks end or time has changed something, and goes on from there.
    pub(super) async fn progress(&mut self) {
        let deadline = self.executor.deadline().map(|deadline| self.began + deadline);
        let sleep = async {
            match deadline {
                Some(deadline) => wait::until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let list_queue = &mut self.tasks.list_queue;
        let listed = async {
            match list_queue {
                Some(queue) => queue.next().await,
                None => std::future::pending().await,
            }
        };
        let running = &mut self.tasks.running;
        tokio::select! {
            biased;
            Some(first) = running.join_next(), if !running.is_empty() => {
                // All that has ended is taken at once.
                let ended = std::iter::once(first).chain(std::iter::from_fn(|| running.try_join_next()));
                let completed = ended.filter_map(Result::ok);
                let inputs = completed.map(|(ticket, result)| ExecutorInput::Completed(ticket, result));
                let requests = self.executor.step(inputs);
                requests.for_each(|request| self.tasks.perform(request));
            }
            input = listed => self.step(input),
            () = sleep => self.step([ExecutorInput::Tick]),
        }
    }

    /// Leaves every delivery to the broker; gives their number.
    pub(super) async fn abandon(&mut self) -> usize {
        self.tasks.running.shutdown().await;
        self.executor.abandon()
    }

    fn step(&mut self, inputs: impl IntoIterator<Item = ExecutorInput<Delivery>>) {
        let requests = self.executor.step(inputs);
        requests.for_each(|request| self.tasks.perform(request));
    }
}

impl Tasks {
    fn perform(&mut self, request: WorkRequest<Delivery>) {
        match request {
            WorkRequest::Settle(delivery, settlement) => delivery.settle(settlement),
            WorkRequest::Publish(ticket, batch) => {
                self.spawn(ticket, |route| async move { Completion::Published(route.publish(batch).await) });
            }
            WorkRequest::Commit { ticket, deliveries, batch, record } => self.spawn(ticket, |route| async move {
                Completion::Committed(route.commit(deliveries, batch, record).await)
            }),
            WorkRequest::Invoke { ticket, event, received_at } => self.spawn(ticket, |route| async move {
                let called = route.call(event, received_at).await;
                called.map_or(Completion::Abandoned("the route ends"), Completion::Invoked)
            }),
            WorkRequest::LookUp(ticket, record) => {
                self.spawn(ticket, |route| async move { Completion::LookedUp(route.broker.look_up(&record).await) })
            }
            WorkRequest::WriteRecord(ticket, record) => self.spawn(ticket, |route| async move {
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

    fn spawn<F>(&mut self, ticket: Ticket, task: impl FnOnce(Arc<RouteRunner>) -> F)
    where
        F: Future<Output = Completion<Delivery>> + Send + 'static,
    {
        // The future of a call is large, and is moved a few times before it runs.
        let guarded = AssertUnwindSafe(Box::pin(task(self.route.clone()))).catch_unwind();
        self.running.spawn(async move {
            let completion = guarded.await.unwrap_or_else(|_panic| {
                tracing::error!(
                    "the handling of a delivery panicked, and its event stays unacknowledged; report this bug"
                );
                Completion::Abandoned("the handling of the delivery failed")
            });
            (ticket, completion)
        });
    }
}

impl RouteRunner {
    /// Publishes the unconfirmed messages of a batch, and counts how long that took.
    async fn publish(&self, batch: Batch) -> Result<Receipt, Unpublished> {
        let started = Instant::now();
        self.metrics.publishing();
        let result = self.broker.publish(batch).await;
        self.metrics.published(started.elapsed());
        result
    }

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
