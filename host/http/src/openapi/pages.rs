//! `/openapi.json`, and the two pages `/docs` and `/redoc` that show the document. Both pages work offline and need no token.
//! The headers of the pages prevent a browser from loading content from other hosts.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use utoipa::openapi;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// The path of the document.
const DOCUMENT: &str = "/openapi.json";
/// Swagger UI sets styles of elements and has its icons as data. All other content comes from this listener.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `/openapi.json`, `/docs` and `/redoc`.
pub(crate) fn pages<S: Clone + Send + Sync + 'static>(document: &openapi::OpenApi) -> Router<S> {
    // A document of strings and numbers cannot fail to be serialised.
    let text = Bytes::from(document.to_pretty_json().unwrap_or_default());
    let json = move || async move { ([(header::CONTENT_TYPE, "application/json")], text) };
    let config = Config::new([DOCUMENT]).validator_url("none").persist_authorization(false).try_it_out_enabled(true);
    Router::new()
        .merge(SwaggerUi::new("/docs").config(config))
        .route("/redoc", get(async || Redirect::permanent("/redoc/")))
        .route("/redoc/", get(async || file("text/html; charset=utf-8", include_str!("../assets/reference.html"))))
        .route(
            "/redoc/page.css",
            get(async || file("text/css; charset=utf-8", include_str!("../assets/reference.css"))),
        )
        .route(
            "/redoc/page.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("../assets/reference.js"))),
        )
        .layer(middleware::from_fn(restrict))
        .route(DOCUMENT, get(json))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Adds the headers that restrict what the pages may load, and that forbid framing.
async fn restrict(request: Request, next: Next) -> Response {
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
