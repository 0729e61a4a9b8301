//! Emissions become messages: stable ids, hop count, the exchange's codec, and every bound of the wire.

use std::collections::HashSet;
use std::time::Duration;

use crate::codec::{self, Outgoing, header};
use trunkline_broker::{DELAY_MAX, Publication};
use trunkline_config::{Codec, Emit, EmitGrant, Unroutable};
use trunkline_event::{Emission, Event, Failure, HeaderKey, Message, Properties, RouteName, RoutingKey, emission_id};

/// What is the same for all emissions of an event.
pub(crate) struct Context<'a> {
    pub(crate) route: &'a RouteName,
    pub(crate) emit: &'a Emit,
    /// What the plugin may emit to at all; none when only the route's own settings rule.
    pub(crate) allow: Option<&'a [EmitGrant]>,
    pub(crate) codec: Codec,
    pub(crate) plugin: &'a str,
    pub(crate) digest: &'a str,
    /// RFC 3339, UTC.
    pub(crate) now: &'a str,
    /// The same instant in seconds since the Unix epoch.
    pub(crate) now_seconds: u64,
    /// What messages are signed with; none where nobody else can write headers.
    pub(crate) key: Option<&'a HeaderKey>,
}

/// Builds the messages of one event, or says which emission breaks which rule; then none is published.
pub(crate) fn publications(
    context: &Context<'_>,
    event: &Event,
    emissions: &[Emission],
) -> Result<Vec<Publication>, Failure> {
    let mut keys = HashSet::new();
    let mut publications = Vec::with_capacity(emissions.len());
    for (index, emission) in emissions.iter().enumerate() {
        if let Some(key) = &emission.dedupe_key
            && !keys.insert(key)
        {
            return Err(invalid(index, &format!("the dedupe key {key:?} is used twice")));
        }
        let message = message(context, event, index, emission).map_err(|problem| invalid(index, &problem))?;
        let accept_unroutable = context.emit.unroutable == Unroutable::Accept;
        let delay = emission.deliver_after_ms.filter(|ms| *ms > 0).map(Duration::from_millis);
        publications.push(Publication { delay, ..Publication::now(message, accept_unroutable) });
    }
    Ok(publications)
}

/// What a problem may quote of what the plugin gave, in bytes: it goes into a header.
const PROBLEM_MAX_BYTES: usize = 1024;

fn invalid(index: usize, problem: &str) -> Failure {
    let problem = &problem[..problem.floor_char_boundary(PROBLEM_MAX_BYTES)];
    Failure::Invalid(format!("emission {index}: {problem}"))
}

fn message(context: &Context<'_>, event: &Event, index: usize, emission: &Emission) -> Result<Message, String> {
    check(context, emission)?;
    let id = emission_id(&event.id, context.route, index, emission.dedupe_key.as_deref());
    let outgoing = Outgoing {
        id: &id,
        kind: &emission.kind,
        source: &format!("/trunkline/{}", context.route),
        subject: emission.subject.as_deref(),
        time: context.now,
        content_type: emission.content_type.as_deref().unwrap_or("application/json"),
        data: &emission.data,
        tenant: event.tenant.as_deref(),
        user: event.user.as_deref(),
        attributes: &emission.attributes,
    };
    let encoded = codec::encode(context.codec, &outgoing).map_err(|error| error.to_string())?;
    let mut headers = encoded.headers;
    headers.set(header::ROUTE, context.route.as_str());
    headers.set(header::PLUGIN, context.plugin);
    headers.set(header::PLUGIN_DIGEST, context.digest);
    headers.set(header::CAUSE, event.id.as_str());
    headers.set(header::INDEX, u32::try_from(index).unwrap_or(u32::MAX));
    headers.set(header::HOPS, event.hops.saturating_add(1));
    if let Some(tenant) = &event.tenant {
        headers.set(header::TENANT, tenant.as_str());
    }
    if let Some(traceparent) = &event.traceparent {
        headers.set(header::TRACEPARENT, traceparent.as_str());
    }
    let key = match &emission.routing_key {
        Some(key) => key.clone(),
        None => context.emit.key.replace("{type}", &emission.kind),
    };
    check_grant(context, &key)?;
    let mut message = Message {
        exchange: context.emit.exchange.clone(),
        routing_key: RoutingKey::new(key).map_err(|error| format!("the routing key {error}"))?,
        properties: Properties {
            message_id: Some(id),
            kind: Some(emission.kind.clone()),
            content_type: Some(encoded.content_type),
            correlation_id: Some(event.correlation_id.clone()).filter(|id| id.len() <= 255),
            timestamp: Some(context.now_seconds),
            app_id: Some("trunkline".to_owned()),
            priority: emission.priority,
            headers,
            ..Properties::default()
        },
        body: encoded.body,
    };
    if let Some(key) = context.key {
        key.sign(&mut message);
    }
    message.check().map_err(|error| error.to_string())?;
    Ok(message)
}

fn check(context: &Context<'_>, emission: &Emission) -> Result<(), String> {
    if emission.kind.is_empty() {
        return Err("its type is empty".to_owned());
    }
    if let Some(types) = &context.emit.types
        && !types.contains(&emission.kind)
    {
        return Err(format!("the type {:?} is not among the route's emit.types", emission.kind));
    }
    if emission.deliver_after_ms.is_some_and(|ms| Duration::from_millis(ms) > DELAY_MAX) {
        return Err("deliver-after-ms is longer than 30 days".to_owned());
    }
    emission.attributes.iter().try_for_each(|(name, _)| codec::check_attribute(context.codec, name))
}

/// A plugin cannot publish to another team's keys, whatever the broker would take.
fn check_grant(context: &Context<'_>, key: &str) -> Result<(), String> {
    let exchange = &context.emit.exchange;
    let Some(grants) = context.allow.filter(|grants| !grants.iter().any(|grant| grant.allows(exchange, key))) else {
        return Ok(());
    };
    let listed = grants.iter().filter(|grant| grant.exchange == *exchange).count();
    let why = if listed == 0 { "no grant names that exchange" } else { "no key of its grants fits" };
    Err(format!(
        "plugin {} may not emit to exchange {exchange:?} with the key {key:?} ({why}); `allow.emit = [{{ exchange = \
         {exchange:?}, keys = [{key:?}] }}]` in [plugins.{}] would grant it",
        context.plugin,
        context.plugin,
        exchange = exchange.as_str(),
    ))
}

#[cfg(test)]
mod tests;
