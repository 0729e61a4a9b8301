//! Errors as problem documents (RFC 9457), each with a code that `trunkline explain` knows.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use trunkline_config::schema::Violation;

/// An error answer, as RFC 9457 has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Identifies the kind of problem: a URN of our code.
    #[schema(examples("urn:trunkline:problem:TL422"))]
    r#type: String,
    /// The kind of problem in a few words.
    title: &'static str,
    /// The status code again.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong with this request.
    detail: String,
    /// What `trunkline explain` takes.
    #[schema(examples("TL422"))]
    code: &'static str,
    /// Every reason, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<serde_json::Value>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

/// Code, title, and the paragraph of `explain`.
const CODES: [(&str, &str, &str); 13] = [
    (
        "TL400",
        "bad request",
        "The request body or a parameter is not what this path takes, or the request does not say in one `Host` where it is addressed to. The detail names the place or the field.",
    ),
    (
        "TL401",
        "unauthorized",
        "`[http] tokens` is set, so requests below /api need the header `Authorization: Bearer TOKEN` with one of them. A hook with a `token` wants that one, as the same header or as `X-Hook-Token`; a hook with a `signature` wants the body signed with its secret.",
    ),
    (
        "TL403",
        "forbidden",
        "The request came by a name that `[http] hosts` does not list, or a web page of another site made it (`Origin`, `Sec-Fetch-Site`), since every page that somebody visits could act through their browser. Or it names the nameless exchange or one of the daemon's own, which clients may use only with `[http] reserved = true`. Or the broker does not allow the daemon's user to publish this event; the detail has the broker's words.",
    ),
    ("TL404", "not found", "There is nothing at this path."),
    ("TL405", "method not allowed", "The path exists, but not for this method."),
    ("TL408", "request timeout", "The request body did not arrive within 30 s. Nothing was taken."),
    (
        "TL409",
        "reload refused",
        "The files as they are cannot be taken over, and what ran runs on. `errors` has every reason; `trunkline check` tells the same without a daemon.",
    ),
    (
        "TL413",
        "too large",
        "The request body is larger than `[http] max-body`, or the event is larger than what the broker takes.",
    ),
    (
        "TL415",
        "unsupported media type",
        "Bodies are JSON, and must say so: `Content-Type: application/json`. This also keeps a web page from publishing through a visitor's browser.",
    ),
    (
        "TL422",
        "cannot be published",
        "The event breaks a rule of the broker or of the exchange's codec, or no queue is there for it on an exchange that addresses one; or its data do not fit the schema of its type or hook, and `errors` has each place; or its id was accepted before with other content. It was not taken.",
    ),
    (
        "TL503",
        "unavailable",
        "Not now: the broker is away or has asked publishers to stop, the daemon stops, or as many streams are open as may be. Nothing is confirmed: send the event again with the same id, or open the stream again.",
    ),
    (
        "TL507",
        "insufficient storage",
        "The disk of the embedded broker's store is full. Nothing was taken; the daemon goes on by itself when there is room. Send the event again with the same id.",
    ),
    ("TL500", "internal error", "A bug in Trunkline. The log has more."),
];

/// The paragraph for a code of this module.
#[must_use]
pub fn explain(code: &str) -> Option<&'static str> {
    CODES.iter().find(|(known, _, _)| *known == code).map(|(_, _, text)| *text)
}

/// Title and paragraph of a status, for the description of the paths that answer with it.
pub(super) fn described(status: u16) -> Option<(&'static str, &'static str)> {
    let wanted = format!("TL{status}");
    CODES.iter().find(|(code, _, _)| *code == wanted).map(|(_, title, text)| (*title, *text))
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let wanted = format!("TL{}", status.as_u16());
        let (code, title, _) = CODES.into_iter().find(|(code, _, _)| *code == wanted).unwrap_or(CODES[CODES.len() - 1]);
        Self {
            r#type: format!("urn:trunkline:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            code,
            errors: Vec::new(),
            retry_after_s: None,
        }
    }

    /// What is wrong with the request.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// 400: the body is not what the path takes.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 401
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::unauthorized_because("a bearer token is needed, and none that is known was given")
    }

    /// 401, for another reason than a missing bearer token.
    #[must_use]
    pub fn unauthorized_because(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// 403
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 404
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing at this path")
    }

    /// 404: the path is known, what it names is not.
    #[must_use]
    pub fn not_found_because(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 405
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method")
    }

    /// 408
    #[must_use]
    pub fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")
    }

    /// 413
    #[must_use]
    pub fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than http.max-body")
    }

    /// 413, because the broker takes no body of that size.
    #[must_use]
    pub fn too_large_because(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// 507: the store has no room now.
    #[must_use]
    pub fn no_room(detail: impl Into<String>) -> Self {
        Self { retry_after_s: Some(5), ..Self::new(StatusCode::INSUFFICIENT_STORAGE, detail) }
    }

    /// 415
    #[must_use]
    pub fn unsupported_media_type() -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the body as application/json")
    }

    /// 422: the event cannot be published as it is.
    #[must_use]
    pub fn unpublishable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// 422: the data break a schema.
    #[must_use]
    pub fn invalid(detail: impl Into<String>, violations: &[Violation]) -> Self {
        let errors = violations.iter().map(|violation| serde_json::json!(violation)).collect();
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// 409: what runs stays, for these reasons.
    #[must_use]
    pub fn refused(detail: impl Into<String>, errors: Vec<serde_json::Value>) -> Self {
        Self { errors, ..Self::new(StatusCode::CONFLICT, detail) }
    }

    /// Its status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// When another try may end otherwise, in seconds.
    #[must_use]
    pub const fn retry_after_s(&self) -> Option<u32> {
        self.retry_after_s
    }

    /// 503: not now.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self { retry_after_s: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (status, [(header::CONTENT_TYPE, kind)], body).into_response();
        let extra: [(HeaderName, Option<HeaderValue>); 2] = [
            (header::RETRY_AFTER, self.retry_after_s.map(HeaderValue::from)),
            (header::WWW_AUTHENTICATE, (self.status == 401).then(|| HeaderValue::from_static("Bearer"))),
        ];
        for (name, value) in extra {
            if let Some(value) = value {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_a_code_that_is_explained() {
        let problems = [
            Problem::bad_request("d"),
            Problem::unauthorized(),
            Problem::forbidden("d"),
            Problem::not_found(),
            Problem::method_not_allowed(),
            Problem::too_slow(),
            Problem::too_large(),
            Problem::unsupported_media_type(),
            Problem::unpublishable("d"),
            Problem::invalid("d", &[]),
            Problem::unavailable("d"),
            Problem::no_room("d"),
            Problem::too_large_because("d"),
            Problem::refused("d", Vec::new()),
        ];
        for problem in problems {
            assert_eq!(problem.code, format!("TL{}", problem.status), "{problem:?}");
            assert!(explain(problem.code).is_some(), "{problem:?}");
        }
    }
}
