//! Errors as problem documents (RFC 9457). `trunkline explain` has a paragraph for each code.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use trunkline_config::schema::SchemaViolation;
use trunkline_event::CONTENT_CODINGS;

/// An error as a problem document of RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// URN of the code.
    #[schema(examples("urn:trunkline:problem:TL422"))]
    r#type: String,
    /// Title of the code.
    title: &'static str,
    /// HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Description of the error of this request.
    detail: String,
    /// Code of the problem, for `trunkline explain CODE`.
    #[schema(examples("TL422"))]
    code: &'static str,
    /// Every reason, if the problem has several reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<serde_json::Value>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
    /// Whether the content coding is the problem. The response then has the header `Accept-Encoding` (RFC 9110 section 12.5.3).
    #[serde(skip)]
    has_bad_coding: bool,
}

/// A code of a problem.
pub(crate) struct ProblemCode {
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    /// The paragraph of `trunkline explain`.
    pub(crate) meaning: &'static str,
}

/// Every code. The last code is used for a status without a code.
pub(crate) static CODES: [ProblemCode; 13] = [
    ProblemCode {
        code: "TL400",
        title: "bad request",
        meaning: "The request body or a parameter is invalid for this path, or the request does not have exactly one `Host` header. The field `detail` names the invalid part.",
    },
    ProblemCode {
        code: "TL401",
        title: "unauthorized",
        meaning: "If `[http] tokens` is set, requests below `/api` need the header `Authorization: Bearer TOKEN` with one of the tokens. A request for a stream may have a stream ticket in the parameter `ticket` instead. A stream ticket opens one stream within 60 s, and afterwards only resumes this stream. A hook with a `token` needs the hook's token in the header `Authorization` or `X-Hook-Token`. A hook with a `signature` needs an HMAC-SHA256 of the body, made with the hook's secret. A hook with a `provider` needs the proof that the documentation of the sender describes. A signed timestamp may differ from the daemon's clock by at most five minutes.",
    },
    ProblemCode {
        code: "TL403",
        title: "forbidden",
        meaning: "The field `detail` names one of six causes. First, the request names a host that is not a name of the listener (see `[http] hosts`). Second, a web page of another site made the request. The daemon refuses this request, because the page could otherwise act through the browser of a visitor. Third, the request names the nameless exchange or an exchange whose name begins with `trunkline.`. Clients may use these exchanges only with `[http] reserved = true`. Fourth, the broker does not allow the daemon's user to publish this event. Fifth, the GET request with which Meta checks the address of a hook has a wrong `hub.mode` or `hub.verify_token`, or the hook has no `handshake`. Sixth, the event has the field `reply_to`. Clients may use this field only with `[http] reserved = true`.",
    },
    ProblemCode {
        code: "TL404",
        title: "not found",
        meaning: "The path, the hook or the canary of the request does not exist.",
    },
    ProblemCode {
        code: "TL405",
        title: "method not allowed",
        meaning: "The path of the request does not allow the method of the request.",
    },
    ProblemCode {
        code: "TL408",
        title: "request timeout",
        meaning: "The request body did not arrive within 30 s. No event was published.",
    },
    ProblemCode {
        code: "TL409",
        title: "reload refused",
        meaning: "The configuration or a plugin is invalid. The daemon keeps the running generation. The field `errors` lists every reason. `trunkline check` reports the same errors without a daemon.",
    },
    ProblemCode {
        code: "TL413",
        title: "too large",
        meaning: "The request body is larger than `[http] max-body`, or the event is larger than the broker allows. `[http] max-body` limits the body before and after the daemon decodes the `Content-Encoding`.",
    },
    ProblemCode {
        code: "TL415",
        title: "unsupported media type",
        meaning: "The field `detail` names one of two causes. First, a request below `/api` does not have the header `Content-Type: application/json`. The required header also prevents a web page of another site from publishing events through the browser of a visitor. Second, the daemon cannot decode the `Content-Encoding` of the body. The header `Accept-Encoding` of the response then lists the codings that the daemon decodes.",
    },
    ProblemCode {
        code: "TL422",
        title: "cannot be published",
        meaning: "The event was not published. The field `detail` names one of six causes. First, the event breaks a rule of the broker or of the exchange's codec. Second, the exchange does not exist. Third, no queue is bound for the event on a direct exchange. Fourth, the data does not fit the schema of the event type or of the hook. The field `errors` then lists each violation. Fifth, an event with the same id and different content was accepted through the API before. Sixth, the request lacks a field or a header that a template of the hook needs.",
    },
    ProblemCode {
        code: "TL503",
        title: "unavailable",
        meaning: "The daemon cannot handle the request now. Possible causes are a missing session with the broker, an alarm of the broker, a daemon that is stopping, and too many open streams. The broker has not confirmed the event. Send the event again with the same id, or open the stream again.",
    },
    ProblemCode {
        code: "TL507",
        title: "insufficient storage",
        meaning: "The disk of the embedded broker's store is full. No event was published. The daemon accepts events again when the disk has free space. Send the event again with the same id.",
    },
    ProblemCode {
        code: "TL500",
        title: "internal error",
        meaning: "A bug in Trunkline caused the error. The log of the daemon has the details.",
    },
];

