//! `POST /api/v1/events`

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::openapi::Answers;
use super::{Problem, Shared};

/// What is taken of a body that is too large, so that its sender gets to read the answer.
const THROWN_AWAY_MAX_BYTES: usize = 16 << 20;
const THROW_AWAY_FOR: Duration = Duration::from_secs(1);
/// How long a body may take: who sends it byte by byte holds a connection no longer.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// An event to publish. Bytes are counted in UTF-8.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "type": "call.ended",
    "data": { "call_id": "c-1", "duration": 42, "outcome": "completed", "transcript": null },
    "organizationId": "org-1"
})))]
pub struct PublishRequest {
    /// Type; also the routing key unless the event type or the request says otherwise. 1 to 255 bytes.
    #[schema(min_length = 1, max_length = 255)]
    pub r#type: String,
    /// Payload: any JSON value, kept byte for byte.
    #[schema(value_type = serde_json::Value)]
    pub data: Box<RawValue>,
    /// Identity; a new UUID of version 7 when absent or empty. At most 255 bytes.
    #[schema(max_length = 255)]
    pub id: Option<String>,
    /// Who made it; `/trunkline/api` when absent.
    pub source: Option<String>,
    /// What it is about.
    pub subject: Option<String>,
    /// When it happened, RFC 3339; now when absent.
    #[schema(format = DateTime)]
    pub time: Option<String>,
    /// Exchange; the default exchange of routes.toml when absent, AMQP's default exchange when empty.
    #[schema(max_length = 255)]
    pub exchange: Option<String>,
    /// Routing key. At most 255 bytes.
    #[schema(max_length = 255)]
    pub routing_key: Option<String>,
    /// AMQP priority; that of the event type when absent.
    #[schema(maximum = 255)]
    pub priority: Option<u8>,
    /// Organisation: the event's tenant.
    #[serde(rename = "organizationId")]
    pub organization_id: Option<String>,
    /// User.
    #[serde(rename = "userId")]
    pub user_id: Option<String>,
    /// Further attributes. Names are of lower-case letters, digits, `-` and `_`.
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
}

/// Publish one event
///
/// Answers once the broker has confirmed it: it is in a durable queue then, or nobody has subscribed (`"routed": false`).
/// A body is at most `[http] max-body` long (1 MiB unless routes.toml says otherwise).
#[utoipa::path(
    post,
    path = "/api/v1/events",
    tag = "events",
    operation_id = "publishEvent",
    security((), ("token" = [])),
    request_body = PublishRequest,
    responses(
        (status = 202, description = "Confirmed by the broker", body = Accepted),
        Answers<400>, Answers<401>, Answers<408>, Answers<413>, Answers<415>, Answers<422>, Answers<503>,
    )
)]
pub(super) async fn publish(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    match accept(&shared, &headers, body).await {
        Ok(accepted) => (StatusCode::ACCEPTED, Json(accepted)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn accept(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Accepted, Problem> {
    let body = read(headers, body, shared.max_body_bytes).await?;
    if !is_json(headers) {
        return Err(Problem::unsupported_media_type());
    }
    let request =
        serde_json::from_slice::<PublishRequest>(&body).map_err(|error| Problem::bad_request(error.to_string()))?;
    shared.backend.publish(request).await
}

/// The body, if it is not too large. A client that sends one that is would not see the answer when its connection was
/// closed while it writes: what comes is thrown away for a while first, unless the client waits to be asked for it.
async fn read(headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Vec<u8>, Problem> {
    let read = tokio::time::timeout(BODY_WITHIN, read_all(headers, body, max_bytes));
    read.await.unwrap_or_else(|_elapsed| Err(Problem::too_slow()))
}

async fn read_all(headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Vec<u8>, Problem> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if headers.contains_key(header::EXPECT) && length.is_some_and(|length| length > max_bytes) {
        return Err(Problem::too_large());
    }
    let mut parts = body.into_data_stream();
    let mut all = Vec::with_capacity(length.unwrap_or_default().min(max_bytes));
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| Problem::bad_request(error.to_string()))?;
        if all.len() + part.len() > max_bytes {
            let mut thrown_away = 0;
            let throw_away = async {
                while let Some(Ok(part)) = parts.next().await
                    && thrown_away < THROWN_AWAY_MAX_BYTES
                {
                    thrown_away += part.len();
                }
            };
            let _enough = tokio::time::timeout(THROW_AWAY_FOR, throw_away).await;
            return Err(Problem::too_large());
        }
        all.extend_from_slice(&part);
    }
    Ok(all)
}

fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}
