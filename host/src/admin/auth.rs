//! Bearer tokens (RFC 6750), compared in constant time. Without any configured, who reaches the listener may publish;
//! the configuration refuses that on anything but loopback unless it is asked for.

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::{Problem, Shared};

pub(super) async fn require_token(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    if shared.tokens.is_empty() || is_known(&shared, &request) {
        return next.run(request).await;
    }
    Problem::unauthorized().into_response()
}

fn is_known(shared: &Shared, request: &Request) -> bool {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, token)) = given.and_then(|value| value.split_once(' ')) else {
        return false;
    };
    let matches = |known: &crate::config::Token| bool::from(known.expose().as_bytes().ct_eq(token.trim().as_bytes()));
    scheme.eq_ignore_ascii_case("bearer") && shared.tokens.iter().any(matches)
}
