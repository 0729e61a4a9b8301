//! The work of a route: gives everything that happens to the executor, and the requests that follow to the tasks.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::list_queue::{ListQueue, Takeover};
use super::ports::ExecutorInput;
use super::reports::RoutePorts;
use super::state::Executor;
use super::tasks::{Answer, Tasks};
use crate::route_runner::RouteRunner;
use trunkline_broker::{BrokerStatus, Delivery, Subscription};
use trunkline_telemetry::wait;

/// The deliveries of a route, with the tasks that work on them.
pub(super) struct Work {
    executor: Executor<RoutePorts>,
    tasks: Tasks,
    began: Instant,
}

impl Work {
    pub(super) fn new(route: Arc<RouteRunner>) -> Self {
        let began = Instant::now();
        let ports = RoutePorts::new(route.clone(), began);
        let executor = Executor::new(route.profile.clone(), ports, fastrand::Rng::new());
        Self { executor, tasks: Tasks::new(route), began }
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
        self.tasks.work.route().handler.drain();
        self.step([ExecutorInput::Drain]);
    }

    /// Waits until work is answered or time has changed something, and goes on from there.
    pub(super) async fn progress(&mut self) {
        let deadline = self.executor.deadline().map(|deadline| self.began + deadline);
        let sleep = async {
            match deadline {
                Some(deadline) => wait::until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let Tasks { work, list_queue } = &mut self.tasks;
        let listed = async {
            match list_queue {
                Some(queue) => queue.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answers = poll_fn(|context| work.poll_answers(context)), if !work.is_empty() => self.step(completed(answers)),
            input = listed => self.step(input),
            () = sleep => self.step([ExecutorInput::Tick]),
        }
    }

    /// Leaves every delivery to the broker; gives their number.
    pub(super) async fn abandon(&mut self) -> usize {
        self.tasks.work.shutdown().await;
        self.executor.abandon()
    }

    /// Gives inputs to the executor and begins the work that follows. Answers that come at once are the next inputs.
    fn step(&mut self, inputs: impl IntoIterator<Item = ExecutorInput<Delivery>>) {
        self.begin(inputs);
        loop {
            let answers = self.tasks.work.take_answered();
            if answers.is_empty() {
                return;
            }
            self.begin(completed(answers));
        }
    }

    fn begin(&mut self, inputs: impl IntoIterator<Item = ExecutorInput<Delivery>>) {
        let requests = self.executor.step(inputs);
        requests.for_each(|request| self.tasks.perform(request));
    }
}

/// Answers as inputs of the executor.
fn completed(answers: Vec<Answer>) -> impl Iterator<Item = ExecutorInput<Delivery>> {
    answers.into_iter().map(|(ticket, completion)| ExecutorInput::Completed(ticket, completion))
}
