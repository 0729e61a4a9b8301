use bytes::Bytes;

use super::*;
use trunkline_event::ExchangeName;

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
        correlation_id: "root".into(),
        hops: 2,
        traceparent: Some("00-a-b-01".into()),
    }
}

fn emission(kind: &str) -> Emission {
    Emission { kind: kind.into(), data: Bytes::from_static(b"{\"n\":1}"), ..Emission::default() }
}

fn build(types: Option<Vec<String>>, emissions: &[Emission]) -> Result<Vec<Publication>, Failure> {
    let emit = Emit {
        exchange: ExchangeName::new("ocelot.events").expect("valid"),
        key: "team.{type}".into(),
        types,
        unroutable: Unroutable::Accept,
    };
    let context = Context {
        route: &RouteName::new("r").expect("valid"),
        emit: &emit,
        allow: None,
        codec: Codec::Raw,
        plugin: "p",
        digest: "d",
        now: "2026-11-21T00:00:00Z",
        now_seconds: 1,
        key: None,
    };
    publications(&context, &event(), emissions)
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
        (with(|e| e.routing_key = Some("k".repeat(300))), "routing key is 300 bytes"),
        (with(|e| e.deliver_after_ms = Some(31 * 24 * 3600 * 1000)), "deliver-after-ms"),
        (with(|e| e.attributes = vec![("CC".into(), "other.key".into())]), "`CC`"),
        (with(|e| e.attributes = vec![("x-delay".into(), "1".into())]), "`x-delay`"),
        (with(|e| e.attributes = vec![("trunkline-hops".into(), "0".into())]), "`trunkline-hops`"),
        (with(|e| e.attributes = vec![("big".into(), "v".repeat(70_000))]), "headers take"),
        (with(|e| e.content_type = Some("c".repeat(256))), "content-type is 256 bytes"),
        (with(|e| (e.kind, e.routing_key) = ("t".repeat(256), Some("k".into()))), "type is 256 bytes"),
    ];
    for (bad, expected) in cases {
        match build(None, &[emission("ok"), bad]) {
            Err(Failure::Invalid(text)) => assert!(text.contains(expected) && text.contains("emission 1"), "{text}"),
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
