//! What came to a hook as an event.

use serde_json::Value;

use super::Publisher;
use super::message::{self, Incoming};
use trunkline_config::{Codec, Hook, Template};
use trunkline_event::{Event, ExchangeName, HeaderValue, Headers, Message, Properties, RoutingKey};
use trunkline_http::{Accepted, Problem, Received};
use trunkline_route::codec;

/// What a codec gives for a message that came through no exchange and no queue.
const NO_SOURCE: &str = "/queue/";

/// Publishes it.
pub(in crate::daemon) async fn receive(
    publisher: Publisher<'_>,
    hook: Hook,
    received: Received,
) -> Result<Accepted, Problem> {
    let incoming = incoming(&hook, received)?;
    publisher.take("hooks", incoming).await
}

fn incoming(hook: &Hook, received: Received) -> Result<Incoming, Problem> {
    let given = received.id.clone();
    let event = decode(hook, received)?;
    // A request without an envelope says nothing of where it comes from.
    let is_plain = event.source.is_empty() || event.source == NO_SOURCE;
    if let Some(schema) = &hook.schema {
        message::check(schema, &event.data, "the hook's schema")?;
    }
    let templates = [Some(&hook.kind), hook.key.as_ref(), hook.id.as_ref()];
    let has_places = templates.into_iter().flatten().any(Template::has_data);
    // Data that is no JSON has no fields.
    let data = if has_places { serde_json::from_slice(&event.data).unwrap_or_default() } else { Value::Null };
    let kind = match event.kind.is_empty() {
        true => fill("type", &hook.kind, "", &data)?,
        false => event.kind,
    };
    let key = hook.key.as_ref().map(|key| fill("key", key, &kind, &data)).transpose()?;
    let id = match &hook.id {
        Some(template) => Some(fill_id(template, &kind, &data)?),
        None => given.or(event.own_id.then_some(event.id)),
    };
    Ok(Incoming {
        id,
        kind,
        data: event.data,
        content_type: event.content_type,
        source: if is_plain { hook.path.clone() } else { event.source },
        subject: event.subject,
        time: event.time,
        exchange: Some(hook.exchange.to_string()),
        routing_key: key,
        priority: None,
        tenant: event.tenant,
        user: event.user,
        attributes: event.attributes,
    })
}

/// The request as a message, and that as an event. A type that nobody gave is empty.
fn decode(hook: &Hook, received: Received) -> Result<Event, Problem> {
    let empty = RoutingKey::new("").map_err(|error| Problem::unpublishable(error.to_string()))?;
    let headers =
        received.cloudevent.into_iter().map(|(name, value)| (format!("cloudEvents:{name}"), HeaderValue::from(value)));
    let message = Message {
        exchange: ExchangeName::default_exchange(),
        routing_key: empty,
        properties: Properties {
            message_id: received.id,
            content_type: received.content_type,
            headers: if hook.codec == Codec::Cloudevents { headers.collect() } else { Headers::default() },
            ..Properties::default()
        },
        body: received.body,
    };
    codec::decode(hook.codec, &message).map_err(|error| Problem::unpublishable(error.to_string()))
}

fn fill(name: &str, template: &Template, kind: &str, data: &Value) -> Result<String, Problem> {
    // A point would make other words of a key, and a sender would choose who gets the event.
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let field = |path: &[String]| field(data, path).filter(|text| !text.is_empty() && plain(text));
    template.fill(kind, field).map_err(|path| missing(name, path, "of letters, digits, '-' and '_'"))
}

fn fill_id(template: &Template, kind: &str, data: &Value) -> Result<String, Problem> {
    let field = |path: &[String]| field(data, path).filter(|text| !text.is_empty());
    template.fill(kind, field).map_err(|path| missing("id", path, "with something in it"))
}

fn missing(name: &str, path: &[String], of: &str) -> Problem {
    Problem::unpublishable(format!("`{name}` of the hook needs data.{}, a text or number {of}", path.join(".")))
}

fn field(data: &Value, path: &[String]) -> Option<String> {
    let found = path.iter().try_fold(data, |value, name| value.get(name))?;
    match found {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(found.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
