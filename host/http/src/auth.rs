//! Bearer tokens (RFC 6750), compared in constant time. Without any configured, who reaches the listener may publish;
//! the configuration refuses that on anything but loopback unless it is asked for.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::{Problem, Shared};

pub(super) async fn require_token(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    if shared.tokens.is_empty() || is_known(&shared, request.headers()) {
        return next.run(request).await;
    }
    Problem::unauthorized().into_response()
}

fn is_known(shared: &Shared, headers: &HeaderMap) -> bool {
    let Some(token) = bearer(headers) else { return false };
    let matches = |known: &trunkline_config::Token| bool::from(known.expose().as_bytes().ct_eq(token.as_bytes()));
    shared.tokens.iter().any(matches)
}

/// The bearer token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = given.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
