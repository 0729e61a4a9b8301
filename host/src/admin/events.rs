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

use super::{Problem, Shared};

/// What is taken of a body that is too large, so that its sender gets to read the answer.
const THROWN_AWAY_MAX_BYTES: usize = 16 << 20;
const THROW_AWAY_FOR: Duration = Duration::from_secs(1);

/// The body: an event to publish.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// Type; also the routing key unless the event type or the request says otherwise.
    pub r#type: String,
    /// Payload, kept byte for byte.
    pub data: Box<RawValue>,
    /// Identity; a new uuid v7 when absent.
    pub id: Option<String>,
    /// Who made it.
    pub source: Option<String>,
    /// What it is about.
    pub subject: Option<String>,
    /// When it happened, RFC 3339; now when absent.
    pub time: Option<String>,
    /// Exchange; the default exchange of routes.toml when absent.
    pub exchange: Option<String>,
    /// Routing key.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
