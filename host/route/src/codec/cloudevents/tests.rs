use super::*;
use trunkline_event::{ExchangeName, Properties, RoutingKey};

fn message(content_type: Option<&str>, body: impl Into<Bytes>) -> Message {
    Message {
        exchange: ExchangeName::new("events").expect("valid"),
        routing_key: RoutingKey::new("order.placed").expect("valid"),
        properties: Properties { content_type: content_type.map(str::to_owned), ..Properties::default() },
        body: body.into(),
    }
}

/// An envelope with the required attributes and further members.
fn envelope(members: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"e-1","source":"/shop","type":"order.placed"{members}}}"#)
}

fn of(members: &str) -> Result<Event, CodecError> {
    decode(&message(Some("application/cloudevents+json; charset=utf-8"), envelope(members)))
}

fn binary_with(prefix: &str, further: &[(&str, HeaderValue)]) -> Message {
    let mut binary = message(Some("application/json"), "{}");
    let headers = &mut binary.properties.headers;
    for (name, value) in [("specversion", "1.0"), ("id", "e-1"), ("source", "/shop"), ("type", "order.placed")] {
        headers.set(format!("{prefix}{name}"), value);
    }
    for (name, value) in further {
        headers.set((*name).to_owned(), value.clone());
    }
    binary
}

/// The envelope that Dapr 1.14 publishes over its RabbitMQ component.
const DAPR: &str = r#"{"data":{"orderId":7},"datacontenttype":"application/json","id":"5929aaac-a5e2-4ca1-859c-edfe73f11565",
    "pubsubname":"pubsub","source":"checkout","specversion":"1.0","time":"2026-11-21T10:00:00Z","topic":"orders",
    "traceid":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","tracestate":"","type":"com.dapr.event.sent"}"#;

