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

use super::{Accepted, PublishRequest, json, object};
use crate::openapi::Answers;
use crate::{Problem, Shared, body};

/// Events of one request.
const EVENTS_MAX: usize = 1000;

/// The body: events to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchRequest {
    /// One to a thousand. Each is read by itself, so that a bad one does not keep the others from being published.
    #[schema(value_type = Vec<PublishRequest>, min_items = 1, max_items = 1000)]
    events: Vec<Box<RawValue>>,
}

/// What became of each event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchAnswer {
    /// How many the broker has confirmed, repeated ones among them.
    accepted: usize,
    /// How many were not taken.
    refused: usize,
    /// One for each event, in their order.
    results: Vec<BatchResult>,
}

/// What became of one event; `event` or `problem` is there.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchResult {
    /// The status that `POST /api/v1/events` would have answered.
    status: u16,
    /// When it is confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Accepted>,
    /// When it is not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// Publish many events
///
/// They are published side by side, and the answer comes when each is confirmed or refused. An `Idempotency-Key` gives
/// those without an `id` theirs: the key, a point, and the event's place from 0.
#[utoipa::path(
    post,
    path = "/api/v1/events/batch",
    tag = "events",
    operation_id = "publishEvents",
    security((), ("token" = [])),
    request_body = BatchRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes ids for events that have none")),
    responses(
        (status = 202, description = "All are confirmed by the broker", body = BatchAnswer),
        (status = 207, description = "Some were not taken: each has its own status. `Retry-After` when some may be taken later", body = BatchAnswer),
        Answers<400>, Answers<401>, Answers<408>, Answers<413>, Answers<415>,
    )
)]
pub(crate) async fn publish_batch(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
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

async fn accept(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<BatchAnswer, Problem> {
    let body = json(shared, headers, body).await?;
    let key = body::idempotency_key(headers)?;
    let BatchRequest { events } = object(&body)?;
    if events.is_empty() || events.len() > EVENTS_MAX {
        let problem = format!("`events` holds {}; a batch is 1 to {EVENTS_MAX} events", events.len());
        return Err(Problem::bad_request(problem));
    }
    let publishing = events.iter().enumerate().map(async |(place, event)| {
        let mut request: PublishRequest = object(event.get().as_bytes())?;
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
