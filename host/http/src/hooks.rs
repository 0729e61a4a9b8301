//! `POST /hooks/…`: who sends is checked here; what comes is an event for the [`Backend`](super::Backend).

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::openapi::Answers;
use super::{Accepted, Problem, Shared, auth, body};
use trunkline_config::Hook;

/// Headers that carry a CloudEvent, without their `ce-`; more than so many are not looked at.
const CLOUDEVENT_HEADERS_MAX: usize = 32;

/// A request to a hook, whose sender is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// `Idempotency-Key`.
    pub id: Option<String>,
    /// Media type of the body.
    pub content_type: Option<String>,
    /// `ce-*` headers, without the `ce-`.
    pub cloudevent: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// Take a webhook
///
/// The body becomes an event as `[hooks.NAME]` says, and the answer comes when the broker has confirmed it. Its status is
/// the hook's `status`. A hook with a `token` wants it as `Authorization: Bearer` or `X-Hook-Token`, one with a
/// `signature` an HMAC-SHA256 of the body.
#[utoipa::path(
    post,
    path = "/hooks/{path}",
    tag = "hooks",
    operation_id = "receiveHook",
    params(
        ("path" = String, Path, description = "The rest of the hook's path"),
        ("Idempotency-Key" = Option<String>, Header, description = "The event's id"),
        ("X-Hook-Token" = Option<String>, Header, description = "The hook's token"),
    ),
    request_body(content = serde_json::Value, description = "What the sender has to say"),
    responses(
        (status = 200, description = "Confirmed by the broker, where the hook says 200", body = Accepted),
        (status = 201, description = "Confirmed by the broker, where the hook says 201", body = Accepted),
        (status = 202, description = "Confirmed by the broker", body = Accepted),
        (status = 204, description = "Confirmed by the broker, where the hook says 204"),
        Answers<400>, Answers<401>, Answers<403>, Answers<404>, Answers<408>, Answers<413>, Answers<422>, Answers<503>,
        Answers<507>,
    )
)]
pub(super) async fn receive(State(shared): State<Shared>, uri: Uri, headers: HeaderMap, body: Body) -> Response {
    let Some(hook) = shared.backend.hook(uri.path()) else {
        return Problem::not_found_because("there is no hook at this path").into_response();
    };
    let status = StatusCode::from_u16(hook.status).unwrap_or(StatusCode::ACCEPTED);
    match accept(&shared, hook, &headers, body).await {
        Ok(_) if status == StatusCode::NO_CONTENT => status.into_response(),
        Ok(accepted) => (status, Json(accepted)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn accept(shared: &Shared, hook: Hook, headers: &HeaderMap, body: Body) -> Result<Accepted, Problem> {
    check_token(&hook, headers)?;
    let body = body::read(headers, body, shared.max_body_bytes).await?;
    check_signature(&hook, headers, &body)?;
    let text = |name: &header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let cloudevent = headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().strip_prefix("ce-")?.to_owned(), value.to_str().ok()?.to_owned()))
    });
    let received = Received {
        id: body::idempotency_key(headers)?,
        content_type: text(&header::CONTENT_TYPE),
        cloudevent: cloudevent.take(CLOUDEVENT_HEADERS_MAX).collect(),
        body: body.into(),
    };
    shared.backend.receive(hook, received).await
}

fn check_token(hook: &Hook, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(token) = &hook.token else { return Ok(()) };
    let own = headers.get("x-hook-token").map(|value| value.as_bytes());
    let given = own.or_else(|| auth::bearer(headers).map(str::as_bytes));
    if given.is_some_and(|given| bool::from(token.expose().as_bytes().ct_eq(given))) {
        return Ok(());
    }
    Err(Problem::unauthorized_because("this hook wants its token as `Authorization: Bearer` or `X-Hook-Token`"))
}

fn check_signature(hook: &Hook, headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
    let Some(signature) = &hook.signature else { return Ok(()) };
    let wrong = || Problem::unauthorized_because("the signature of the body is missing or wrong");
    let given = headers.get(signature.header.as_str()).and_then(|value| value.to_str().ok()).ok_or_else(wrong)?;
    let given = decoded(given.trim().strip_prefix("sha256=").unwrap_or(given.trim())).ok_or_else(wrong)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(signature.secret.expose().as_bytes()).map_err(|_length| wrong())?;
    mac.update(body);
    // Takes the same time whatever differs.
    mac.verify_slice(&given).map_err(|_differs| wrong())
}

/// Hexadecimal digits as bytes.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use trunkline_config::{Config, Sources};

    fn hook(keys: &str) -> Hook {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("routes.toml");
        std::fs::write(&file, format!("[hooks.h]\n{keys}\n")).expect("a file");
        let environment = [("HOOK_SECRET", "It's a Secret to Everybody"), ("HOME", "/tmp")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let loaded = trunkline_config::load(&Sources { file, environment, ..Sources::default() });
        let config: Config = loaded.unwrap_or_else(|rejected| panic!("{}", rejected.render(false))).config;
        config.hooks["h"].clone()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().expect("a name"), HeaderValue::from_str(value).expect("a value")))
            .collect()
    }

    /// The key, body and signature are those of GitHub's documentation of its webhooks.
    #[test]
    fn signatures_of_bodies() {
        let hook = hook("signature = { header = \"X-Hub-Signature-256\", secret = { env = \"HOOK_SECRET\" } }");
        let good = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let check =
            |value: &str, body: &[u8]| check_signature(&hook, &headers(&[("x-hub-signature-256", value)]), body);
        assert_eq!(check(&format!("sha256={good}"), b"Hello, World!"), Ok(()));
        assert_eq!(check(good, b"Hello, World!"), Ok(()));
        assert_eq!(check(&good.to_uppercase(), b"Hello, World!"), Ok(()));
        for (bad, body) in [
            (good, &b"Hello, World"[..]),
            (&good[..62], b"Hello, World!"),
            (&good[..63], b"Hello, World!"),
            ("", b"Hello, World!"),
            ("sha256=", b"Hello, World!"),
            ("sha256=+7", b"Hello, World!"),
        ] {
            assert!(check(bad, body).is_err(), "{bad}");
        }
        assert!(check_signature(&hook, &HeaderMap::new(), b"Hello, World!").is_err());
    }

    #[test]
    fn tokens() {
        let with = hook("token = { env = \"HOOK_SECRET\" }");
        for good in
            [("authorization", "Bearer It's a Secret to Everybody"), ("x-hook-token", "It's a Secret to Everybody")]
        {
            assert_eq!(check_token(&with, &headers(&[good])), Ok(()));
        }
        for bad in
            [("authorization", "Bearer another"), ("x-hook-token", ""), ("x-other", "It's a Secret to Everybody")]
        {
            assert!(check_token(&with, &headers(&[bad])).is_err(), "{bad:?}");
        }
        assert_eq!(check_token(&hook(""), &HeaderMap::new()), Ok(()));
    }
}
