//! `POST /api/v1/events/stream/tickets`: a stream ticket.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use trunkline_event::now_ms;

use crate::backend::ApiState;
use crate::openapi::problem_response::ProblemResponse;
use crate::request::ticket::OPENS_WITHIN;
use crate::view::stream::StreamTicket;

/// Issue a stream ticket
///
/// The `EventSource` of a browser cannot send a token. A page therefore requests a stream ticket with its token, and opens
/// `/api/v1/events/stream?ticket=TICKET`. A stream ticket opens one stream within 60 s, and no other path. After that, the
/// stream ticket only resumes this stream, with the id of the last event and within 60 s after a connection ended. An
/// `EventSource` that reconnects by itself therefore needs no other stream ticket.
#[utoipa::path(
    post,
    path = "/api/v1/events/stream/tickets",
    tag = "events",
    operation_id = "issueStreamTicket",
    security((), ("token" = [])),
    responses(
        (status = 201, description = "The stream ticket", body = StreamTicket),
        ProblemResponse<401>, ProblemResponse<403>,
    )
)]
pub(crate) async fn issue(State(shared): State<ApiState>) -> Response {
    let ticket = StreamTicket { ticket: shared.tickets.issue(now_ms()), expires_s: OPENS_WITHIN.as_secs() };
    (StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(ticket)).into_response()
}
