//! `POST /hooks/…`: checks the sender and passes the request to the backend.

use std::borrow::Cow;
use std::time::SystemTime;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use trunkline_config::{Hook, SenderAnswer};
use trunkline_telemetry::{self as telemetry, HookResult};

use crate::backend::ApiState;
use crate::openapi::problem_response::ProblemResponse;
use crate::problem::Problem;
use crate::request::body;
use crate::request::measured::MeasuredPath;
use crate::sender::{form, handshake, proof};
use crate::view::event::Accepted;
use crate::view::hook::HookRequest;

/// The result of a request that the hook does not refuse.
enum HookReply {
    /// The events are confirmed.
    Published(Vec<Accepted>),
    /// The request was a handshake.
    Handshake(Response),
}

/// Receive a webhook
///
/// The daemon publishes the body as an event, with the settings in `[hooks.NAME]`. The path of the request is the path of the
/// hook, or a path below the path of the hook. After the broker's confirm, the daemon answers with the hook's `status`. If the
/// hook accepted an event with the same id before, the daemon answers with 200 and `repeated`. The rest of the event may then
/// differ. A hook with a `token` needs the token in the header `Authorization: Bearer` or `X-Hook-Token`. A hook with a
/// `signature` needs an HMAC-SHA256 of the body. A hook with a `provider` needs the proof that the sender documents. The daemon
/// also answers the GET, OPTIONS and POST requests of the sender's handshake.
#[utoipa::path(
    post,
    path = "/hooks/{path}",
    tag = "hooks",
    operation_id = "receiveHook",
    params(
        ("path" = String, Path, description = "Path of the hook below `/hooks/`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Id of the event"),
        ("X-Hook-Token" = Option<String>, Header, description = "Token of the hook"),
    ),
    request_body(content = serde_json::Value, description = "The webhook's body"),
    responses(
        (status = 200, description = "The broker has confirmed the event, and the hook's `status` is 200. Or the hook accepted an event with the same id before", body = Accepted),
        (status = 201, description = "The broker has confirmed the event, and the hook's `status` is 201", body = Accepted),
        (status = 202, description = "The broker has confirmed the event", body = Accepted),
        (status = 204, description = "The broker has confirmed the event, and the hook's `status` is 204"),
        ProblemResponse<400>, ProblemResponse<401>, ProblemResponse<403>, ProblemResponse<404>, ProblemResponse<408>, ProblemResponse<413>, ProblemResponse<415>, ProblemResponse<422>, ProblemResponse<503>,
        ProblemResponse<507>,
    )
)]
pub(crate) async fn receive(State(shared): State<ApiState>, uri: Uri, headers: HeaderMap, body: Body) -> Response {
    let Some(hook) = shared.backend.hook(uri.path()) else {
        return Problem::not_found_because("no hook of routes.toml has this path").into_response();
    };
    let reply = accept(&shared, &hook, &uri, &headers, body).await;
    answer(&hook, reply)
}

/// Answers handshakes without a body. Hooks without such a handshake accept only POST.
pub(crate) async fn greet(State(shared): State<ApiState>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let hook = shared.backend.hook(uri.path());
    let reply = hook.as_ref().and_then(|hook| handshake::without_body(hook, &method, uri.query(), &headers));
    if let Some((hook, reply)) = hook.as_ref().zip(reply) {
        return answer(hook, reply.map(HookReply::Handshake));
    }
    let mut response = Problem::method_not_allowed().into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

async fn accept(
    shared: &ApiState,
    hook: &Hook,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<HookReply, Problem> {
    proof::check_head(hook, headers, uri.query())?;
    let sent = body::read(headers, body, shared.max_body_bytes).await?;
    if let Some(response) = handshake::of_certificate(hook, headers, &sent) {
        return Ok(HookReply::Handshake(response));
    }
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let body = match proof::check_body(hook, headers, &sent, now) {
        Ok(()) => body::decoded(headers, &sent, shared.max_body_bytes)?.unwrap_or(sent),
        // Some senders sign the body before they compress the body.
        Err(refused) => {
            let decoded = body::decoded(headers, &sent, shared.max_body_bytes).ok().flatten().ok_or(refused)?;
            proof::check_body(hook, headers, &decoded, now)?;
            decoded
        }
    };
    if let Some(response) = handshake::with_body(hook, headers, &body) {
        return Ok(HookReply::Handshake(response));
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let cloudevent: Vec<_> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().strip_prefix("ce-")?.to_owned(), attribute(value)?)))
        .collect();
    let named: Vec<_> = hook.headers().filter_map(|name| Some((name.to_owned(), text(name)?))).collect();
    let events = form::events(hook, headers, body)?;
    // The id of the request cannot be the id of several events.
    let id = body::idempotency_key(headers)?.filter(|_| events.len() == 1);
    let (mut published, mut refused) = (Vec::new(), None);
    for event in events {
        let request = HookRequest {
            id: id.clone(),
            content_type: event.content_type,
            cloudevent: cloudevent.clone(),
            headers: named.clone(),
            body: event.body,
        };
        match shared.backend.receive(hook.clone(), request).await {
            Ok(accepted) => published.push(accepted),
            // A refused event stops no other event of the list, because the sender would send the same list again.
            Err(problem) if problem.status() < 500 => _ = refused.get_or_insert(problem),
            Err(problem) => return Err(problem),
        }
    }
    refused.map_or(Ok(HookReply::Published(published)), Err)
}

