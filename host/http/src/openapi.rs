//! What the listener says of itself: the OpenAPI 3.1 document, made of what stands beside the handlers, and the two pages
//! that show it. Both pages work offline and need no token; a browser is told to load nothing from anywhere else.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{self, ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Type};
use utoipa::{IntoResponses, Modify, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::RolloutOrder;
use super::problem::{self, Problem};
use super::stream::{StreamEvent, StreamGap, StreamReady};

/// Where the document is.
const DOCUMENT: &str = "/openapi.json";
/// Swagger UI sets styles of elements and has its icons as data; everything else is ours and from here.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The frame; paths and schemas come from the handlers.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Trunkline",
        description = "Publishes events, streams them, and tells what the daemon does. 202 means that the broker has \
            confirmed. Every error below `/api` is a problem document (RFC 9457) with a code that `trunkline explain` \
            knows. A request is answered 403 when its `Host` is not one of the listener's (`[http] hosts`), or when a \
            web page of another site made it. Where `[http] tokens` is set, everything below `/api` needs one of them as a bearer token; health, \
            metrics and this document do not.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "events", description = "Events, in and out"),
        (name = "hooks", description = "Webhooks of `[hooks.NAME]`, which become events"),
        (name = "operation", description = "What runs, and its change"),
        (name = "health", description = "Probes and metrics"),
    ),
    paths(super::hooks::receive),
    components(schemas(Problem, RolloutOrder, StreamEvent, StreamGap, StreamReady)),
    modifiers(&Tokens)
)]
pub(super) struct Document;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("One of `[http] tokens`. Without any configured, none is needed."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The problem document of one status, for the description of a path.
pub(super) enum Answers<const STATUS: u16> {}

impl<const STATUS: u16> IntoResponses for Answers<STATUS> {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let (title, text) = problem::described(STATUS).unwrap_or_default();
        let example = serde_json::json!({
            "type": format!("urn:trunkline:problem:TL{STATUS}"),
            "title": title,
            "status": STATUS,
            "detail": "what is wrong with this request",
            "code": format!("TL{STATUS}"),
        });
        let schema = Some(Ref::from_schema_name("Problem"));
        let content = ContentBuilder::new().schema(schema).example(Some(example)).build();
        let mut response = ResponseBuilder::new()
            .description(format!("TL{STATUS}, {title}. {text}"))
            .content("application/problem+json", content);
        let header = |kind: Type, text: &str| {
            let schema = ObjectBuilder::new().schema_type(kind).build();
            HeaderBuilder::new().schema(Some(schema)).description(Some(text)).build()
        };
        if STATUS == 401 {
            response = response.header("WWW-Authenticate", header(Type::String, "`Bearer`"));
        }
        if matches!(STATUS, 503 | 507) {
            response = response.header("Retry-After", header(Type::Integer, "Seconds until another try makes sense"));
        }
        BTreeMap::from([(STATUS.to_string(), response.build().into())])
    }
}

/// `/openapi.json`, `/docs` and `/redoc`.
pub(super) fn pages<S: Clone + Send + Sync + 'static>(document: &openapi::OpenApi) -> Router<S> {
    // A document made of strings and numbers cannot fail to be written.
    let text = Bytes::from(document.to_pretty_json().unwrap_or_default());
    let json = move || async move { ([(header::CONTENT_TYPE, "application/json")], text) };
    let config = Config::new([DOCUMENT]).validator_url("none").persist_authorization(false).try_it_out_enabled(true);
    Router::new()
        .merge(SwaggerUi::new("/docs").config(config))
        .route("/redoc", get(async || Redirect::permanent("/redoc/")))
        .route("/redoc/", get(async || file("text/html; charset=utf-8", include_str!("assets/reference.html"))))
        .route("/redoc/page.css", get(async || file("text/css; charset=utf-8", include_str!("assets/reference.css"))))
        .route(
            "/redoc/page.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("assets/reference.js"))),
        )
        .layer(middleware::from_fn(guard))
        .route(DOCUMENT, get(json))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Says what the pages may load, and that nobody may frame them.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let strict: [(HeaderName, &'static str); 4] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in strict {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// `UPDATE_EXPECTED=1 cargo test openapi` writes it anew; read the difference before you commit it.
    #[test]
    fn the_document_is_the_one_that_was_read() {
        let printed = super::super::document().to_pretty_json().expect("JSON") + "\n";
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/assets/openapi.expected.json");
        if std::env::var_os("UPDATE_EXPECTED").is_some_and(|value| value == "1") {
            std::fs::write(&file, &printed).expect("writable");
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        let differs = printed.lines().zip(expected.lines()).find(|(printed, expected)| printed != expected);
        assert!(printed == expected, "UPDATE_EXPECTED=1 accepts it; it begins to differ at {differs:?}");
    }
}
