//! An event that came in, checked, as a message.

use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use trunkline_broker::Mark;
use trunkline_config::schema::Schema;
use trunkline_config::{Codec, Config, ExchangeKind};
use trunkline_event::{ExchangeName, HeaderKey, Message, Properties, RoutingKey};
use trunkline_http::{Problem, PublishRequest};
use trunkline_route::codec::{self, Outgoing, header};

/// An event that came in; what is empty is not given.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) id: Option<String>,
    pub(super) kind: String,
    pub(super) data: Bytes,
    pub(super) content_type: String,
    pub(super) source: String,
    pub(super) subject: Option<String>,
    pub(super) time: Option<String>,
    pub(super) exchange: Option<String>,
    pub(super) routing_key: Option<String>,
    pub(super) priority: Option<u8>,
    pub(super) tenant: Option<String>,
    pub(super) user: Option<String>,
    pub(super) attributes: Vec<(String, String)>,
}

/// The message, and how it is published.
#[derive(Debug)]
pub(super) struct Composed {
    pub(super) message: Message,
    /// It is fine that nobody has subscribed.
    pub(super) accept_unroutable: bool,
    /// A hash of all that the sender said, where they chose the id.
    pub(super) content: Option<u64>,
}

impl From<PublishRequest> for Incoming {
    fn from(request: PublishRequest) -> Self {
        Self {
            id: request.id,
            kind: request.r#type,
            data: Bytes::copy_from_slice(request.data.get().as_bytes()),
            content_type: "application/json".to_owned(),
            source: request.source.unwrap_or_else(|| "/trunkline/api".to_owned()),
            subject: request.subject,
            time: request.time,
            exchange: request.exchange,
            routing_key: request.routing_key,
            priority: request.priority,
            tenant: request.organization_id,
            user: request.user_id,
            attributes: request.attributes.into_iter().collect(),
        }
    }
}

impl Incoming {
    /// Two requests with one id are the same when this is.
    fn content(&self) -> u64 {
        let mut hash = Sha256::new();
        let mut add = |part: Option<&[u8]>| {
            hash.update([u8::from(part.is_some())]);
            hash.update(part.map_or(0, <[u8]>::len).to_le_bytes());
            hash.update(part.unwrap_or_default());
        };
        let text = |text: &'_ Option<String>| text.clone().map(String::into_bytes);
        let given = [&self.subject, &self.time, &self.exchange, &self.routing_key, &self.tenant, &self.user];
        for part in [self.kind.as_bytes(), &self.data, self.content_type.as_bytes(), self.source.as_bytes()] {
            add(Some(part));
        }
        for part in given {
            add(text(part).as_deref());
        }
        add(self.priority.as_ref().map(std::slice::from_ref));
        for (name, value) in &self.attributes {
            add(Some(name.as_bytes()));
            add(Some(value.as_bytes()));
        }
        Mark::content(hash)
    }
}

/// Checks an event and makes the message.
pub(super) fn compose(config: &Config, incoming: Incoming, signed_by: Option<&HeaderKey>) -> Result<Composed, Problem> {
    let bad = |field: &str, problem: String| Problem::unpublishable(format!("`{field}` {problem}"));
    if incoming.kind.is_empty() {
        return Err(bad("type", "is empty".to_owned()));
    }
    let (exchange, codec, accept_unroutable) = exchange(config, incoming.exchange.as_deref())?;
    check_attributes(codec, &incoming.attributes)?;
    let known = config.event_types.get(&incoming.kind);
    if let Some(schema) = known.and_then(|known| known.schema.as_ref()) {
        check(schema, &incoming.data, "the schema of its type")?;
    }
    let content = incoming.content();
    let key = match (incoming.routing_key, known.and_then(|known| known.key.clone())) {
        (Some(key), _) => RoutingKey::new(key),
        (None, Some(key)) => Ok(key),
        (None, None) => RoutingKey::new(&incoming.kind),
    };
    let id = incoming.id.filter(|id| !id.is_empty());
    let content = id.is_some().then_some(content);
    let id = id.unwrap_or_else(|| Uuid::now_v7().to_string());
    let time = match incoming.time {
        Some(time) => time.parse::<jiff::Timestamp>().map_err(|error| bad("time", format!("is no time: {error}")))?,
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
            correlation_id: Some(id),
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
    Ok(Composed { message, accept_unroutable, content })
}

/// Where attributes become headers, their names may not mean anything to the broker or to the daemon; in an envelope they
/// may have any name but those of the envelope itself.
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

/// Checks data against a schema, whose name is told with the violations.
pub(super) fn check(schema: &Schema, data: &[u8], whose: &str) -> Result<(), Problem> {
    schema.check(data).map_err(|violations| {
        let first = violations.first().map(ToString::to_string).unwrap_or_default();
        Problem::invalid(format!("the data does not fit {whose}: {first}"), &violations)
    })
}

/// The exchange, its codec, and whether it is fine that nobody has subscribed.
fn exchange(config: &Config, name: Option<&str>) -> Result<(ExchangeName, Codec, bool), Problem> {
    let name = match name {
        Some(name) => ExchangeName::new(name).map_err(|error| Problem::unpublishable(format!("`exchange` {error}")))?,
        None => config.default_exchange.clone(),
    };
    if let Some(why) = config.http.refuses(name.as_str()) {
        return Err(Problem::forbidden(why));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_all_that_the_sender_said() {
        let incoming = || Incoming { kind: "t".to_owned(), data: Bytes::from_static(b"1"), ..Incoming::default() };
        let text = |text: &str| Some(text.to_owned());
        let all = [
            incoming(),
            Incoming { kind: "u".to_owned(), ..incoming() },
            Incoming { data: Bytes::from_static(b"2"), ..incoming() },
            Incoming { subject: text("a"), ..incoming() },
            Incoming { subject: text(""), ..incoming() },
            Incoming { tenant: text("a"), ..incoming() },
            Incoming { routing_key: text("a"), ..incoming() },
            Incoming { priority: Some(0), ..incoming() },
            Incoming { attributes: vec![("a".to_owned(), "b".to_owned())], ..incoming() },
            Incoming { attributes: vec![("ab".to_owned(), String::new())], ..incoming() },
        ];
        let mut contents: Vec<u64> = all.iter().map(Incoming::content).collect();
        contents.sort_unstable();
        contents.dedup();
        assert_eq!(contents.len(), all.len());
        let again = Incoming { id: text("another"), ..incoming() };
        assert_eq!(again.content(), incoming().content(), "the id is what they are compared for");
    }
}
