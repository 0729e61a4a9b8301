//! A message as an event of a stream.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use trunkline_config::Codec;
use trunkline_event::Message;
use trunkline_http::StreamEvent;
use trunkline_route::codec;

/// Largest decoded body of a message in a stream. The stream shows the encoded bytes if the decoded body is larger.
const DECODED_MAX_BYTES: usize = 4 << 20;

/// The position of a message in its stream: sixteen hexadecimal digits, the same at every delivery. The event's id would
/// not do, because producers choose ids and an id may hold any text.
pub(super) fn position(message: &Message) -> String {
    let mut digest = Sha256::new();
    let id = message.properties.message_id.as_deref().unwrap_or_default();
    for part in [id, message.exchange.as_str(), message.routing_key.as_str()] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.update(&message.body);
    hex::encode(&digest.finalize()[..8])
}

/// The event in a message. A message that the codec of its exchange cannot read is shown with its body as data, also when
/// the body does not fit its content type.
pub(super) fn event(codec: Codec, message: &Message) -> Option<StreamEvent> {
    let decoded = codec::without_coding(message, DECODED_MAX_BYTES).ok().flatten();
    let message = decoded.as_ref().unwrap_or(message);
    let decode = |codec: Codec, message: &Message| codec::decode(codec, message, DECODED_MAX_BYTES);
    let as_bytes = || {
        let mut bytes = message.copy();
        bytes.properties.content_type = Some("application/octet-stream".to_owned());
        bytes.properties.content_encoding = None;
        decode(Codec::Raw, &bytes)
    };
    let readable = decode(codec, message).or_else(|_| decode(Codec::Raw, message));
    let event = readable.or_else(|_| as_bytes()).ok()?;
    // Many producers send JSON without a content type. The archive also keeps JSON of any content type as JSON.
    let data = one_line(&event.data);
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

/// Size of the data that the client receives for an event, in bytes.
pub(super) fn data_bytes(event: &StreamEvent) -> usize {
    let json = event.data.as_ref().map_or(0, |data| data.get().len());
    json + event.data_base64.as_ref().map_or(0, String::len)
}

/// JSON without line breaks. Outside of strings a line break is white space, and a string cannot hold one. A text with a line
/// break between quotes is therefore not JSON.
fn one_line(data: &[u8]) -> Option<Box<RawValue>> {
    let json: &RawValue = serde_json::from_str(std::str::from_utf8(data).ok()?).ok()?;
    if !json.get().contains(['\n', '\r']) {
        return Some(json.to_owned());
    }
    RawValue::from_string(json.get().replace(['\n', '\r'], " ")).ok()
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
    fn json_is_one_line_and_other_data_is_base64() {
        assert_eq!(data("application/json", "{\n\"a\":1}"), (Some("{ \"a\":1}".to_owned()), None));
        assert_eq!(data("text/plain", "hi"), (None, Some("aGk=".to_owned())));
        assert_eq!(data("text/plain", "\"a\nb\""), (None, Some("ImEKYiI=".to_owned())), "a line break in a string");
        assert_eq!(data("application/json", "no"), (None, Some("bm8=".to_owned())));
        let broken = event(Codec::Ocelot, &message("application/json", "[1]")).expect("as it is");
        assert_eq!(broken.data.expect("JSON").get(), "[1]");
    }

    #[test]
    fn json_needs_no_content_type() {
        for body in ["{\"a\":1}", "[1, 2]", "\"text\"", "null", " 1.50 "] {
            let mut untyped = message("", body);
            untyped.properties.content_type = None;
            let shown = event(Codec::Raw, &untyped).expect("an event");
            assert_eq!(shown.data.as_ref().map(|data| data.get()), Some(body.trim()), "{body}");
            assert_eq!((shown.data_base64, shown.content_type.as_str()), (None, "application/octet-stream"));
            for content_type in ["text/plain", "text/json", "application/octet-stream"] {
                assert_eq!(data(content_type, body), (Some(body.trim().to_owned()), None), "{content_type}");
            }
        }
        for body in ["", "{\"a\":1} {}", "{a:1}", "hello", "\u{feff}"] {
            assert_eq!(data("application/octet-stream", body).0, None, "{body:?}");
        }
    }

    #[test]
    fn a_body_with_a_content_coding_is_shown_decoded_or_as_its_bytes() {
        // zlib with one stored block.
        let stored = b"\x78\x01\x01\x07\x00\xf8\xff{\"a\":1}\x08\x2a\x02\x09".to_vec();
        for (encoding, body, json) in [
            ("deflate", stored.clone(), Some("{\"a\":1}")),
            ("utf-8", b"{\"a\":1}".to_vec(), Some("{\"a\":1}")),
            ("br", stored.clone(), None),
            ("gzip", stored.clone(), None),
            ("gzip", b"[]".to_vec(), Some("[]")),
        ] {
            let mut coded = message("application/json", "");
            coded.properties.content_encoding = Some(encoding.to_owned());
            coded.body = body.clone().into();
            let event = event(Codec::Raw, &coded).expect("an event");
            assert_eq!(event.data.as_ref().map(|data| data.get()), json, "{encoding}");
            let bytes = json.map_or_else(|| BASE64_STANDARD.encode(&body).len(), str::len);
            assert_eq!(data_bytes(&event), bytes, "{encoding}");
        }
    }

    #[test]
    fn positions_differ_between_messages() {
        let one = message("text/plain", "a");
        assert_eq!(position(&one), position(&one.copy()));
        assert_ne!(position(&one), position(&message("text/plain", "b")));
    }
}
