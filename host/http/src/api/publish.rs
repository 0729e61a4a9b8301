//! `POST /api/v1/events`

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::backend::ApiState;
use crate::openapi::problem_response::ProblemResponse;
use crate::problem::Problem;
use crate::request::{body, json};
use crate::view::event::{Accepted, PublishRequest};

/// Publish an event
///
/// The daemon answers after the broker's confirm. A client may repeat a request with an `id` or an `Idempotency-Key`. The
/// daemon publishes the event only once within the time of `[http] dedupe`, which is 24 hours by default.
#[utoipa::path(
    post,
    path = "/api/v1/events",
    tag = "events",
    operation_id = "publishEvent",
    security((), ("token" = [])),
    request_body = PublishRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Id of the event. If the body also has an `id`, the header and the `id` must be equal.")),
    responses(
        (status = 202, description = "The broker has confirmed the event", body = Accepted),
        ProblemResponse<400>, ProblemResponse<401>, ProblemResponse<403>, ProblemResponse<408>, ProblemResponse<413>, ProblemResponse<415>, ProblemResponse<422>, ProblemResponse<503>,
        ProblemResponse<507>,
    )
)]
pub(crate) async fn publish(State(shared): State<ApiState>, headers: HeaderMap, body: Body) -> Response {
    match accept(&shared, &headers, body).await {
        Ok(accepted) => (StatusCode::ACCEPTED, Json(accepted)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn accept(shared: &ApiState, headers: &HeaderMap, body: Body) -> Result<Accepted, Problem> {
    let body = json::read(shared, headers, body).await?;
    let key = body::idempotency_key(headers)?;
    let mut request: PublishRequest = json::object(&body)?;
    match (&request.id, key) {
        (Some(id), Some(key)) if *id != key => {
            return Err(Problem::bad_request(
                "`id` and the header `Idempotency-Key` have different values; send only one of the two, or send the same value in both",
            ));
        }
        (None, Some(key)) => request.id = Some(key),
        (_, Some(_) | None) => {}
    }
    shared.backend.publish(request).await
}
