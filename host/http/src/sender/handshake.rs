//! Handshakes. With a handshake, a sender checks the address of a hook before the sender sends events.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use trunkline_config::{Hook, HookProvider, SenderHandshake};

use super::form::is_form;
use crate::problem::Problem;
use crate::request::query;
use trunkline_event::without_byte_order_mark;

/// The type of Event Grid's validation event, and the header of a request with a validation event.
const VALIDATION: &str = "Microsoft.EventGrid.SubscriptionValidationEvent";
const VALIDATION_HEADER: (&str, &str) = ("aeg-event-type", "SubscriptionValidation");
/// Largest body of a handshake, in bytes.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// The response to a GET or OPTIONS request. The result is `None` if the hook does not accept the request.
pub(crate) fn without_body(
    hook: &Hook,
    method: &Method,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Option<Result<Response, Problem>> {
    let provider = hook.provider.as_ref()?;
    match provider.profile.handshake {
        SenderHandshake::Subscription if *method == Method::GET => Some(subscription(provider, query)),
        SenderHandshake::Challenge if *method == Method::GET && checks_certificate(query) => {
            Some(Ok(StatusCode::OK.into_response()))
        }
        SenderHandshake::Validation if *method == Method::OPTIONS => Some(permission(headers)),
        SenderHandshake::None
        | SenderHandshake::Subscription
        | SenderHandshake::Challenge
        | SenderHandshake::Validation => None,
    }
}

/// The response to a form with which Slack checks the certificate of the address. The form needs no signature, because the daemon
/// only answers. The result is `None` if the request is another request.
pub(crate) fn of_certificate(hook: &Hook, headers: &HeaderMap, body: &[u8]) -> Option<Response> {
    let has_challenge = hook.provider.as_ref()?.profile.handshake == SenderHandshake::Challenge;
    if !has_challenge || body.len() > HANDSHAKE_BYTES_MAX || !is_form(headers) {
        return None;
    }
    checks_certificate(Some(std::str::from_utf8(body).ok()?)).then(|| StatusCode::OK.into_response())
}

/// Whether a query or a form of Slack only checks the certificate of the address.
fn checks_certificate(fields: Option<&str>) -> bool {
    query::value(fields, "ssl_check").as_deref() == Some("1")
}

/// The response to a POST request that is a handshake. The result is `None` if the request is an event.
pub(crate) fn with_body(hook: &Hook, headers: &HeaderMap, body: &[u8]) -> Option<Response> {
    let handshake = hook.provider.as_ref()?.profile.handshake;
    let asks = matches!(handshake, SenderHandshake::Challenge | SenderHandshake::Validation);
    if !asks || body.len() > HANDSHAKE_BYTES_MAX {
        return None;
    }
    let body: Value = serde_json::from_slice(without_byte_order_mark(body)).ok()?;
    if handshake == SenderHandshake::Challenge {
        let challenge = body.get("challenge").and_then(Value::as_str);
        return challenge.filter(|_| body["type"] == "url_verification").map(|challenge| text(challenge.to_owned()));
    }
    let event = body.get(0)?;
    let has_header = headers.get(VALIDATION_HEADER.0).is_some_and(|value| value == VALIDATION_HEADER.1);
    let code = event["data"].get("validationCode").and_then(Value::as_str);
    let code = code.filter(|_| has_header || event["eventType"] == VALIDATION)?;
    Some(Json(json!({ "validationResponse": code })).into_response())
}

/// The response with `hub.challenge`, if the request has the token.
fn subscription(provider: &HookProvider, query: Option<&str>) -> Result<Response, Problem> {
    let value = |name: &str| query::value(query, name);
    let Some(token) = &provider.handshake_token else {
        return Err(Problem::forbidden(
            "the hook has no `handshake`, so the daemon cannot check `hub.verify_token`; add `handshake` to the hook in routes.toml",
        ));
    };
    let given = value("hub.verify_token").unwrap_or_default();
    if value("hub.mode").as_deref() != Some("subscribe")
        || !bool::from(token.expose().as_bytes().ct_eq(given.as_bytes()))
    {
        return Err(Problem::forbidden(
            "`hub.mode` must be `subscribe`, and `hub.verify_token` must be the token of `handshake`",
        ));
    }
    let challenge =
        value("hub.challenge").ok_or_else(|| Problem::bad_request("the parameter `hub.challenge` is missing"))?;
    Ok(text(challenge))
}

/// The response with the permission, as the CloudEvents specification of webhooks describes.
fn permission(headers: &HeaderMap) -> Result<Response, Problem> {
    let missing = || Problem::bad_request("the header `WebHook-Request-Origin` is missing");
    let origin = headers.get("webhook-request-origin").cloned().ok_or_else(missing)?;
    let permission = [
        (header::ALLOW, HeaderValue::from_static("POST")),
        (HeaderName::from_static("webhook-allowed-origin"), origin),
        (HeaderName::from_static("webhook-allowed-rate"), HeaderValue::from_static("*")),
    ];
    Ok((StatusCode::OK, permission).into_response())
}

/// The response with a text of the sender. The headers prevent a browser from showing the text as a page.
fn text(text: String) -> Response {
    let kind = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (StatusCode::OK, kind, text).into_response()
}
