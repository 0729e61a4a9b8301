//! `POST /api/v1/events/batch`

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::backend::ApiState;
use crate::openapi::problem_response::ProblemResponse;
use crate::problem::Problem;
use crate::request::{body, json};
use crate::view::event::{Accepted, PublishRequest};

/// Largest number of events in one request.
const EVENTS_MAX: usize = 1000;

/// The events of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchRequest {
    /// List of 1 to 1000 events. The daemon checks each event separately. An invalid event does not affect the other events.
    #[schema(value_type = Vec<PublishRequest>, min_items = 1, max_items = 1000)]
    events: Vec<Box<RawValue>>,
}

/// The results of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchAnswer {
    /// Number of confirmed events, including repeats.
    accepted: usize,
    /// Number of refused events.
    refused: usize,
    /// One result for each event, in the order of the request.
    results: Vec<BatchResult>,
}

/// The result of one event of a batch. Either `event` or `problem` is present.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchResult {
    /// HTTP status with which `POST /api/v1/events` would answer for this event.
    status: u16,
    /// The confirmed event.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Accepted>,
    /// The problem of a refused event.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// Publish many events
///
/// The daemon publishes the events at the same time. The daemon answers when every event is confirmed or refused. With an
/// `Idempotency-Key`, the id of an event without an `id` is the key, a dot and the position of the event, counted from 0.
#[utoipa::path(
    post,
    path = "/api/v1/events/batch",
    tag = "events",
    operation_id = "publishEvents",
    security((), ("token" = [])),
    request_body = BatchRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Prefix of the ids of events without an `id`")),
    responses(
        (status = 202, description = "The broker has confirmed every event", body = BatchAnswer),
        (status = 207, description = "Some events were refused. Each result has the status of its event. The header `Retry-After` is present if a later try may succeed.", body = BatchAnswer),
        ProblemResponse<400>, ProblemResponse<401>, ProblemResponse<408>, ProblemResponse<413>, ProblemResponse<415>,
    )
)]
pub(crate) async fn publish_batch(State(shared): State<ApiState>, headers: HeaderMap, body: Body) -> Response {
    match accept(&shared, &headers, body).await {
        Ok(answer) => {
            let status = if answer.refused == 0 { StatusCode::ACCEPTED } else { StatusCode::MULTI_STATUS };
            let problems = answer.results.iter().filter_map(|result| result.problem.as_ref());
            let retry_after = problems.filter_map(Problem::retry_after_s).max();
            let mut response = (status, Json(answer)).into_response();
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            response
        }
        Err(problem) => problem.into_response(),
    }
}

async fn accept(shared: &ApiState, headers: &HeaderMap, body: Body) -> Result<BatchAnswer, Problem> {
    let body = json::read(shared, headers, body).await?;
    let key = body::idempotency_key(headers)?;
    let BatchRequest { events } = json::object(&body)?;
    if events.is_empty() || events.len() > EVENTS_MAX {
        let problem = format!("`events` has {} events; a batch must have 1 to {EVENTS_MAX} events", events.len());
        return Err(Problem::bad_request(problem));
    }
    let publishing = events.iter().enumerate().map(async |(place, event)| {
        let mut request: PublishRequest = json::object(event.get().as_bytes())?;
        if let Some(key) = &key {
            request.id.get_or_insert_with(|| format!("{key}.{place}"));
        }
        shared.backend.publish(request).await
    });
    let results: Vec<BatchResult> = join_all(publishing).await.into_iter().map(BatchResult::from).collect();
    let accepted = results.iter().filter(|result| result.event.is_some()).count();
    Ok(BatchAnswer { accepted, refused: results.len() - accepted, results })
}

impl From<Result<Accepted, Problem>> for BatchResult {
    fn from(result: Result<Accepted, Problem>) -> Self {
        match result {
            Ok(event) => Self { status: StatusCode::ACCEPTED.as_u16(), event: Some(event), problem: None },
            Err(problem) => Self { status: problem.status(), event: None, problem: Some(problem) },
        }
    }
}
