//! `POST /api/v1/events`

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Problem, Shared};

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

pub(super) async fn publish(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match accept(&shared, &headers, body).await {
        Ok(accepted) => (StatusCode::ACCEPTED, Json(accepted)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn accept(
    shared: &Shared,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Accepted, Problem> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(),
        _ => Problem::bad_request(rejection.body_text()),
    })?;
    if !is_json(headers) {
        return Err(Problem::unsupported_media_type());
    }
    let request =
        serde_json::from_slice::<PublishRequest>(&body).map_err(|error| Problem::bad_request(error.to_string()))?;
    shared.backend.publish(request).await
}

fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}
