//! Emissions become messages: stable ids, hop count, the exchange's codec, and every bound of the wire.

use std::collections::HashSet;
use std::time::Duration;

use crate::codec::{self, Outgoing, header};
use trunkline_broker::{DELAY_MAX, Publication};
use trunkline_config::{Codec, Emit, EmitGrant, Unroutable};
use trunkline_event::{
    CallFailure, Emission, Event, ExchangeName, HeaderKey, Message, Properties, RouteName, RoutingKey, emission_id,
};

/// The part that all emissions of an event share.
pub(crate) struct EmitContext<'a> {
    pub(crate) route: &'a RouteName,
    pub(crate) emit: &'a Emit,
    /// Grants of the plugin for emissions; none when only the route's settings bound the emissions.
    pub(crate) allow: Option<&'a [EmitGrant]>,
    pub(crate) codec: Codec,
    /// Codec of the route's queue. A reply has the codec of the event.
    pub(crate) reply_codec: Codec,
    pub(crate) plugin: &'a str,
    pub(crate) digest: &'a str,
    /// Present time, RFC 3339 in UTC.
    pub(crate) now: &'a str,
    /// The same instant in seconds since the Unix epoch.
    pub(crate) now_seconds: u64,
    /// Key that signs messages; none on a broker where only the daemon writes headers.
    pub(crate) key: Option<&'a HeaderKey>,
}

/// The address of an emission, and the codec of its message.
struct EmissionTarget {
    exchange: ExchangeName,
    key: String,
    codec: Codec,
    /// Whether the emission goes to the reply address of the event.
    is_reply: bool,
}

impl EmissionTarget {
    /// On a route with `emit.reply`, an emission without a routing key of its own is the reply to an event with a reply address.
    fn of(context: &EmitContext<'_>, event: &Event, emission: &Emission) -> Self {
        let is_reply = context.emit.reply && emission.routing_key.is_none();
        if let Some(address) = event.reply_to.as_ref().filter(|_| is_reply) {
            let (exchange, key) = (ExchangeName::default_exchange(), address.clone());
            return Self { exchange, key, codec: context.reply_codec, is_reply };
        }
        let key = match &emission.routing_key {
            Some(key) => key.clone(),
            None => context.emit.key.replace("{type}", &emission.kind),
        };
        Self { exchange: context.emit.exchange.clone(), key, codec: context.codec, is_reply: false }
    }
}

/// Makes the messages of the emissions of one event. When an emission breaks a rule, the failure names it and no message is published.
pub(crate) fn publications(
    context: &EmitContext<'_>,
    event: &Event,
    emissions: &[Emission],
) -> Result<Vec<Publication>, CallFailure> {
    let mut keys = HashSet::new();
    let mut publications = Vec::with_capacity(emissions.len());
    for (index, emission) in emissions.iter().enumerate() {
        if let Some(key) = &emission.dedupe_key
            && !keys.insert(key)
        {
            return Err(invalid(index, &format!("two emissions have the dedupe key {key:?}")));
        }
        let target = EmissionTarget::of(context, event, emission);
        // The sender of an event may have stopped waiting for the reply.
        let accept_unroutable = target.is_reply || context.emit.unroutable == Unroutable::Accept;
        let message = message(context, event, index, emission, target).map_err(|problem| invalid(index, &problem))?;
        let delay = emission.deliver_after_ms.filter(|ms| *ms > 0).map(Duration::from_millis);
        publications.push(Publication { delay, accept_unroutable, ..Publication::now(message) });
    }
    Ok(publications)
}

/// Longest error text, in bytes. The text is a header and may quote an emission.
const PROBLEM_MAX_BYTES: usize = 1024;

fn invalid(index: usize, problem: &str) -> CallFailure {
    let problem = &problem[..problem.floor_char_boundary(PROBLEM_MAX_BYTES)];
    CallFailure::Invalid(format!("emission {index}: {problem}"))
}

fn message(
    context: &EmitContext<'_>,
    event: &Event,
    index: usize,
    emission: &Emission,
    target: EmissionTarget,
) -> Result<Message, String> {
    check(context, target.codec, emission)?;
    check_grant(context, &target)?;
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
    let encoded = codec::encode(target.codec, &outgoing).map_err(|error| error.to_string())?;
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
    let mut message = Message {
        exchange: target.exchange,
        routing_key: RoutingKey::new(target.key).map_err(|error| format!("the routing key {error}"))?,
        properties: Properties {
            message_id: Some(id),
            kind: Some(emission.kind.clone()),
            content_type: Some(encoded.content_type),
            correlation_id: Some(event.chain_id().to_owned()).filter(|id| id.len() <= 255),
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

fn check(context: &EmitContext<'_>, codec: Codec, emission: &Emission) -> Result<(), String> {
    if emission.kind.is_empty() {
        return Err("the type is empty".to_owned());
    }
    if let Some(types) = &context.emit.types
        && !types.contains(&emission.kind)
    {
        return Err(format!("the type {:?} is not in `emit.types` of the route", emission.kind));
    }
    if emission.deliver_after_ms.is_some_and(|ms| Duration::from_millis(ms) > DELAY_MAX) {
        return Err("`deliver-after-ms` is longer than 30 days".to_owned());
    }
    emission.attributes.iter().try_for_each(|(name, _)| codec::check_attribute(codec, name))
}

/// A plugin cannot publish to another team's keys, whatever the broker would take.
fn check_grant(context: &EmitContext<'_>, target: &EmissionTarget) -> Result<(), String> {
    let EmissionTarget { exchange, key, .. } = target;
    let Some(grants) = context.allow.filter(|grants| !grants.iter().any(|grant| grant.allows(exchange, key))) else {
        return Ok(());
    };
    let listed = grants.iter().filter(|grant| grant.exchange == *exchange).count();
    let why = if listed == 0 { "no grant names the exchange" } else { "no granted key matches" };
    Err(format!(
        "plugin {} may not emit to exchange {exchange:?} with the key {key:?} ({why}); `allow.emit = [{{ exchange = \
         {exchange:?}, keys = [{key:?}] }}]` in [plugins.{}] would grant the emission",
        context.plugin,
        context.plugin,
        exchange = exchange.as_str(),
    ))
}

#[cfg(test)]
mod tests;