/// The attribute in a `ce-` header. The function removes quotes and then percent-encoding (CloudEvents HTTP binding, section
/// 3.1.3.2). The result is `None` if the value is not UTF-8.
fn attribute(value: &HeaderValue) -> Option<String> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).map(|quoted| {
        let mut characters = quoted.chars();
        let mut unescaped = String::with_capacity(quoted.len());
        while let Some(character) = characters.next() {
            unescaped.push(if character == '\\' { characters.next().unwrap_or(character) } else { character });
        }
        unescaped
    });
    let text = unquoted.as_deref().unwrap_or(text);
    Some(percent_decode_str(text).decode_utf8().map_or_else(|_| text.to_owned(), Cow::into_owned))
}

fn answer(hook: &Hook, reply: Result<HookReply, Problem>) -> Response {
    let mut response = match reply {
        Ok(HookReply::Handshake(response)) => {
            telemetry::hook_answered(&hook.name, HookResult::Handshake);
            response
        }
        Ok(HookReply::Published(events)) => {
            let is_repeated = events.iter().all(|event| event.repeated);
            let result = if is_repeated { HookResult::Repeated } else { HookResult::Accepted };
            telemetry::hook_answered(&hook.name, result);
            accepted(hook, events, result)
        }
        Err(problem) => {
            telemetry::hook_refused(&hook.name, problem.status(), problem.detail());
            problem.into_response()
        }
    };
    response.extensions_mut().insert(MeasuredPath(hook.path.clone()));
    response
}

/// The response to accepted events. The body is one object for one event, and a list for several events. A repeated event gets the
/// status 200.
fn accepted(hook: &Hook, mut events: Vec<Accepted>, result: HookResult) -> Response {
    let status = StatusCode::from_u16(hook.status).unwrap_or(StatusCode::ACCEPTED);
    let answers = hook.provider.as_ref().map_or(SenderAnswer::Accepted, |provider| provider.profile.answer);
    let status = match result {
        HookResult::Repeated if status != StatusCode::NO_CONTENT => StatusCode::OK,
        HookResult::Repeated | HookResult::Accepted | HookResult::Handshake => status,
    };
    if status == StatusCode::NO_CONTENT || answers == SenderAnswer::Empty {
        return status.into_response();
    }
    match events.pop() {
        Some(event) if events.is_empty() => (status, Json(event)).into_response(),
        last => (status, Json(events.into_iter().chain(last).collect::<Vec<_>>())).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_cloudevents() {
        for (value, expected) in [
            ("order.placed", Some("order.placed")),
            ("%2Fshop%2F%E2%82%AC%201", Some("/shop/\u{20ac} 1")),
            ("2026-11-21T10%3A00%3A00Z", Some("2026-11-21T10:00:00Z")),
            ("\"a \\\"b\\\" %41\"", Some("a \"b\" A")),
            ("\u{e4}", Some("\u{e4}")),
            ("100%", Some("100%")),
            ("%ff", Some("%ff")),
            ("\"", Some("\"")),
        ] {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            assert_eq!(attribute(&value).as_deref(), expected, "{value:?}");
        }
        assert_eq!(attribute(&HeaderValue::from_bytes(b"\xff").expect("a value")), None);
    }
}
