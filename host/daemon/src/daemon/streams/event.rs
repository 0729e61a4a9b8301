//! A message as the client of a stream sees it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use trunkline_config::Codec;
use trunkline_event::Message;
use trunkline_http::StreamEvent;
use trunkline_route::codec;

/// What tells a message from others, the same whenever it is delivered. Ids of events are texts of others and may hold
/// anything; this is sixteen digits.
pub(super) fn mark(message: &Message) -> String {
    let mut digest = Sha256::new();
    let id = message.properties.message_id.as_deref().unwrap_or_default();
    for part in [id, message.exchange.as_str(), message.routing_key.as_str()] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.update(&message.body);
    hex(&digest.finalize()[..8])
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The event in a message. One that its exchange's codec cannot read is shown as it is, also when it is not what its
/// content type says.
pub(super) fn event(codec: Codec, message: &Message) -> Option<StreamEvent> {
    let as_bytes = || {
        let mut bytes = message.clone();
        bytes.properties.content_type = Some("application/octet-stream".to_owned());
        codec::decode(Codec::Raw, &bytes)
    };
    let readable = codec::decode(codec, message).or_else(|_| codec::decode(Codec::Raw, message));
    let event = readable.or_else(|_| as_bytes()).ok()?;
    let media_type = event.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = media_type == "application/json" || media_type.ends_with("+json");
    let data = is_json.then(|| one_line(&event.data)).flatten();
    Some(StreamEvent {
        data_base64: data.is_none().then(|| BASE64_STANDARD.encode(&event.data)),
        data,
        id: event.id,
        r#type: event.kind,
        source: event.source,
        time: event.time,
        exchange: event.exchange,
        routing_key: event.routing_key,
        tenant: event.tenant,
        user: event.user,
        content_type: event.content_type,
        attributes: event.attributes.into_iter().collect(),
    })
}

/// JSON without line breaks: outside of strings they are only space, and inside they cannot stand.
fn one_line(data: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(data).ok()?.replace(['\n', '\r'], " ");
    RawValue::from_string(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_event::{ExchangeName, Properties, RoutingKey};

    fn message(content_type: &str, body: &'static str) -> Message {
        let properties = Properties {
            message_id: Some("e-1".to_owned()),
            kind: Some("t".to_owned()),
            content_type: Some(content_type.to_owned()),
            ..Properties::default()
        };
        Message {
            exchange: ExchangeName::new("events").expect("a name"),
            routing_key: RoutingKey::new("a.b").expect("a key"),
            properties,
            body: body.as_bytes().into(),
        }
    }

    fn data(content_type: &str, body: &'static str) -> (Option<String>, Option<String>) {
        let event = event(Codec::Raw, &message(content_type, body)).expect("an event");
        (event.data.map(|data| data.get().to_owned()), event.data_base64)
    }

    #[test]
    fn json_is_one_line_and_all_else_is_base64() {
        assert_eq!(data("application/json", "{\n\"a\":1}"), (Some("{ \"a\":1}".to_owned()), None));
        assert_eq!(data("text/plain", "hi"), (None, Some("aGk=".to_owned())));
        assert_eq!(data("application/json", "no"), (None, Some("bm8=".to_owned())));
        let broken = event(Codec::Ocelot, &message("application/json", "[1]")).expect("as it is");
        assert_eq!(broken.data.expect("JSON").get(), "[1]");
    }

    #[test]
    fn a_mark_tells_messages_apart() {
        let one = message("text/plain", "a");
        assert_eq!(mark(&one), mark(&one.clone()));
        assert_ne!(mark(&one), mark(&message("text/plain", "b")));
    }
}
