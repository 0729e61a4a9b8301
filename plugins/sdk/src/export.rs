//! Conversion between the generated bindings and the types of this crate.

pub use crate::bindings;
use crate::bindings::exports::trunkline::plugin::{handler as wit, metadata};
use crate::{Descriptor, Emission, Event, Failure};

/// Calls the plugin's handler with the types of this crate.
///
/// # Errors
/// Returns the failure that the handler returned.
pub fn call(
    event: wit::Event,
    handle: impl FnOnce(Event) -> Result<Vec<Emission>, Failure>,
) -> Result<Vec<wit::Emission>, wit::Failure> {
    match handle(lift(event)) {
        Ok(emissions) => Ok(emissions.into_iter().map(lower).collect()),
        Err(failure) => Err(lower_failure(failure)),
    }
}

/// Returns the descriptor as the record of the WIT interface.
#[must_use]
pub fn describe(descriptor: &Descriptor) -> metadata::Descriptor {
    let texts = |types: &[&str]| types.iter().map(|kind| (*kind).to_owned()).collect();
    metadata::Descriptor {
        name: descriptor.name.to_owned(),
        version: descriptor.version.to_owned(),
        description: descriptor.description.to_owned(),
        takes: texts(descriptor.takes),
        emits: texts(descriptor.emits),
    }
}

fn lift(event: wit::Event) -> Event {
    Event {
        id: event.id,
        source: event.source,
        kind: event.type_,
        subject: event.subject,
        time: event.time,
        content_type: event.content_type,
        data: event.data,
        routing_key: event.routing_key,
        exchange: event.exchange,
        tenant: event.tenant,
        user: event.user,
        attempt: event.attempt,
        attributes: event.attributes,
        reply_to: event.reply_to,
        correlation_id: event.correlation_id,
        content_encoding: event.content_encoding,
        redelivered: event.redelivered,
        own_id: event.own_id,
    }
}

fn lower(emission: Emission) -> wit::Emission {
    wit::Emission {
        type_: emission.kind,
        data: emission.data,
        content_type: emission.content_type,
        routing_key: emission.routing_key,
        subject: emission.subject,
        attributes: emission.attributes,
        priority: emission.priority,
        dedupe_key: emission.dedupe_key,
        deliver_after_ms: emission.deliver_after_ms,
    }
}

fn lower_failure(failure: Failure) -> wit::Failure {
    match failure {
        Failure::Retry { reason, after } => {
            let after_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
            wit::Failure::Retry(crate::bindings::trunkline::plugin::types::RetryHint { reason, after_ms })
        }
        Failure::Reject(text) => wit::Failure::Reject(text),
    }
}
