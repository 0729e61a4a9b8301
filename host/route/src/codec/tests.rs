use super::*;
use trunkline_event::{ExchangeName, Properties, RoutingKey};

fn message(content_type: Option<&str>, body: impl Into<Bytes>) -> Message {
    Message {
        exchange: ExchangeName::new("ocelot.events").expect("valid"),
        routing_key: RoutingKey::new("comms.call.ended").expect("valid"),
        properties: Properties { content_type: content_type.map(str::to_owned), ..Properties::default() },
        body: body.into(),
    }
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
    assert_eq!(event.correlation_id, "7f1c", "it begins its own chain");
    assert!(event.attributes.contains(&("version".to_owned(), "1.0.0".to_owned())));
    assert!(event.attributes.contains(&("n".to_owned(), "3".to_owned())));
    assert!(event.own_id);
}

#[test]
fn broken_bodies_say_what_and_where() {
    let cases: [(Codec, Option<&str>, &[u8], &str); 12] = [
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
fn what_is_encoded_decodes_to_the_same() {
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
    let text = Bytes::from_static(b"no json");
    let error = encode(Codec::Ocelot, &Outgoing { data: &text, ..outgoing }).expect_err("the envelope is JSON");
    assert!(matches!(error, Error::Data { .. }), "{error}");
}
