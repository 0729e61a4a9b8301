//! The paths, their handlers, and the checks before the handlers.

use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use trunkline_telemetry as telemetry;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{
    batch, event_types, exposition, generation, health, hooks, publish, queues, rollouts, stream, tickets,
};
use crate::backend::ApiState;
use crate::openapi::document::OpenApiDocument;
use crate::openapi::pages;
use crate::problem::Problem;
use crate::request::host_policy::HostPolicy;
use crate::request::measured::MeasuredPath;
use crate::request::token;

/// The paths that need a token, if `[http] tokens` has any. `routes!` puts each handler into the OpenAPI document too.
pub(crate) fn guarded() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(publish::publish))
        .routes(routes!(batch::publish_batch))
        .routes(routes!(event_types::show_types))
        .routes(routes!(queues::show_queues))
        .routes(routes!(queues::show_stats))
        .routes(routes!(stream::events))
        .routes(routes!(tickets::issue))
        .routes(routes!(generation::show))
        .routes(routes!(generation::reload))
        .routes(routes!(rollouts::list))
        .routes(routes!(rollouts::order))
}

/// The paths that need no token of `[http] tokens`.
pub(crate) fn open() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(health::summary))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::broker))
        .routes(routes!(exposition::show))
        // `.route` adds no description. `OpenApiDocument` describes the hooks' path, which has several parts.
        .route("/hooks/{*path}", post(hooks::receive).get(hooks::greet).options(hooks::greet))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
}

/// The whole router.
pub(crate) fn router(shared: ApiState, hosts: HostPolicy) -> Router {
    let guarded = guarded().layer(middleware::from_fn_with_state(shared.clone(), token::require_token));
    let all = OpenApiRouter::with_openapi(OpenApiDocument::openapi()).merge(guarded).merge(open());
    let (router, document) = all.split_for_parts();
    router
        .merge(pages::pages(&document))
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(middleware::from_fn_with_state(hosts, check_host))
        .layer(middleware::from_fn(measure))
        .with_state(shared)
}

/// Refuses a request that is addressed to another host, or that a web page of another site made.
async fn check_host(State(hosts): State<HostPolicy>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match hosts.check(&head) {
        Ok(()) => next.run(Request::from_parts(head, body)).await,
        Err(problem) => {
            telemetry::http_refused(problem.detail());
            problem.into_response()
        }
    }
}

/// Counts and times every request under the path of its hook or under its matched path, never under the raw path.
async fn measure(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let path = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "PUT" | "DELETE" | "HEAD" | "OPTIONS" | "PATCH") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let response = next.run(request).await;
    let path = response.extensions().get::<MeasuredPath>().map_or(path, |hook| hook.0.clone());
    telemetry::http_answered(&method, &path, response.status().as_u16(), started.elapsed());
    response
}
