//! W7: headers of every AMQP type are attributes, and a missing ordering key is reported.

use std::collections::BTreeMap;

use trunkline_event::{HeaderValue, Headers, Reason};
use trunkline_support::frames::{FrameProducer, HEADERS, MESSAGE_ID, entry, long, properties, short};

use super::{attributes, put, seen};
use crate::bench::{Bench, drain, message, metric, on_both_brokers, settled};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-seen]
bind = "seen"
[routes.$P-ordered]
from = "ordered"
plugin = "witness"
order-by = "attributes.customer"
[routes.$P-tenants]
from = "tenants"
plugin = "witness"
tenant = "attributes.customer"
"#;
/// The names of headers, one for each type, with the texts of the attributes.
const TEXTS: [(&str, &str); 9] = [
    ("bool", "true"),
    ("int", "-7"),
    ("float", "0.1"),
    ("text", "ä"),
    ("utf8", "bytes"),
    ("bytes", "/wA="),
    ("time", "2023-11-14T22:13:20Z"),
    ("decimal", "-1.50"),
    ("customer", "42"),
];

fn expected() -> BTreeMap<String, String> {
    TEXTS.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

async fn headers_of_every_type_are_attributes(bench: Bench) {
    let exchange = format!("{}-events", bench.prefix);
    let broker = bench.open(ROUTES).await;
    for route in ["ordered", "tenants"] {
        let mut publication = message(&exchange, route, route, "{}");
        let headers = &mut publication.message_mut().properties.headers;
        for (name, value) in [
            ("bool", HeaderValue::Bool(true)),
            ("int", HeaderValue::Int(-7)),
            ("float", HeaderValue::Float(0.1)),
            ("text", HeaderValue::from("ä")),
            ("utf8", HeaderValue::Bytes(b"bytes".to_vec())),
            ("bytes", HeaderValue::Bytes(vec![0xff, 0])),
            ("time", HeaderValue::Timestamp(1_700_000_000)),
            ("decimal", HeaderValue::Decimal { scale: 2, unscaled: -150 }),
            ("customer", HeaderValue::Int(42)),
            ("void", HeaderValue::Null),
            ("list", HeaderValue::List(vec!["a".into()])),
            ("table", HeaderValue::Table(Headers::default())),
        ] {
            headers.set(name, value);
        }
        put(&broker, publication).await;
    }
    broker.close(trunkline_support::patience()).await;
    drop(broker);
    let daemon = bench.start(ROUTES).await;
    for route in ["ordered", "tenants"] {
        metric(&daemon, &settled(&bench, route, "ack"), |count| count == 1.0).await;
    }
    assert_eq!(daemon.metric(&missing(&bench)), 0.0);
    assert!(daemon.terminate().await.success());

    let broker = bench.open(ROUTES).await;
    let seen = seen(&drain(&broker, &bench.queue("$P-seen"), 2).await);
    for route in ["ordered", "tenants"] {
        assert_eq!(attributes(&seen[route]), expected(), "{route}");
    }
    assert_eq!(seen["tenants"]["tenant"], "42");
    broker.close(trunkline_support::patience()).await;
}

/// The daemon logs and counts events without a value, and runs these events in order. An event without a tenant is a dead letter.
async fn a_missing_value_is_reported(bench: Bench) {
    const EVENTS: u32 = 5;
    let exchange = format!("{}-events", bench.prefix);
    let broker = bench.open(ROUTES).await;
    for number in 0..EVENTS {
        for route in ["ordered", "tenants"] {
            let mut publication = message(&exchange, route, &format!("{route}-{number}"), "{}");
            let value = if number == 0 { HeaderValue::from("") } else { HeaderValue::List(vec!["c".into()]) };
            publication.message_mut().properties.headers.set("customer", value);
            put(&broker, publication).await;
        }
    }
    broker.close(trunkline_support::patience()).await;
    drop(broker);
    let daemon = bench.start(ROUTES).await;
    metric(&daemon, &settled(&bench, "ordered", "ack"), |count| count == f64::from(EVENTS)).await;
    metric(&daemon, &settled(&bench, "tenants", "dead_letter"), |count| count == f64::from(EVENTS)).await;
    assert_eq!(daemon.metric(&missing(&bench)), f64::from(EVENTS));
    let line = daemon.logged("an event has no ordering key").await;
    assert!(line.contains(r#""order_by":"attributes.customer""#), "{line}");
    assert_eq!(daemon.log().matches("an event has no ordering key").count(), 1, "once a minute");
    assert!(daemon.terminate().await.success());

    let broker = bench.open(ROUTES).await;
    for letter in drain(&broker, &bench.queue("$P-tenants.dlq"), EVENTS as usize).await {
        let headers = &letter.properties.headers;
        assert_eq!(headers.text("trunkline-reason"), Some(Reason::Invalid.as_str()));
        assert!(headers.text("trunkline-error").is_some_and(|error| error.contains("attributes.customer")));
    }
    broker.close(trunkline_support::patience()).await;
}

fn missing(bench: &Bench) -> String {
    format!("trunkline_ordering_key_missing_total{{route=\"{}-ordered\"}}", bench.prefix)
}

on_both_brokers!(headers_of_every_type_are_attributes, a_missing_value_is_reported);

/// Header types that other clients write, but not the daemon's AMQP client.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_on_the_wire_is_an_attribute() {
    let field = |name: &str, kind: u8, value: &[u8]| [&short(name.as_bytes())[..], &[kind], value].concat();
    let table = [
        field("b", b'b', &[0x80]),
        field("B", b'B', &[0xff]),
        field("u", b'u', &u16::MAX.to_be_bytes()),
        field("I", b'I', &(-3_i32).to_be_bytes()),
        field("i", b'i', &u32::MAX.to_be_bytes()),
        field("l", b'l', &i64::MIN.to_be_bytes()),
        field("t", b't', &[0]),
        field("f", b'f', &0.1_f32.to_be_bytes()),
        field("d", b'd', &2.5_f64.to_be_bytes()),
        field("D", b'D', &[1, 0xff, 0xff, 0xff, 0xf1]),
        field("T", b'T', &1_700_000_000_u64.to_be_bytes()),
        field("x", b'x', &long(&[0xfe])),
        field("V", b'V', &[]),
        field("A", b'A', &long(&[b't', 1])),
        field("F", b'F', &long(&entry(b"inner", b"text"))),
        entry(b"customer", b"c-1"),
    ]
    .concat();
    let texts = [
        ("b", "-128"),
        ("B", "255"),
        ("u", "65535"),
        ("I", "-3"),
        ("i", "4294967295"),
        ("l", "-9223372036854775808"),
        ("t", "false"),
        ("f", "0.1"),
        ("d", "2.5"),
        ("D", "-1.5"),
        ("T", "2023-11-14T22:13:20Z"),
        ("x", "/g=="),
        ("customer", "c-1"),
    ];
    let bench = Bench::amqp();
    let daemon = bench.start(ROUTES).await;
    daemon.runs().await;
    let mut producer = FrameProducer::connect(&bench.broker).await.expect("the broker answers");
    let given = properties(&[(HEADERS, long(&table)), (MESSAGE_ID, short(b"wire"))]);
    let exchange = format!("{}-events", bench.prefix);
    producer.publish(exchange.as_bytes(), b"ordered", &given, b"{}").await.expect("confirmed");
    assert_eq!(daemon.settled("wire").await["outcome"], "ack");
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    let seen = seen(&drain(&broker, &bench.queue("$P-seen"), 1).await);
    let expected: BTreeMap<String, String> =
        texts.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    assert_eq!(attributes(&seen["wire"]), expected);
    broker.close(trunkline_support::patience()).await;
}
