use bytes::Bytes;

use super::*;
use trunkline_config::Codec;
use trunkline_event::{ContentCodingError, Event, ExchangeName, HeaderValue, Message, Properties, Reason, RoutingKey};

fn message(content_type: Option<&str>, body: impl Into<Bytes>) -> Message {
    Message {
        exchange: ExchangeName::new("ocelot.events").expect("valid"),
        routing_key: RoutingKey::new("comms.call.ended").expect("valid"),
        properties: Properties { content_type: content_type.map(str::to_owned), ..Properties::default() },
        body: body.into(),
    }
}

/// Largest decoded body.
const BODY_MAX: usize = 1 << 10;

fn decode(codec: Codec, message: &Message) -> Result<Event, CodecError> {
    super::decode(codec, message, BODY_MAX)
}

const OCELOT: &str = r#"{"id":"7f1c","type":"call.ended","source":"communications","timestamp":"2026-11-21T10:00:00Z",
    "organizationId":"org-1","userId":null,"data":{"call_id":"c-1", "duration": 1.50},
    "metadata":{"version":"1.0.0","module":"cc-lite","n":3}}"#;

#[test]
fn ocelot_takes_the_envelope_off_and_keeps_the_data_as_it_was() {
    let event = decode(Codec::Ocelot, &message(None, OCELOT)).expect("valid");
    assert_eq!((event.id.as_str(), event.kind.as_str()), ("7f1c", "call.ended"));
    assert_eq!(event.source, "communications");
    assert_eq!((event.tenant.as_deref(), event.user.as_deref()), (Some("org-1"), None));
    assert_eq!(&event.data[..], br#"{"call_id":"c-1", "duration": 1.50}"#);
    assert_eq!((event.correlation_id.as_deref(), event.chain_id()), (None, "7f1c"), "it begins its own chain");
    assert!(event.attributes.contains(&("version".to_owned(), "1.0.0".to_owned())));
    assert!(event.attributes.contains(&("n".to_owned(), "3".to_owned())));
    assert!(event.own_id);
}

/// Many serialisers write `null` for a member without a value.
#[test]
fn null_is_a_missing_member_of_an_ocelot_envelope() {
    let full = r#"{"id":"1","type":"t","source":null,"timestamp":null,"organizationId":null,"userId":null,"data":null,
        "metadata":null}"#;
    let event = decode(Codec::Ocelot, &message(None, full)).expect("valid");
    assert_eq!(event, decode(Codec::Ocelot, &message(None, r#"{"id":"1","type":"t","data":null}"#)).expect("valid"));
    assert_eq!(&event.data[..], b"null", "the data `null` is not the same as no data");
    let partial = r#"{"id":"1","type":"t","data":{},"metadata":{"module":null,"n":0}}"#;
    let event = decode(Codec::Ocelot, &message(None, partial)).expect("valid");
    assert_eq!(event.attributes, [("n".to_owned(), "0".to_owned())]);
}

/// W7: the headers of the sender are attributes with every codec. The envelope counts before a header with the same name.
#[test]
fn headers_are_attributes_beside_an_envelope() {
    let cloud = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","module":"cc-lite","data":{}}"#;
    for (codec, content_type, body) in
        [(Codec::Ocelot, None, OCELOT), (Codec::Cloudevents, Some("application/cloudevents+json"), cloud)]
    {
        let mut sent = message(content_type, body);
        let headers = &mut sent.properties.headers;
        headers.set("customer", HeaderValue::Int(42));
        headers.set("module", "another module");
        headers.set("x-death", "broker's");
        headers.set(header::SUBJECT, "daemon's");
        let event = decode(codec, &sent).expect("valid");
        let values = |wanted: &str| -> Vec<&str> {
            let named = event.attributes.iter().filter(|(name, _)| name == wanted);
            named.map(|(_, value)| value.as_str()).collect()
        };
        assert_eq!((values("customer"), values("module")), (vec!["42"], vec!["cc-lite"]), "{codec:?}");
        assert!(values("x-death").is_empty() && values(header::SUBJECT).is_empty(), "{codec:?}");
    }
}

#[test]
fn broken_bodies_give_the_rule_and_the_place() {
    let cases: [(Codec, Option<&str>, &[u8], &str); 13] = [
        (Codec::Ocelot, None, b"", "EOF"),
        (Codec::Ocelot, None, b"{\"id\":", "column 6"),
        (Codec::Ocelot, None, b"[]", "envelope"),
        (Codec::Ocelot, None, br#"{"type":"t","data":{}}"#, "`id`"),
        (Codec::Ocelot, None, br#"{"id":"1","type":"t"}"#, "`data`"),
        (Codec::Ocelot, None, br#"{"id":"","type":"t","data":1}"#, "`id` is empty"),
        (Codec::Ocelot, None, br#"{"id":7,"type":"t","data":1}"#, "integer"),
        (Codec::Ocelot, None, b"\xff\xfe{\0", "column 1"),
        (Codec::Raw, Some("application/json"), b"{\"a\":}", "column 6"),
        (Codec::Raw, Some("application/vnd.acme+json; charset=utf-8"), b"nope", "column"),
        (Codec::Raw, Some("application/json; charset=iso-8859-1"), b"{\"name\":\"Ren\xe9\"}", "UTF-8"),
        (
            Codec::Cloudevents,
            Some("application/cloudevents+json"),
            br#"{"specversion":"1.0","id":"1","source":"/"}"#,
            "`type`",
        ),
        (
            Codec::Cloudevents,
            Some("application/cloudevents+json"),
            br#"{"specversion":"0.3","id":"1","source":"/","type":"t"}"#,
            "0.3",
        ),
    ];
    for (codec, content_type, body, expected) in cases {
        let error = decode(codec, &message(content_type, body.to_vec())).expect_err("broken").to_string();
        assert!(error.contains(expected), "{codec:?} {body:?}: {error}");
    }
}

/// The body after a byte order mark.
fn marked(body: &str) -> String {
    format!("\u{feff}{body}")
}

#[test]
fn a_byte_order_mark_before_json_is_left_out() {
    let plain = decode(Codec::Ocelot, &message(None, OCELOT)).expect("valid");
    let event = decode(Codec::Ocelot, &message(None, marked(OCELOT))).expect("valid");
    assert_eq!((event.id, event.data), (plain.id, plain.data));
    let structured = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}"#;
    let cloud = message(Some("application/cloudevents+json"), marked(structured));
    assert_eq!(&decode(Codec::Cloudevents, &cloud).expect("valid").data[..], br#"{"a":1}"#);
    for codec in [Codec::Raw, Codec::Cloudevents] {
        for content_type in [Some("application/json"), Some("application/vnd.acme+json"), None, Some("text/plain")] {
            for body in ["{\"a\": 1}", " [1]"] {
                let event = decode(codec, &message(content_type, marked(body))).expect("valid");
                assert_eq!(&event.data[..], body.as_bytes(), "{codec:?} {content_type:?}");
            }
        }
        let number = decode(codec, &message(Some("application/json"), marked("1"))).expect("valid");
        assert_eq!(&number.data[..], b"1");
        for (content_type, body) in [(Some("text/plain"), "hello"), (None, "{not json"), (Some("text/csv"), "1")] {
            let text = decode(codec, &message(content_type, marked(body))).expect("valid");
            assert_eq!(&text.data[..], marked(body).as_bytes(), "text that is not JSON is unchanged");
        }
        let error = decode(codec, &message(Some("application/json"), marked("{"))).expect_err("broken");
        assert!(matches!(error, CodecError::Json(_)), "{error}");
    }
}

#[test]
fn raw_reads_properties_and_headers() {
    let mut plain = message(Some("text/plain"), "hello");
    let properties = &mut plain.properties;
    properties.timestamp = Some(1_700_000_000);
    properties.headers.set("region", "eu");
    properties.headers.set(header::TENANT, "org-2");
    properties.headers.set(header::ATTEMPT, 3_u32);
    properties.headers.set("x-death", "broker's");
    let event = decode(Codec::Raw, &plain).expect("valid");
    assert_eq!(event.kind, "comms.call.ended", "the routing key stands in for a missing type");
    assert_eq!(event.time.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(event.attributes, [("region".to_owned(), "eu".to_owned())]);
    assert_eq!((event.tenant.as_deref(), event.attempt), (Some("org-2"), 3));
    assert!(!event.own_id && !event.id.is_empty());
    assert_ne!(event.id, decode(Codec::Raw, &plain).expect("valid").id, "equal bodies are two events");
    plain.properties.message_id = Some(event.id.clone());
    plain.properties.headers.set(header::OWN_ID, false);
    let again = decode(Codec::Raw, &plain).expect("valid");
    assert_eq!((again.id, again.own_id), (event.id, false), "a copy keeps the id, and that it is not the sender's");
}

#[test]
fn every_codec_keeps_the_properties_of_a_request() {
    let cloud = r#"{"specversion":"1.0","id":"7f1c","source":"/s","type":"t","data":{}}"#;
    for (codec, content_type, body) in [
        (Codec::Raw, None, "{}"),
        (Codec::Ocelot, None, OCELOT),
        (Codec::Cloudevents, Some("application/cloudevents+json"), cloud),
    ] {
        let mut request = message(content_type, gzip(body.as_bytes()));
        let properties = &mut request.properties;
        properties.message_id = Some("m-1".to_owned());
        properties.reply_to = Some("amq.gen-Zx".to_owned());
        properties.correlation_id = Some("c-7".to_owned());
        properties.content_encoding = Some("gzip".to_owned());
        let event = decode(codec, &request).expect("valid");
        assert_eq!((event.reply_to.as_deref(), event.chain_id()), (Some("amq.gen-Zx"), "c-7"), "{codec:?}");
        assert_eq!(event.content_encoding.as_deref(), Some("gzip"), "{codec:?}: the body came compressed");
        request.properties.reply_to = Some(String::new());
        request.properties.correlation_id = Some(String::new());
        let event = decode(codec, &request).expect("valid");
        assert_eq!(
            (event.reply_to.as_deref(), event.correlation_id.as_deref()),
            (None, None),
            "{codec:?}: empty is absent"
        );
    }
}

#[test]
fn a_retry_shows_where_it_first_came_from() {
    let mut retried = message(None, "x");
    retried.exchange = ExchangeName::default_exchange();
    retried.properties.headers.set(header::SOURCE_EXCHANGE, "ocelot.events");
    retried.properties.headers.set(header::SOURCE_KEY, "comms.call.ended");
    let event = decode(Codec::Raw, &retried).expect("valid");
    assert_eq!((event.exchange.as_str(), event.routing_key.as_str()), ("ocelot.events", "comms.call.ended"));
}

#[test]
fn a_dead_letter_says_why_and_a_retry_does_not() {
    let mut message = message(Some("text/plain"), "x");
    let headers = &mut message.properties.headers;
    headers.set(header::ERROR, "no answer in time");
    headers.set(header::ATTEMPT, 2_u32);
    assert_eq!(decode(Codec::Raw, &message).expect("decodes").attributes, []);
    message.properties.headers.set(header::REASON, "exhausted");
    let mut attributes = decode(Codec::Raw, &message).expect("decodes").attributes;
    attributes.sort();
    let wanted =
        [("trunkline-attempt", "2"), ("trunkline-error", "no answer in time"), ("trunkline-reason", "exhausted")];
    assert_eq!(attributes, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn cloudevents_binary_in_both_spellings() {
    for prefix in PREFIXES {
        let mut binary = message(Some("application/json"), "{}");
        for (name, value) in
            [("specversion", "1.0"), ("id", "e-1"), ("source", "/calls"), ("type", "t"), ("region", "eu")]
        {
            binary.properties.headers.set(format!("{prefix}{name}"), value);
        }
        let event = decode(Codec::Cloudevents, &binary).expect("valid");
        assert_eq!((event.id.as_str(), event.source.as_str(), event.kind.as_str()), ("e-1", "/calls", "t"));
        assert_eq!(event.attributes, [("region".to_owned(), "eu".to_owned())]);
    }
    let mut partial = message(None, "{}");
    partial.properties.headers.set("cloudEvents_id", "e-1");
    assert!(decode(Codec::Cloudevents, &partial).is_err(), "an id without source and type is no CloudEvent");
    assert!(decode(Codec::Cloudevents, &message(None, "plain")).is_ok(), "a plain message still flows");
}

const PREFIXES: [&str; 2] = ["cloudEvents_", "cloudEvents:"];

#[test]
fn cloudevents_structured_with_binary_data() {
    let body = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain",
        "data_base64":"aGVsbG8=","priority":7}"#;
    let event = decode(Codec::Cloudevents, &message(Some("application/cloudevents+json"), body)).expect("valid");
    assert_eq!((&event.data[..], event.content_type.as_str()), (&b"hello"[..], "text/plain"));
    assert_eq!(event.attributes, [("priority".to_owned(), "7".to_owned())]);
}

#[test]
fn an_encoded_event_decodes_to_the_same() {
    let data = Bytes::from_static(br#"{"title": "call back"}"#);
    let attributes = [("campaign".to_owned(), "c-9".to_owned())];
    let outgoing = Outgoing {
        id: "id-1",
        kind: "planning.task.created",
        source: "/trunkline/callback-tasks",
        subject: Some("call/1"),
        time: "2026-11-21T10:00:00Z",
        content_type: "application/json",
        data: &data,
        tenant: Some("org-1"),
        user: Some("u-1"),
        attributes: &attributes,
    };
    for codec in [Codec::Raw, Codec::Cloudevents, Codec::Ocelot] {
        let encoded = encode(codec, &outgoing).expect("valid");
        let mut wire = message(Some(&encoded.content_type), encoded.body);
        wire.properties.headers = encoded.headers;
        wire.properties.message_id = Some("id-1".to_owned());
        wire.properties.kind = Some("planning.task.created".to_owned());
        wire.properties.headers.set(header::TENANT, "org-1");
        let event = decode(codec, &wire).expect("valid");
        assert_eq!((event.id.as_str(), event.kind.as_str(), &event.data), ("id-1", outgoing.kind, &data), "{codec:?}");
        assert_eq!((event.tenant.as_deref(), event.user.as_deref()), (Some("org-1"), Some("u-1")), "{codec:?}");
        assert!(event.attributes.contains(&attributes[0]), "{codec:?}: {:?}", event.attributes);
        if codec != Codec::Ocelot {
            assert_eq!(event.subject.as_deref(), Some("call/1"), "{codec:?}");
        }
    }
    let with_mark = Bytes::from(marked("{}"));
    let body = encode(Codec::Ocelot, &Outgoing { data: &with_mark, ..outgoing }).expect("JSON").body;
    assert_eq!(&decode(Codec::Ocelot, &message(None, body)).expect("valid").data[..], b"{}");
    let text = Bytes::from_static(b"no json");
    let error = encode(Codec::Ocelot, &Outgoing { data: &text, ..outgoing }).expect_err("the envelope is JSON");
    assert!(matches!(error, CodecError::Data { .. }), "{error}");
}

/// A CloudEvent may have no data. The next route must be able to read the emission of a plugin that copies the event.
#[test]
fn an_event_without_data_does_not_declare_json() {
    let data = Bytes::new();
    let outgoing = |content_type| Outgoing {
        id: "id-1",
        kind: "t",
        source: "/s",
        subject: None,
        time: "2026-11-21T10:00:00Z",
        content_type,
        data: &data,
        tenant: None,
        user: None,
        attributes: &[],
    };
    for (content_type, expected) in [
        ("application/json", "application/octet-stream"),
        ("application/vnd.acme+json; charset=utf-8", "application/octet-stream"),
        ("text/plain", "text/plain"),
    ] {
        let encoded = encode(Codec::Raw, &outgoing(content_type)).expect("valid");
        assert_eq!(encoded.content_type, expected);
        assert!(decode(Codec::Raw, &message(Some(&encoded.content_type), encoded.body)).is_ok(), "{content_type}");
        let encoded = encode(Codec::Cloudevents, &outgoing(content_type)).expect("valid");
        let mut wire = message(Some(&encoded.content_type), encoded.body);
        wire.properties.headers = encoded.headers;
        let event = decode(Codec::Cloudevents, &wire).expect("valid");
        assert_eq!((event.id.as_str(), event.content_type.as_str(), event.data.len()), ("id-1", content_type, 0));
    }
    assert!(decode(Codec::Raw, &message(Some("application/json"), "")).is_err(), "an empty body is not JSON");
}

fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).expect("written");
    encoder.finish().expect("finished")
}

fn zlib(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).expect("written");
    encoder.finish().expect("finished")
}

#[test]
fn each_codec_reads_a_body_with_a_content_coding() {
    let cloud = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"call_id":"c-1"}}"#;
    for (codec, content_type, body, data) in [
        (Codec::Raw, "application/json", "{\"a\": 1}", "{\"a\": 1}"),
        (Codec::Ocelot, "application/json", OCELOT, r#"{"call_id":"c-1", "duration": 1.50}"#),
        (Codec::Cloudevents, "application/cloudevents+json", cloud, r#"{"call_id":"c-1"}"#),
    ] {
        let mut coded = message(Some(content_type), gzip(body.as_bytes()));
        coded.properties.content_encoding = Some("gzip".to_owned());
        assert_eq!(&decode(codec, &coded).expect("valid").data[..], data.as_bytes(), "{codec:?}");
        let mut celery = message(Some(content_type), body.to_owned());
        celery.properties.content_encoding = Some("utf-8".to_owned());
        celery.properties.headers.set("compression", "application/x-gzip");
        let uncompressed = decode(codec, &celery).expect("valid");
        assert_eq!(&uncompressed.data[..], data.as_bytes(), "{codec:?}");
        assert!(uncompressed.attributes.iter().any(|(name, _)| name == "compression"), "{codec:?}: an attribute");
        for compressed in [zlib(body.as_bytes()), gzip(body.as_bytes())] {
            celery.body = compressed.into();
            let event = decode(codec, &celery).expect("valid");
            assert_eq!(&event.data[..], data.as_bytes(), "{codec:?}: the option compression of Celery");
            assert!(!event.attributes.iter().any(|(name, _)| name == "compression"), "{codec:?}: {event:?}");
        }
    }
}

#[test]
fn a_coding_that_fails_has_its_reason() {
    let zeros = [0_u8; BODY_MAX + 1];
    let (whole, bomb) = (gzip(&zeros[1..]), gzip(&zeros));
    for (encoding, body, reason) in [
        ("gzip", whole.clone(), None),
        ("gzip", bomb, Some(Reason::TooLarge)),
        ("gzip", b"plain".to_vec(), Some(Reason::Invalid)),
        ("br", b"plain".to_vec(), Some(Reason::Invalid)),
    ] {
        let mut coded = message(None, body);
        coded.properties.content_encoding = Some(encoding.to_owned());
        assert_eq!(decode(Codec::Raw, &coded).err().map(|error| error.reason()), reason, "{encoding}");
    }
    let error = CodecError::from(ContentCodingError::Unknown("br".to_owned()));
    assert!(error.to_string().contains("use gzip or deflate"), "{error}");
}
