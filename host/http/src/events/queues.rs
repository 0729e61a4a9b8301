//! `GET /api/v1/events/queues` and `/stats`

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::Shared;
use crate::openapi::Answers;

/// What the broker tells of the queues of routes.toml.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct QueuesView {
    /// Where the figures come from: `embedded`; `amqp`, which tells ready messages and consumers only; `management`, which
    /// adds unacknowledged messages and rates that are some seconds old.
    #[schema(value_type = String)]
    pub source: &'static str,
    /// What the broker could not tell, as sentences.
    pub problems: Vec<String>,
    /// In the order of their names.
    pub queues: Vec<QueueView>,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Messages that can be delivered.
    pub ready: u64,
    /// Messages that are delivered and not answered; null where the broker does not tell.
    pub unacknowledged: Option<u64>,
    /// Events of it that the broker holds back until they are tried again; null where they wait in queues of their own, with
    /// the role `retry`.
    pub retrying: Option<u64>,
    /// Consumers, those of other programs too.
    pub consumers: u64,
    /// Since the first ready message was published, in seconds; null where the broker does not tell.
    pub oldest_age_seconds: Option<f64>,
    /// Messages a second; null where the broker does not tell.
    pub rates: Option<RatesView>,
    /// Where messages go that nobody could handle.
    pub dead_letter_queue: Option<String>,
    /// Messages there; several queues may share one.
    pub dead_letters: Option<u64>,
}

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Work, or output of ours.
    Work,
    /// Events wait in it until they are tried again.
    Retry,
    /// Messages that nobody could handle.
    DeadLetter,
}

/// Messages a second, the mean of the last seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, ToSchema)]
pub struct RatesView {
    /// Into the queue.
    pub publish: f64,
    /// To consumers.
    pub deliver: f64,
    /// Acknowledged by consumers.
    pub acknowledge: f64,
}

/// Sums over the queues of routes.toml.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct StatsView {
    /// As in `GET /api/v1/events/queues`.
    #[schema(value_type = String)]
    source: &'static str,
    /// As there.
    problems: Vec<String>,
    /// Queues of work.
    queues: usize,
    /// Messages in them that can be delivered.
    ready: u64,
    /// Messages of them that are delivered and not answered; null where the broker does not tell.
    unacknowledged: Option<u64>,
    /// Their consumers.
    consumers: u64,
    /// Their rates together; null where the broker does not tell.
    rates: Option<RatesView>,
    /// Events that wait to be tried again: in retry queues, or held back by the embedded broker.
    retrying: u64,
    /// Messages in dead-letter queues.
    dead_letters: u64,
    /// Those by queue.
    dead_letters_by_queue: BTreeMap<String, u64>,
}

/// Show the queues
///
/// Depth, consumers, rates and dead letters of every queue of routes.toml, by the broker itself.
#[utoipa::path(
    get,
    path = "/api/v1/events/queues",
    tag = "events",
    operation_id = "listQueues",
    security((), ("token" = [])),
    responses(
        (status = 200, description = "All queues that are there", body = QueuesView),
        Answers<401>, Answers<503>,
    )
)]
pub(crate) async fn show_queues(State(shared): State<Shared>) -> Response {
    match shared.backend.queues().await {
        Ok(view) => Json(view).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Show the queues in sum
///
/// What `GET /api/v1/events/queues` tells, added up.
#[utoipa::path(
    get,
    path = "/api/v1/events/stats",
    tag = "events",
    operation_id = "getStatistics",
    security((), ("token" = [])),
    responses(
        (status = 200, description = "The sums", body = StatsView),
        Answers<401>, Answers<503>,
    )
)]
pub(crate) async fn show_stats(State(shared): State<Shared>) -> Response {
    match shared.backend.queues().await {
        Ok(view) => Json(StatsView::of(view)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

impl QueueView {
    fn messages(&self) -> u64 {
        self.ready + self.unacknowledged.unwrap_or_default()
    }
}

impl StatsView {
    fn of(view: QueuesView) -> Self {
        let of = |role: Role| view.queues.iter().filter(move |queue| queue.role == role);
        // One that is not told makes the sum unknown, never smaller.
        let rates = of(Role::Work).map(|queue| queue.rates).sum::<Option<RatesView>>();
        let dead = of(Role::DeadLetter).map(|queue| (queue.name.clone(), queue.messages())).collect::<BTreeMap<_, _>>();
        Self {
            queues: of(Role::Work).count(),
            ready: of(Role::Work).map(|queue| queue.ready).sum(),
            unacknowledged: of(Role::Work).map(|queue| queue.unacknowledged).sum(),
            consumers: of(Role::Work).map(|queue| queue.consumers).sum(),
            rates,
            retrying: of(Role::Retry).map(QueueView::messages).sum::<u64>()
                + view.queues.iter().filter_map(|queue| queue.retrying).sum::<u64>(),
            dead_letters: dead.values().sum(),
            dead_letters_by_queue: dead,
            source: view.source,
            problems: view.problems,
        }
    }
}

impl std::iter::Sum for RatesView {
    fn sum<I: Iterator<Item = Self>>(rates: I) -> Self {
        rates.fold(Self::default(), |sum, one| Self {
            publish: sum.publish + one.publish,
            deliver: sum.deliver + one.deliver,
            acknowledge: sum.acknowledge + one.acknowledge,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str, role: Role, ready: u64, unacknowledged: Option<u64>) -> QueueView {
        let rates = unacknowledged.map(|_| RatesView { publish: 1.0, deliver: 2.0, acknowledge: 3.0 });
        QueueView {
            name: name.to_owned(),
            role,
            ready,
            unacknowledged,
            retrying: unacknowledged.map(|_| 10),
            consumers: 1,
            oldest_age_seconds: None,
            rates,
            dead_letter_queue: None,
            dead_letters: None,
        }
    }

    #[test]
    fn sums_are_by_role_and_unknown_when_a_part_is() {
        let mut queues = vec![
            queue("a", Role::Work, 3, Some(1)),
            queue("b", Role::Work, 4, Some(2)),
            queue("a.retry.1000", Role::Retry, 5, None),
            queue("a.dlq", Role::DeadLetter, 6, Some(1)),
        ];
        let sum = |queues: &[QueueView]| {
            StatsView::of(QueuesView { source: "embedded", problems: Vec::new(), queues: queues.to_vec() })
        };
        let all = sum(&queues);
        assert_eq!((all.queues, all.ready, all.unacknowledged, all.consumers), (2, 7, Some(3), 2));
        assert_eq!(all.rates, Some(RatesView { publish: 2.0, deliver: 4.0, acknowledge: 6.0 }));
        assert_eq!((all.retrying, all.dead_letters), (35, 7));
        assert_eq!(all.dead_letters_by_queue, BTreeMap::from([("a.dlq".to_owned(), 7)]));
        queues.push(queue("c", Role::Work, 0, None));
        let some = sum(&queues);
        assert_eq!((some.ready, some.unacknowledged, some.rates), (7, None, None));
    }
}
