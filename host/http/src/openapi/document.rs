//! The OpenAPI 3.1 document without its paths. The paths and most schemas come from the handlers.

use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, openapi};

use crate::api::hooks;
use crate::problem::Problem;
use crate::request::ticket::TICKET;
use crate::view::rollout::RolloutOrder;
use crate::view::stream::{StreamEvent, StreamGap, StreamReady};

/// The document. `router` adds the paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Trunkline",
        description = "The API publishes events, streams events, and shows the state of the daemon. The status 202 means that \
            the broker has confirmed the event. Every error below `/api` is a problem document (RFC 9457). `trunkline \
            explain CODE` explains the code of a problem document. The daemon answers 403 if the `Host` of a request is not a \
            name of the listener (see `[http] hosts`), or if a web page of another site made the request. If `[http] \
            tokens` is set, every path below `/api` needs one of the tokens as a bearer token. The health paths, \
            `/metrics` and this document need no token.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "events", description = "Publishing and streaming of events, the queues and the event types"),
        (name = "hooks", description = "Webhooks that become events (`[hooks.NAME]`)"),
        (name = "operation", description = "The running generation, reloads and canaries"),
        (name = "health", description = "Probes and metrics"),
    ),
    paths(hooks::receive),
    components(schemas(Problem, RolloutOrder, StreamEvent, StreamGap, StreamReady)),
    modifiers(&TokenScheme)
)]
pub(crate) struct OpenApiDocument;

/// Adds the bearer token and the ticket to the document.
struct TokenScheme;

impl Modify for TokenScheme {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token of `[http] tokens`. A request needs no token if `[http] tokens` is empty."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
        let ticket = ApiKeyValue::with_description(
            TICKET,
            "A stream ticket of `POST /api/v1/events/stream/tickets`, in place of a token. A stream ticket opens one stream.",
        );
        components.add_security_scheme("ticket", SecurityScheme::ApiKey(ApiKey::Query(ticket)));
    }
}
