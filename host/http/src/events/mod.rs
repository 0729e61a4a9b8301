//! `POST /api/v1/events` and `/batch`; what is known of types and queues.

pub(super) mod batch;
pub(super) mod queues;
pub(super) mod types;

pub use queues::{QueueView, QueuesView, RatesView, Role};
pub use types::EventTypeView;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::openapi::Answers;
use super::{Problem, Shared, body};

/// The body: an event to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// Type; also the routing key unless the event type or the request says otherwise.
    #[schema(example = "call.ended", min_length = 1, max_length = 255)]
    pub r#type: String,
    /// Payload, kept byte for byte.
    #[schema(value_type = serde_json::Value)]
    pub data: Box<RawValue>,
    /// Identity; a new uuid v7 when absent. One that was accepted before is accepted again, and published once.
    #[schema(max_length = 255)]
    pub id: Option<String>,
    /// Who made it.
    pub source: Option<String>,
    /// What it is about.
    pub subject: Option<String>,
    /// When it happened, RFC 3339; now when absent.
    #[schema(format = DateTime)]
    pub time: Option<String>,
    /// Exchange; the default exchange of routes.toml when absent.
    #[schema(max_length = 255)]
    pub exchange: Option<String>,
    /// Routing key.
    #[schema(max_length = 255)]
    pub routing_key: Option<String>,
    /// AMQP priority.
    pub priority: Option<u8>,
    /// Organisation.
    #[serde(rename = "organizationId")]
    pub organization_id: Option<String>,
    /// User.
    #[serde(rename = "userId")]
    pub user_id: Option<String>,
    /// Further attributes.
    #[serde(default)]
    pub attributes: std::collections::BTreeMap<String, String>,
}

/// The answer: the broker has confirmed the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Accepted {
    /// Its id.
    pub id: String,
    /// Where it went.
    pub exchange: String,
    /// With this key.
    pub routing_key: String,
    /// False when nobody has subscribed: the event is accepted, and gone.
    pub routed: bool,
    /// True when it was accepted before under this id, and not published again.
    pub repeated: bool,
}

/// Publish an event
///
/// Answered when the broker has confirmed it. With an `id` or an `Idempotency-Key` the request can be repeated: within
/// `[http] dedupe` (24 hours) the event is published once.
#[utoipa::path(
    post,
    path = "/api/v1/events",
    tag = "events",
    operation_id = "publishEvent",
    security((), ("token" = [])),
    request_body = PublishRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "The event's id, where the body has none")),
    responses(
        (status = 202, description = "Confirmed by the broker", body = Accepted),
        Answers<400>, Answers<401>, Answers<403>, Answers<408>, Answers<413>, Answers<415>, Answers<422>, Answers<503>,
        Answers<507>,
    )
)]
pub(super) async fn publish(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    match accept(&shared, &headers, body).await {
        Ok(accepted) => (StatusCode::ACCEPTED, Json(accepted)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn accept(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Accepted, Problem> {
    let body = json(shared, headers, body).await?;
    let key = body::idempotency_key(headers)?;
    let mut request: PublishRequest = object(&body)?;
    match (&request.id, key) {
        (Some(id), Some(key)) if *id != key => {
            return Err(Problem::bad_request("`id` and Idempotency-Key are different ids of one event"));
        }
        (None, Some(key)) => request.id = Some(key),
        (_, Some(_) | None) => {}
    }
    shared.backend.publish(request).await
}

/// A JSON object as what it stands for. serde would take a list of the values too, which no document says.
fn object<'t, T: Deserialize<'t>>(text: &'t [u8]) -> Result<T, Problem> {
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_some_and(|first| *first != b'{') {
        return Err(Problem::bad_request("a JSON object is wanted here"));
    }
    serde_json::from_slice(text).map_err(|error| Problem::bad_request(error.to_string()))
}

/// A body that is and says that it is JSON; told apart before it is parsed.
async fn json(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
    let body = body::read(headers, body, shared.max_body_bytes).await?;
    if body::is_json(headers) { Ok(body) } else { Err(Problem::unsupported_media_type()) }
}