#[test]
fn an_envelope_needs_no_content_type() {
    let marked = format!("\u{feff}{DAPR}");
    for (content_type, body) in [
        (Some("text/plain"), DAPR),
        (Some("application/json"), DAPR),
        (Some("application/octet-stream"), DAPR),
        (Some(""), DAPR),
        (None, DAPR),
        (Some("text/plain"), marked.as_str()),
        (None, marked.as_str()),
    ] {
        let event = decode(&message(content_type, body.to_owned())).expect("valid");
        assert_eq!((event.kind.as_str(), event.source.as_str()), ("com.dapr.event.sent", "checkout"));
        assert_eq!((event.id.as_str(), event.own_id), ("5929aaac-a5e2-4ca1-859c-edfe73f11565", true));
        assert_eq!((&event.data[..], event.content_type.as_str()), (&br#"{"orderId":7}"#[..], "application/json"));
        assert!(event.attributes.contains(&("topic".to_owned(), "orders".to_owned())));
        assert!(event.traceparent.is_some_and(|trace| trace.starts_with("00-4bf92f35")), "{content_type:?}");
    }
}

#[test]
fn a_body_that_is_no_envelope_stays_as_it_is() {
    for (content_type, body) in [
        (Some("text/plain"), "hello"),
        (Some("text/plain"), r#"the "specversion" of a text"#),
        (Some("application/json"), r#"{"event":{"specversion":"1.0"}}"#),
        (Some("application/json"), r#"{"specversion":1}"#),
        (Some("application/json"), r#"[{"specversion":"1.0"}]"#),
        (None, ""),
    ] {
        let event = decode(&message(content_type, body)).expect("plain");
        assert_eq!((&event.data[..], event.kind.as_str()), (body.as_bytes(), "order.placed"), "{body}");
        assert!(!event.own_id);
    }
}

#[test]
fn broken_envelopes_are_reported() {
    for (content_type, body, told) in [
        ("text/plain", envelope("").replace("\"id\"", "\"no\""), "`id` is missing"),
        ("text/plain", envelope("").replace("e-1", ""), "`id` is missing or empty"),
        ("text/plain", envelope("").replace("\"1.0\"", "\"0.3\""), "0.3"),
        ("text/plain", DAPR[..300].to_owned(), "not valid JSON"),
        ("application/cloudevents+json", "{}".to_owned(), "`specversion` is missing"),
        ("application/cloudevents+json", envelope("").replace("\"1.0\"", "null"), "`specversion` is missing"),
        ("application/cloudevents+json", envelope(r#","subject":7"#), "`subject` is not a string"),
        ("application/cloudevents+json", envelope("").replace("\"e-1\"", "7"), "`id` is not a string"),
        ("application/cloudevents+json", format!("[{}]", envelope("")), "expected a map"),
        ("application/cloudevents+avro", "x".to_owned(), "use \"application/cloudevents+json\""),
        ("Application/CloudEvents+Protobuf", "x".to_owned(), "application/cloudevents+protobuf"),
        ("application/cloudevents-batch+json", format!("[{}]", envelope("")), "a batch is not one event"),
        ("application/cloudevents-batch+json; charset=utf-8", "[]".to_owned(), "a batch is not one event"),
    ] {
        let error = decode(&message(Some(content_type), body)).expect_err("broken").to_string();
        assert!(error.contains(told), "{content_type}: {error}");
    }
}

#[test]
fn data_is_json_or_a_text_or_bytes() {
    let table: [(&str, &str, &[u8]); 18] = [
        (
            r#","datacontenttype":"text/plain","data":"hello \"you\" \u00e4""#,
            "text/plain",
            "hello \"you\" ä".as_bytes(),
        ),
        (
            r#","datacontenttype":"application/xml","data":"<much wow=\"xml\"/>""#,
            "application/xml",
            b"<much wow=\"xml\"/>",
        ),
        (r#","datacontenttype":"text/xml; charset=utf-8","data":"""#, "text/xml; charset=utf-8", b""),
        (r#","datacontenttype":"text/plain","data":null"#, "text/plain", b""),
        (r#","datacontenttype":"application/json","data":"a text""#, "application/json", b"\"a text\""),
        (r#","datacontenttype":"text/json","data":[1, 2]"#, "text/json", b"[1, 2]"),
        (
            r#","datacontenttype":"application/vnd.shop+json; v=1","data":1.50"#,
            "application/vnd.shop+json; v=1",
            b"1.50",
        ),
        (r#","data":"a text""#, "application/json", b"\"a text\""),
        (r#","data":null"#, "application/json", b"null"),
        ("", "application/json", b""),
        (r#","datacontenttype":"image/png","data_base64":"iVBORw==""#, "image/png", b"\x89PNG"),
        (r#","data_base64":"iVBORw==""#, "application/octet-stream", b"\x89PNG"),
        (r#","data":null,"data_base64":"e30=""#, "application/json", b"{}"),
        (r#","datacontenttype":"application/json","data_base64":"""#, "application/json", b""),
        (r#","data_base64":"""#, "application/octet-stream", b""),
        (r#","data_base64":"77u/e30=""#, "application/json", b"{}"),
        (r#","datacontenttype":"text/plain","data_base64":"77u/e30=""#, "text/plain", b"\xef\xbb\xbf{}"),
        (r#","datacontenttype":null,"data":{},"data_base64":null"#, "application/json", b"{}"),
    ];
    for (members, content_type, data) in table {
        let event = of(members).expect("valid");
        assert_eq!((event.content_type.as_str(), &event.data[..]), (content_type, data), "{members}");
    }
    for (members, told) in [
        (r#","datacontenttype":"text/plain","data":{"a":1}"#, "`data` is not a string, but"),
        (r#","datacontenttype":"application/xml","data":7"#, "`data` is not a string, but"),
        (r#","data":1,"data_base64":"e30=""#, "has both `data` and `data_base64`"),
        (r#","data_base64":"e30""#, "`data_base64` is not valid Base64"),
        (r#","data_base64":7"#, "`data_base64` is not a string"),
        (r#","datacontenttype":"application/json","data_base64":"iVBORw==""#, "is not JSON, but"),
    ] {
        let error = of(members).expect_err("broken").to_string();
        assert!(error.contains(told), "{members}: {error}");
    }
}

#[test]
fn extensions_of_every_json_type_are_texts() {
    let event = of(r#","text":"a","number":-7,"flag":true,"none":null,"subject":null,"list":[1, 2]"#).expect("valid");
    let wanted = [("flag", "true"), ("list", "[1, 2]"), ("number", "-7"), ("text", "a")];
    assert_eq!(event.attributes, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(event.subject, None);
}

#[test]
fn typed_attributes_are_read_with_either_prefix() {
    for prefix in PREFIXES.into_iter().chain(SHORT_PREFIXES) {
        let name = |name: &str| format!("{prefix}{name}");
        let binary = binary_with(
            prefix,
            &[
                (name("time").as_str(), HeaderValue::Int(1_700_000_000_000)),
                (name("sequence").as_str(), HeaderValue::Int(42)),
                (name("urgent").as_str(), HeaderValue::Bool(true)),
                (name("hash").as_str(), HeaderValue::Bytes(vec![0xff, 0])),
                (name("subject").as_str(), HeaderValue::Null),
                ("region", HeaderValue::from("eu")),
            ],
        );
        let mut event = decode(&binary).expect("valid");
        event.attributes.sort();
        let wanted = [("hash", "/wA="), ("region", "eu"), ("sequence", "42"), ("urgent", "true")];
        assert_eq!(event.attributes, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())), "{prefix}");
        assert_eq!((event.time.as_deref(), event.subject), (Some("2023-11-14T22:13:20Z"), None));
    }
}

/// The SDKs for JavaScript and Python write a content type of JSON, even if an event has no data.
#[test]
fn a_binary_event_may_have_no_data() {
    for content_type in [Some("application/json; charset=utf-8"), Some("application/vnd.shop+json"), None] {
        let mut binary = binary_with("ce-", &[]);
        binary.properties.content_type = content_type.map(str::to_owned);
        binary.body = Bytes::new();
        let event = decode(&binary).expect("valid");
        assert_eq!((event.id.as_str(), event.data.len()), ("e-1", 0), "{content_type:?}");
        assert_eq!(event.content_type, content_type.unwrap_or("application/octet-stream"));
    }
    let mut broken = binary_with("ce-", &[]);
    broken.body = Bytes::from_static(b" ");
    assert!(decode(&broken).is_err(), "white space is not JSON");
}

/// Go writes `Ce-Id` for the header `ce-id` of an HTTP request.
#[test]
fn a_bridge_from_http_may_change_the_letters() {
    for names in [
        ["Ce-Specversion", "Ce-Id", "Ce-Source", "Ce-Type", "Ce-Partitionkey"],
        ["CE_SPECVERSION", "CE_ID", "CE_SOURCE", "CE_TYPE", "CE_PARTITIONKEY"],
        [
            "cloudevents_specversion",
            "cloudevents_id",
            "cloudevents_source",
            "cloudevents_type",
            "Cloudevents_Partitionkey",
        ],
    ] {
        let mut bridged = message(Some("application/json"), "{}");
        for (name, value) in names.into_iter().zip(["1.0", "e-1", "/shop", "order.placed", "k"]) {
            bridged.properties.headers.set(name, value);
        }
        let event = decode(&bridged).expect("valid");
        let fields = (event.id.as_str(), event.source.as_str(), event.kind.as_str(), event.own_id);
        assert_eq!(fields, ("e-1", "/shop", "order.placed", true), "{names:?}");
        assert_eq!(event.attributes, [("partitionkey".to_owned(), "k".to_owned())], "{names:?}");
    }
}

#[test]
fn a_short_prefix_counts_beside_its_version_only() {
    let mut plain = message(None, "x");
    plain.properties.headers.set("ce-mark", "yes");
    let event = decode(&plain).expect("plain");
    assert_eq!(event.attributes, [("ce-mark".to_owned(), "yes".to_owned())]);
    plain.properties.headers.set("ce-specversion", "1.0");
    assert!(decode(&plain).is_err(), "a CloudEvent needs an id");
}

#[test]
fn an_attribute_has_one_value() {
    let list = HeaderValue::List(vec!["a".into()]);
    for (name, value, told) in [
        ("cloudEvents_tags", list, "`tags` is a list or a table"),
        ("cloudEvents:type", HeaderValue::from("order.paid"), "`type` has different values"),
        ("cloudEvents_specversion", HeaderValue::from("0.3"), "0.3"),
        ("cloudEvents_source", HeaderValue::from(""), "`source` is missing or empty"),
    ] {
        let error = decode(&binary_with("cloudEvents_", &[(name, value)])).expect_err("broken").to_string();
        assert!(error.contains(told), "{name}: {error}");
    }
    let twice = binary_with("cloudEvents_", &[("cloudEvents:type", HeaderValue::from("order.placed"))]);
    assert_eq!(decode(&twice).expect("equal values").kind, "order.placed");
    let region = [("region", HeaderValue::from("us")), ("cloudEvents_region", HeaderValue::from("eu"))];
    let event = decode(&binary_with("cloudEvents_", &region)).expect("valid");
    assert_eq!(event.attributes, [("region".to_owned(), "eu".to_owned())], "the attribute counts before the header");
}

#[test]
fn the_content_type_of_a_binary_event_may_be_a_header() {
    let mut binary = binary_with("cloudEvents_", &[("cloudEvents_datacontenttype", HeaderValue::from("text/xml"))]);
    binary.body = Bytes::from_static(b"<a/>");
    assert!(decode(&binary).is_err(), "the content type of the message counts, and the body is not JSON");
    binary.properties.content_type = None;
    let event = decode(&binary).expect("valid");
    assert_eq!((event.content_type.as_str(), event.attributes), ("text/xml", Vec::new()));
}
