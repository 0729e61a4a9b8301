//! The HTTP listener: publishing, hooks, queues, reloading, health, metrics.
//!
//! Promises: 202 only after the broker's confirm; every error is an RFC 9457 problem document with a code of ours;
//! health and metrics answer whatever the broker does, and never show a secret. Knows no broker: what it needs of the
//! daemon stands in [`Backend`].

#![deny(unsafe_code)]

mod auth;
mod body;
mod door;
mod events;
mod generation;
mod health;
mod hooks;
mod listener;
mod openapi;
mod patience;
mod problem;
mod query;
mod rollouts;
mod site;
mod stream;

pub use events::{Accepted, EventTypeView, PublishRequest, QueueView, QueuesView, RatesView, Role};
pub use generation::{GenerationView, PluginView, ReloadView, Reloaded};
pub use health::{BrokerHealth, ConditionView, Health, RouteHealth};
pub use hooks::Received;
pub use problem::{Problem, explain};
pub use rollouts::{RolloutOrder, RolloutView};
pub use stream::{Items, StreamEvent, StreamGap, StreamItem, StreamReady, StreamRequest};

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use site::Sites;
use trunkline_config as config;
use trunkline_telemetry as telemetry;

/// A boxed future, since [`Backend`] is used as a trait object.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the listener needs of the daemon.
pub trait Backend: Send + Sync + 'static {
    /// Publishes one event and waits for the broker's confirm.
    fn publish(&self, request: PublishRequest) -> Boxed<'_, Result<Accepted, Problem>>;
    /// The hook at a path, as the present generation has it.
    fn hook(&self, path: &str) -> Option<config::Hook>;
    /// Publishes what came to a hook and waits for the broker's confirm.
    fn receive(&self, hook: config::Hook, received: Received) -> Boxed<'_, Result<Accepted, Problem>>;
    /// What is known of types of events.
    fn event_types(&self) -> Vec<EventTypeView>;
    /// What the broker tells of its queues.
    fn queues(&self) -> Boxed<'_, Result<QueuesView, Problem>>;
    /// Opens a stream of events, or goes on with one.
    fn stream(&self, request: StreamRequest) -> Boxed<'_, Result<Items, Problem>>;
    /// How the daemon is.
    fn health(&self) -> Health;
    /// What runs.
    fn generation(&self) -> GenerationView;
    /// Reads the files again, and swaps if they are good.
    fn reload(&self) -> Boxed<'_, Result<Reloaded, Problem>>;
    /// Every canary.
    fn rollouts(&self) -> Vec<RolloutView>;
    /// Ends the trial of a canary; kept when it is answered. Refused when the route has none.
    fn order_rollout<'a>(&'a self, route: &'a str, order: RolloutOrder) -> Boxed<'a, Result<RolloutView, Problem>>;
    /// The text of `/metrics`.
    fn metrics(&self) -> String;
}

#[derive(Clone)]
struct Shared {
    backend: Arc<dyn Backend>,
    tokens: Arc<[config::Token]>,
    max_body_bytes: usize,
}

/// Connections that the kernel holds for us while others are accepted: more than come at once from a crowd of clients that
/// all reconnect, since for those that do not fit a probe would have to try again.
const BACKLOG: u32 = 4096;

/// Listens, for [`serve`].
///
/// # Errors
/// When the address cannot be had.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The address of a daemon that has just ended can be had at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop`, then answers what is under way and returns.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    settings: &config::Http,
    backend: Arc<dyn Backend>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let shared = Shared { backend, tokens: settings.tokens.clone().into(), max_body_bytes: settings.max_body_bytes };
    let router = router(shared, Sites::new(settings));
    listener::serve(listener, router, stop).await
}

/// What needs a token, if there are any. A handler that is listed here is in the OpenAPI document too.
fn api() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(events::publish))
        .routes(routes!(events::batch::publish_batch))
        .routes(routes!(events::types::show_types))
        .routes(routes!(events::queues::show_queues))
        .routes(routes!(events::queues::show_stats))
        .routes(routes!(stream::events))
        .routes(routes!(generation::show))
        .routes(routes!(generation::reload))
        .routes(routes!(rollouts::list))
        .routes(routes!(rollouts::order))
}

/// What needs none.
fn open() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(health::summary))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::broker))
        .routes(routes!(metrics))
        // What stands here is not in the document by itself: a path of several parts is described as one.
        .route("/hooks/{*path}", post(hooks::receive))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
}

fn router(shared: Shared, sites: Sites) -> Router {
    let guarded = api().layer(middleware::from_fn_with_state(shared.clone(), auth::require_token));
    let all = OpenApiRouter::with_openapi(openapi::Document::openapi()).merge(guarded).merge(open());
    let (router, document) = all.split_for_parts();
    router
        .merge(openapi::pages(&document))
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(middleware::from_fn_with_state(sites, from_here))
        .layer(middleware::from_fn(observe))
        .with_state(shared)
}

/// The OpenAPI document.
#[cfg(test)]
fn document() -> utoipa::openapi::OpenApi {
    OpenApiRouter::with_openapi(openapi::Document::openapi()).merge(api()).merge(open()).into_openapi()
}

/// What Prometheus scrapes
///
/// The text format 0.0.4.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    operation_id = "getMetrics",
    responses((status = 200, description = "Every metric", body = String, content_type = "text/plain"))
)]
async fn metrics(State(shared): State<Shared>) -> Response {
    let text = shared.backend.metrics();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Nothing else sees a request that is addressed elsewhere, or that a page of another site made.
async fn from_here(State(sites): State<Sites>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match sites.check(&head) {
        Ok(()) => next.run(Request::from_parts(head, body)).await,
        Err(problem) => {
            telemetry::http_refused(problem.detail());
            problem.into_response()
        }
    }
}

/// Counts and times every request under its matched path, never the raw one.
async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let path = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "PUT" | "DELETE" | "HEAD" | "OPTIONS" | "PATCH") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let response = next.run(request).await;
    telemetry::http_answered(&method, &path, response.status().as_u16(), started.elapsed());
    response
}
