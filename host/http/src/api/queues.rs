//! `GET /api/v1/events/queues` and `/stats`

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::backend::ApiState;
use crate::openapi::problem_response::ProblemResponse;
use crate::view::queue::{QueuesView, RatesView, Role};

/// Sums over the queues of routes.toml.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct StatsView {
    /// Source of the figures, as in `GET /api/v1/events/queues`.
    #[schema(value_type = String)]
    source: &'static str,
    /// Sentences about figures that the broker did not report.
    problems: Vec<String>,
    /// Number of queues with the role `work`.
    queues: usize,
    /// Number of messages that wait for delivery in queues with the role `work`.
    ready: u64,
    /// Number of messages of queues with the role `work` that are delivered and not acknowledged. Null if the broker reports no
    /// figure.
    unacknowledged: Option<u64>,
    /// Number of consumers of queues with the role `work`.
    consumers: u64,
    /// Sum of the reported rates of queues with the role `work`. Null if the broker reports no rates.
    rates: Option<RatesView>,
    /// Number of events that wait for a retry. Null for RabbitMQ, where the events wait in the delay queues.
    retrying: Option<u64>,
    /// Number of messages in the delay queues, as in `GET /api/v1/events/queues`.
    delayed: Option<u64>,
    /// Number of messages in all dead-letter queues.
    dead_letters: u64,
    /// Number of messages in each dead-letter queue.
    dead_letters_by_queue: BTreeMap<String, u64>,
}

/// Show the queues
///
/// The response has the depth, the consumers, the rates and the dead letters of every queue of routes.toml.
#[utoipa::path(
    get,
    path = "/api/v1/events/queues",
    tag = "events",
    operation_id = "listQueues",
    security((), ("token" = [])),
    responses(
        (status = 200, description = "Every queue of routes.toml that exists", body = QueuesView),
        ProblemResponse<401>, ProblemResponse<503>,
    )
)]
pub(crate) async fn show_queues(State(shared): State<ApiState>) -> Response {
    match shared.backend.queues().await {
        Ok(view) => Json(view).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Show sums over the queues
///
/// The response has the sums of the figures of `GET /api/v1/events/queues`.
#[utoipa::path(
    get,
    path = "/api/v1/events/stats",
    tag = "events",
    operation_id = "getStatistics",
    security((), ("token" = [])),
    responses(
        (status = 200, description = "The sums over the queues", body = StatsView),
        ProblemResponse<401>, ProblemResponse<503>,
    )
)]
pub(crate) async fn show_stats(State(shared): State<ApiState>) -> Response {
    match shared.backend.queues().await {
        Ok(view) => Json(StatsView::of(view)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

impl StatsView {
    fn of(view: QueuesView) -> Self {
        let of = |role: Role| view.queues.iter().filter(move |queue| queue.role == role);
        // A queue without traffic has no rates.
        let rates = of(Role::Work).filter_map(|queue| queue.rates).reduce(RatesView::plus);
        let dead = of(Role::DeadLetter).map(|queue| (queue.name.clone(), queue.messages())).collect::<BTreeMap<_, _>>();
        Self {
            queues: of(Role::Work).count(),
            ready: of(Role::Work).map(|queue| queue.ready).sum(),
            // One unknown figure makes the sum unknown.
            unacknowledged: of(Role::Work).map(|queue| queue.unacknowledged).sum(),
            consumers: of(Role::Work).map(|queue| queue.consumers).sum(),
            rates,
            retrying: view.queues.iter().map(|queue| queue.retrying).sum(),
            delayed: view.delayed,
            dead_letters: dead.values().sum(),
            dead_letters_by_queue: dead,
            source: view.source,
            problems: view.problems,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::queue::QueueView;

    fn queue(name: &str, role: Role, ready: u64, unacknowledged: Option<u64>) -> QueueView {
        let rates =
            unacknowledged.map(|_| RatesView { publish: Some(1.0), deliver: Some(2.0), acknowledge: Some(3.0) });
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
    fn sums_are_by_role_and_unknown_when_a_part_is_unknown() {
        let mut queues = vec![
            queue("a", Role::Work, 3, Some(1)),
            queue("b", Role::Work, 4, Some(2)),
            queue("a.dlq", Role::DeadLetter, 6, Some(1)),
        ];
        let sum = |queues: &[QueueView]| {
            let (problems, queues) = (Vec::new(), queues.to_vec());
            StatsView::of(QueuesView { source: "embedded", delayed: Some(5), problems, queues, removable: Vec::new() })
        };
        let all = sum(&queues);
        assert_eq!((all.queues, all.ready, all.unacknowledged, all.consumers), (2, 7, Some(3), 2));
        let sums = RatesView { publish: Some(2.0), deliver: Some(4.0), acknowledge: Some(6.0) };
        assert_eq!(all.rates, Some(sums));
        assert_eq!((all.retrying, all.delayed, all.dead_letters), (Some(30), Some(5), 7));
        assert_eq!(all.dead_letters_by_queue, BTreeMap::from([("a.dlq".to_owned(), 7)]));
        queues.push(queue("c", Role::Work, 0, None));
        let some = sum(&queues);
        assert_eq!((some.ready, some.unacknowledged, some.retrying, some.rates), (7, None, None, Some(sums)));
        let one = RatesView { publish: Some(5.0), ..RatesView::default() };
        queues.push(QueueView { rates: Some(one), ..queue("d", Role::Work, 0, None) });
        assert_eq!(sum(&queues).rates, Some(RatesView { publish: Some(7.0), ..sums }), "a missing rate is not 0");
        assert_eq!(sum(&[QueueView { rates: Some(one), ..queue("e", Role::Work, 0, None) }]).rates, Some(one));
        assert_eq!(sum(&[queue("c", Role::Work, 0, None)]).rates, None);
    }
}
