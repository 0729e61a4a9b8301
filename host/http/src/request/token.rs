//! Bearer tokens (RFC 6750), compared in constant time. Without a configured token every client that reaches the listener
//! may publish. The configuration refuses a listener beyond loopback without tokens, unless `insecure` is set. In place of a token,
//! the path of a stream takes a ticket.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use trunkline_event::now_ms;

use super::last_event::last_event_id;
use super::query;
use super::ticket::{STREAM_PATH, TICKET};
use crate::backend::ApiState;
use crate::problem::Problem;

/// Refuses a request without one of `[http] tokens`, if there are any. A request for a stream may have a ticket instead. The handler
/// then gets the lease of the ticket.
pub(crate) async fn require_token(State(shared): State<ApiState>, mut request: Request, next: Next) -> Response {
    if shared.tokens.is_empty() || is_known(&shared, request.headers()) {
        return next.run(request).await;
    }
    let Some(ticket) = ticket(&request) else { return Problem::unauthorized().into_response() };
    let last_event_id = last_event_id(request.uri().query(), request.headers());
    match shared.tickets.admit(&ticket, last_event_id.as_deref(), now_ms()) {
        Ok(lease) => {
            request.extensions_mut().insert(Arc::new(lease));
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// The ticket of a request for a stream.
fn ticket(request: &Request) -> Option<String> {
    let is_for_stream = request.method() == Method::GET && request.uri().path() == STREAM_PATH;
    query::value(request.uri().query(), TICKET).filter(|_| is_for_stream)
}

fn is_known(shared: &ApiState, headers: &HeaderMap) -> bool {
    let Some(token) = bearer(headers) else { return false };
    let matches = |known: &trunkline_config::Secret| bool::from(known.expose().as_bytes().ct_eq(token.as_bytes()));
    shared.tokens.iter().any(matches)
}

/// The bearer token of a request.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = given.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
