use bytes::Bytes;

use super::*;

fn event() -> Event {
    Event {
        id: "e-1".into(),
        own_id: true,
        source: "communications".into(),
        kind: "call.ended".into(),
        subject: None,
        time: None,
        content_type: "application/json".into(),
        data: Bytes::from_static(b"{}"),
        routing_key: "comms.call.ended".into(),
        exchange: "ocelot.events".into(),
        tenant: Some("org-1".into()),
        user: None,
        attempt: 1,
        attributes: Vec::new(),
        correlation_id: Some("root".into()),
        reply_to: None,
        content_encoding: None,
        redelivered: false,
        hops: 2,
        traceparent: Some("00-a-b-01".into()),
    }
}

fn emission(kind: &str) -> Emission {
    Emission { kind: kind.into(), data: Bytes::from_static(b"{\"n\":1}"), ..Emission::default() }
}

fn build(types: Option<Vec<String>>, emissions: &[Emission]) -> Result<Vec<Publication>, CallFailure> {
    let emit = Emit {
        exchange: ExchangeName::new("ocelot.events").expect("valid"),
        key: "team.{type}".into(),
        types,
        unroutable: Unroutable::Accept,
        reply: false,
    };
    build_with(&emit, None, &event(), emissions)
}

fn build_with(
    emit: &Emit,
    allow: Option<&[EmitGrant]>,
    event: &Event,
    emissions: &[Emission],
) -> Result<Vec<Publication>, CallFailure> {
    let context = EmitContext {
        route: &RouteName::new("r").expect("valid"),
        emit,
        allow,
        codec: Codec::Raw,
        reply_codec: Codec::Ocelot,
        plugin: "p",
        digest: "d",
        now: "2026-11-21T00:00:00Z",
        now_seconds: 1,
        key: None,
    };
    publications(&context, event, emissions)
}

#[test]
fn an_emission_carries_its_history() {
    let built = build(None, &[emission("task.created"), emission("task.created")]).expect("valid");
    let message = &built[1].message;
    assert_eq!(message.routing_key.as_str(), "team.task.created");
    let properties = &message.properties;
    assert_ne!(properties.message_id, built[0].message.properties.message_id, "each position has its id");
    assert_eq!(properties.correlation_id.as_deref(), Some("root"));
    let headers = &properties.headers;
    assert_eq!((headers.int(header::HOPS), headers.int(header::INDEX)), (Some(3), Some(1)));
    assert_eq!((headers.text(header::CAUSE), headers.text(header::TENANT)), (Some("e-1"), Some("org-1")));
    assert_eq!(headers.text("traceparent"), Some("00-a-b-01"));
    assert!(built.iter().all(|publication| publication.accept_unroutable));
}

#[test]
fn one_bad_emission_stops_all() {
    let with = |change: fn(&mut Emission)| {
        let mut bad = emission("t");
        change(&mut bad);
        bad
    };
    let cases: [(Emission, &str); 10] = [
        (emission(""), "type is empty"),
        (emission(&"t".repeat(256)), "261 bytes"),
        (with(|e| e.routing_key = Some("k".repeat(300))), "routing key has 300 bytes"),
        (with(|e| e.deliver_after_ms = Some(31 * 24 * 3600 * 1000)), "deliver-after-ms"),
        (with(|e| e.attributes = vec![("CC".into(), "other.key".into())]), "`CC`"),
        (with(|e| e.attributes = vec![("x-delay".into(), "1".into())]), "`x-delay`"),
        (with(|e| e.attributes = vec![("trunkline-hops".into(), "0".into())]), "`trunkline-hops`"),
        (with(|e| e.attributes = vec![("big".into(), "v".repeat(70_000))]), "the headers have"),
        (with(|e| e.content_type = Some("c".repeat(256))), "content-type has 256 bytes"),
        (with(|e| (e.kind, e.routing_key) = ("t".repeat(256), Some("k".into()))), "type has 256 bytes"),
    ];
    for (bad, expected) in cases {
        match build(None, &[emission("ok"), bad]) {
            Err(CallFailure::Invalid(text)) => {
                assert!(text.contains(expected) && text.contains("emission 1"), "{text}")
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn types_and_dedupe_keys_are_held() {
    assert!(build(Some(vec!["a".into()]), &[emission("a")]).is_ok());
    assert!(build(Some(vec!["a".into()]), &[emission("b")]).is_err());
    let keyed = |key: &str| Emission { dedupe_key: Some(key.into()), ..emission("t") };
    assert!(build(None, &[keyed("1"), keyed("2")]).is_ok());
    assert!(build(None, &[keyed("1"), keyed("1")]).is_err());
}

/// The settings of a route that answers and is strict about other emissions.
fn answering() -> Emit {
    Emit {
        exchange: ExchangeName::new("jobs").expect("valid"),
        key: "{type}".into(),
        types: None,
        unroutable: Unroutable::Retry,
        reply: true,
    }
}

#[test]
fn an_emission_without_a_key_is_the_reply() {
    let asks = Event { reply_to: Some("amq.gen-Zx".into()), correlation_id: Some("c-7".into()), ..event() };
    let elsewhere = Emission { routing_key: Some("audit".into()), ..emission("noted") };
    let built = build_with(&answering(), None, &asks, &[emission("answered"), elsewhere]).expect("valid");
    let [reply, note] = &built[..] else { panic!("{built:?}") };
    assert_eq!((reply.message.exchange.as_str(), reply.message.routing_key.as_str()), ("", "amq.gen-Zx"));
    assert_eq!(reply.message.properties.correlation_id.as_deref(), Some("c-7"));
    assert!(reply.message.properties.reply_to.is_none(), "a reply asks for nothing");
    assert!(reply.accept_unroutable && !note.accept_unroutable, "the sender may be gone");
    let body: serde_json::Value = serde_json::from_slice(&reply.message.body).expect("JSON");
    assert_eq!(body["data"], serde_json::json!({ "n": 1 }), "the codec of the route's queue");
    assert_eq!((note.message.exchange.as_str(), note.message.routing_key.as_str()), ("jobs", "audit"));

    // The id stands in for a correlation id, as in JMS.
    let plain = Event { correlation_id: None, ..asks.clone() };
    let built = build_with(&answering(), None, &plain, &[emission("answered")]).expect("valid");
    assert_eq!(built[0].message.properties.correlation_id.as_deref(), Some("e-1"));

    // The key `reply` decides, and an event without an address has no reply.
    let silent = Emit { reply: false, ..answering() };
    for (emit, event) in [(silent, asks), (answering(), event())] {
        let built = build_with(&emit, None, &event, &[emission("answered")]).expect("valid");
        assert_eq!((built[0].message.exchange.as_str(), built[0].message.routing_key.as_str()), ("jobs", "answered"));
        assert!(!built[0].accept_unroutable);
    }
}

#[test]
fn a_reply_needs_a_grant_where_grants_are_listed() {
    let asks = Event { reply_to: Some("answers".into()), ..event() };
    let grant = |exchange: &str, key: &str| {
        let keys = vec![RoutingKey::pattern(key).expect("a pattern")];
        [EmitGrant::new(ExchangeName::new(exchange).expect("a name"), keys)]
    };
    let built = |grants: &[EmitGrant]| build_with(&answering(), Some(grants), &asks, &[emission("answered")]);
    assert!(built(&grant("", "answers")).is_ok());
    for refused in [grant("jobs", "#"), grant("", "other")] {
        assert!(matches!(built(&refused), Err(CallFailure::Invalid(text)) if text.contains("allow.emit")));
    }
}
