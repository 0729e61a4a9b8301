//! Checks of an event that came in, and its message.

use std::time::SystemTime;

use uuid::Uuid;

use trunkline_config::schema::Schema;
use trunkline_config::{Codec, Config, ExchangeKind};
use trunkline_event::{ExchangeName, HeaderKey, Message, Properties, RoutingKey};
use trunkline_http::Problem;
use trunkline_route::codec::{self, Outgoing, header};

use super::incoming::IncomingEvent;

/// A message that is ready to be published.
#[derive(Debug)]
pub(super) struct ComposedMessage {
    pub(super) message: Message,
    /// The event is accepted when no queue is bound for it.
    pub(super) accept_unroutable: bool,
    /// A hash of the event's content, where the sender chose the id.
    pub(super) content: Option<u64>,
}

/// Checks an event and makes its message.
pub(super) fn compose(
    config: &Config,
    incoming: IncomingEvent,
    signed_by: Option<&HeaderKey>,
) -> Result<ComposedMessage, Problem> {
    let bad = |field: &str, problem: String| Problem::unpublishable(format!("`{field}` {problem}"));
    if incoming.kind.is_empty() {
        return Err(bad("type", "is empty".to_owned()));
    }
    let PublishTarget { exchange, codec, accept_unroutable } = target(config, incoming.exchange.as_deref())?;
    check_attributes(codec, &incoming.attributes)?;
    let known = config.event_types.get(&incoming.kind);
    if let Some(schema) = known.and_then(|known| known.schema.as_ref()) {
        check(schema, &incoming.data, "the schema of the event type")?;
    }
    let has_id = incoming.id.as_ref().is_some_and(|id| !id.is_empty());
    let content = has_id.then(|| incoming.content());
    let key = match (incoming.routing_key, known.and_then(|known| known.key.clone())) {
        (Some(key), _) => RoutingKey::new(key),
        (None, Some(key)) => Ok(key),
        (None, None) => RoutingKey::new(incoming.default_key.as_ref().unwrap_or(&incoming.kind)),
    };
    let id = incoming.id.filter(|id| !id.is_empty());
    let id = id.unwrap_or_else(|| Uuid::now_v7().to_string());
    let time = match incoming.time {
        Some(time) => time
            .parse::<jiff::Timestamp>()
            .map_err(|error| bad("time", format!("is not a time in the format of RFC 3339: {error}")))?,
        None => jiff::Timestamp::now(),
    };
    let encoded = codec::encode(
        codec,
        &Outgoing {
            id: &id,
            kind: &incoming.kind,
            source: &incoming.source,
            subject: incoming.subject.as_deref(),
            time: &time.to_string(),
            content_type: &incoming.content_type,
            data: &incoming.data,
            tenant: incoming.tenant.as_deref(),
            user: incoming.user.as_deref(),
            attributes: &incoming.attributes,
        },
    )
    .map_err(|error| Problem::unpublishable(error.to_string()))?;
    let mut headers = encoded.headers;
    if let Some(tenant) = incoming.tenant {
        headers.set(header::TENANT, tenant);
    }
    let mut message = Message {
        exchange,
        routing_key: key.map_err(|error| bad("routing_key", error.to_string()))?,
        properties: Properties {
            message_id: Some(id.clone()),
            correlation_id: incoming.correlation_id.filter(|given| !given.is_empty()).or(Some(id)),
            reply_to: reply_to(config, incoming.reply_to)?,
            kind: Some(incoming.kind),
            content_type: Some(encoded.content_type),
            timestamp: SystemTime::UNIX_EPOCH.elapsed().ok().map(|since| since.as_secs()),
            app_id: Some("trunkline".to_owned()),
            priority: incoming.priority.or(known.and_then(|known| known.priority)),
            headers,
            ..Properties::default()
        },
        body: encoded.body,
    };
    if let Some(signed_by) = signed_by {
        signed_by.sign(&mut message);
    }
    message.check().map_err(|error| Problem::unpublishable(error.to_string()))?;
    Ok(ComposedMessage { message, accept_unroutable, content })
}

/// The queue for replies, if clients may name one.
fn reply_to(config: &Config, queue: Option<String>) -> Result<Option<String>, Problem> {
    let queue = queue.filter(|queue| !queue.is_empty());
    match queue.as_deref().and_then(|queue| config.http.refuses_reply_to(queue)) {
        Some(why) => Err(Problem::forbidden(why)),
        None => Ok(queue),
    }
}

/// Checks the names of attributes. Where attributes become headers, a name must have no meaning to the broker or the
/// daemon. In an envelope every name but those of the envelope itself is allowed.
fn check_attributes(codec: Codec, attributes: &[(String, String)]) -> Result<(), Problem> {
    let is_trace = |name: &String| name == header::TRACEPARENT;
    let checked = attributes.iter().filter(|(name, _)| codec != Codec::Raw || !is_trace(name));
    for (name, _) in checked {
        let checked = match codec {
            Codec::Raw => codec::check_attribute(codec, name),
            Codec::Cloudevents | Codec::Ocelot => codec::check_context(codec, name),
        };
        checked.map_err(|problem| Problem::unpublishable(format!("`attributes`: {problem}")))?;
    }
    Ok(())
}

/// Checks data against a schema. `whose` names the schema in the problem.
pub(super) fn check(schema: &Schema, data: &[u8], whose: &str) -> Result<(), Problem> {
    schema.check(data).map_err(|violations| {
        let first = violations.first().map(ToString::to_string).unwrap_or_default();
        Problem::invalid(format!("the data does not fit {whose}: {first}"), &violations)
    })
}

/// The exchange of an event.
struct PublishTarget {
    exchange: ExchangeName,
    codec: Codec,
    accept_unroutable: bool,
}

fn target(config: &Config, name: Option<&str>) -> Result<PublishTarget, Problem> {
    let name = match name {
        Some(name) => ExchangeName::new(name).map_err(|error| Problem::unpublishable(format!("`exchange` {error}")))?,
        None => config.default_exchange.clone(),
    };
    if let Some(why) = config.http.refuses(name.as_str()) {
        return Err(Problem::forbidden(why));
    }
    if name.is_default() {
        return Ok(PublishTarget { exchange: name, codec: Codec::Raw, accept_unroutable: false });
    }
    match config.topology.exchanges.get(&name) {
        Some(known) => {
            let accept_unroutable = known.kind != ExchangeKind::Direct;
            Ok(PublishTarget { exchange: name, codec: known.codec, accept_unroutable })
        }
        None => {
            let known = config.topology.exchanges.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(Problem::unpublishable(format!(
                "there is no exchange {:?} in routes.toml; known exchanges: {known}",
                name.as_str()
            )))
        }
    }
}
