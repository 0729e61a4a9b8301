//! A request of the API becomes a message, in the codec of its exchange.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use uuid::Uuid;

use crate::admin::{Accepted, Problem, PublishRequest};
use crate::broker::{Broker, Error, Fate, Publication};
use crate::codec::{self, Outgoing, header};
use crate::config::{Codec, Config, ExchangeKind};
use crate::event::{ExchangeName, Message, Properties, RoutingKey};
use crate::telemetry;

/// A client waits for so long; a broker that has blocked us without saying so would keep it for ever.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn publish(config: &Config, broker: &Broker, request: PublishRequest) -> Result<Accepted, Problem> {
    let (message, accept_unroutable) = message(config, request)?;
    let id = message.properties.message_id.clone().unwrap_or_default();
    let kind = message.properties.kind.clone().unwrap_or_default();
    let (exchange, routing_key) = (message.exchange.to_string(), message.routing_key.to_string());
    if broker.status().borrow().blocked {
        let why = "the broker is short of memory or disk and has asked publishers to stop; nothing was sent";
        return Err(Problem::unavailable(why));
    }
    let publishing = broker.publish(vec![Publication::now(message, accept_unroutable)]);
    let Ok(published) = tokio::time::timeout(CONFIRM_WITHIN, publishing).await else {
        let why = format!(
            "no confirm within {} s: whether it was taken is not known; send it again",
            CONFIRM_WITHIN.as_secs()
        );
        return Err(Problem::unavailable(why));
    };
    let receipt = published.map_err(problem)?;
    let routed = receipt.fates().iter().all(|fate| *fate == Fate::Routed);
    telemetry::event_accepted(&id, &kind, &exchange, routed);
    Ok(Accepted { id, exchange, routing_key, routed })
}

fn problem(error: Error) -> Problem {
    match error {
        Error::Lost(_) | Error::Unusable(_) => Problem::unavailable(error.to_string()),
        Error::Refused(_) | Error::Queue { .. } => Problem::unpublishable(error.to_string()),
    }
}

fn message(config: &Config, request: PublishRequest) -> Result<(Message, bool), Problem> {
    let bad = |field: &str, problem: String| Problem::unpublishable(format!("`{field}` {problem}"));
    if request.r#type.is_empty() {
        return Err(bad("type", "is empty".to_owned()));
    }
    let (exchange, codec, accept_unroutable) = exchange(config, request.exchange.as_deref())?;
    let known = config.event_types.get(&request.r#type);
    let key = match (request.routing_key, known.and_then(|known| known.key.clone())) {
        (Some(key), _) => RoutingKey::new(key),
        (None, Some(key)) => Ok(key),
        (None, None) => RoutingKey::new(&request.r#type),
    };
    let id = request.id.filter(|id| !id.is_empty()).unwrap_or_else(|| Uuid::now_v7().to_string());
    let time = match request.time {
        Some(time) => time.parse::<jiff::Timestamp>().map_err(|error| bad("time", format!("is no time: {error}")))?,
        None => jiff::Timestamp::now(),
    };
    let data = Bytes::copy_from_slice(request.data.get().as_bytes());
    let attributes = request.attributes.into_iter().collect::<Vec<_>>();
    let encoded = codec::encode(
        codec,
        &Outgoing {
            id: &id,
            kind: &request.r#type,
            source: request.source.as_deref().unwrap_or("/trunkline/api"),
            subject: request.subject.as_deref(),
            time: &time.to_string(),
            content_type: "application/json",
            data: &data,
            tenant: request.organization_id.as_deref(),
            user: request.user_id.as_deref(),
            attributes: &attributes,
        },
    )
    .map_err(|error| Problem::unpublishable(error.to_string()))?;
    let mut headers = encoded.headers;
    if let Some(tenant) = request.organization_id {
        headers.set(header::TENANT, tenant);
    }
    let message = Message {
        exchange,
        routing_key: key.map_err(|error| bad("routing_key", error.to_string()))?,
        properties: Properties {
            message_id: Some(id.clone()),
            correlation_id: Some(id),
            kind: Some(request.r#type),
            content_type: Some(encoded.content_type),
            timestamp: SystemTime::UNIX_EPOCH.elapsed().ok().map(|since| since.as_secs()),
            app_id: Some("trunkline".to_owned()),
            priority: request.priority.or(known.and_then(|known| known.priority)),
            headers,
            ..Properties::default()
        },
        body: encoded.body,
    };
    message.check().map_err(|error| Problem::unpublishable(error.to_string()))?;
    Ok((message, accept_unroutable))
}

/// The exchange, its codec, and whether it is fine that nobody has subscribed.
fn exchange(config: &Config, name: Option<&str>) -> Result<(ExchangeName, Codec, bool), Problem> {
    let name = match name {
        Some(name) => ExchangeName::new(name).map_err(|error| Problem::unpublishable(format!("`exchange` {error}")))?,
        None => config.default_exchange.clone(),
    };
    if name.is_default() {
        return Ok((name, Codec::Raw, false));
    }
    match config.topology.exchanges.get(&name) {
        Some(exchange) => Ok((name, exchange.codec, exchange.kind != ExchangeKind::Direct)),
        None => {
            let known = config.topology.exchanges.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(Problem::unpublishable(format!(
                "there is no exchange {:?} in routes.toml; known: {known}",
                name.as_str()
            )))
        }
    }
}