/// The paragraph of a code of the HTTP API.
#[must_use]
pub fn explain(code: &str) -> Option<&'static str> {
    CODES.iter().find(|known| known.code == code).map(|known| known.meaning)
}

/// The code of a status.
pub(crate) fn code_of(status: u16) -> Option<&'static ProblemCode> {
    let wanted = format!("TL{status}");
    CODES.iter().find(|known| known.code == wanted)
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let known = code_of(status.as_u16()).unwrap_or(&CODES[CODES.len() - 1]);
        Self {
            r#type: format!("urn:trunkline:problem:{}", known.code),
            title: known.title,
            status: status.as_u16(),
            detail: detail.into(),
            code: known.code,
            errors: Vec::new(),
            retry_after_s: None,
            has_bad_coding: false,
        }
    }

    /// The error of this request.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// 400: the request is invalid for the path.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 401
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::unauthorized_because(
            "the request needs the header `Authorization: Bearer TOKEN` with a token of `tokens` in [http]",
        )
    }

    /// 401 for another reason than a missing bearer token.
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
        Self::new(StatusCode::NOT_FOUND, "the path does not exist")
    }

    /// 404: the path is known, but the hook or the canary in the path does not exist.
    #[must_use]
    pub fn not_found_because(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 405
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "the path does not allow the method of the request")
    }

    /// 408
    #[must_use]
    pub fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "the request body did not arrive within 30 s")
    }

    /// 413
    #[must_use]
    pub fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "the request body is larger than `max-body` in [http] allows")
    }

    /// 413: the body is larger than the broker allows.
    #[must_use]
    pub fn too_large_because(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// 507: the disk of the store is full.
    #[must_use]
    pub fn no_room(detail: impl Into<String>) -> Self {
        Self { retry_after_s: Some(5), ..Self::new(StatusCode::INSUFFICIENT_STORAGE, detail) }
    }

    /// 415
    #[must_use]
    pub fn unsupported_media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body must be JSON; send the header `Content-Type: application/json`",
        )
    }

    /// 415: the daemon cannot decode the content coding of the body.
    #[must_use]
    pub fn unsupported_coding(detail: impl Into<String>) -> Self {
        Self { has_bad_coding: true, ..Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail) }
    }

    /// 422: the event breaks a rule and cannot be published.
    #[must_use]
    pub fn unpublishable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// 422: the data does not fit a schema.
    #[must_use]
    pub fn invalid(detail: impl Into<String>, violations: &[SchemaViolation]) -> Self {
        let errors = violations.iter().map(|violation| serde_json::json!(violation)).collect();
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// 409: the reload is refused, for these reasons.
    #[must_use]
    pub fn refused(detail: impl Into<String>, errors: Vec<serde_json::Value>) -> Self {
        Self { errors, ..Self::new(StatusCode::CONFLICT, detail) }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The header `Retry-After`, in seconds.
    #[must_use]
    pub const fn retry_after_s(&self) -> Option<u32> {
        self.retry_after_s
    }

    /// 503: the daemon cannot handle the request now.
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
        let extra: [(HeaderName, Option<HeaderValue>); 3] = [
            (header::RETRY_AFTER, self.retry_after_s.map(HeaderValue::from)),
            (header::ACCEPT_ENCODING, self.has_bad_coding.then(|| HeaderValue::from_static(CONTENT_CODINGS))),
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
            Problem::unsupported_coding("d"),
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
