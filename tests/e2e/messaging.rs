//! A component of wasi:messaging 0.2.0-draft without any part of Trunkline, on both brokers. Also the network access of
//! a component whose runtime imports sockets.

use serde_json::{Value, json};
use trunkline_broker::Publication;
use trunkline_event::Message;

use crate::bench::{Bench, drain, message, on_both_brokers, settled};

const ROUTES: &str = r#"
    [defaults]
    exchange = { name = "$P-events", type = "topic" }
    limits = { timeout = "20s" }
    retry = { max = 1, delay = "100ms" }
    [queues.$P-sent]
    bind = "messages.*"
    [routes.$P-messenger]
    from = "in.*"
    plugin = "messenger"
"#;

async fn sends_become_emissions(bench: Bench) {
    let exchange = format!("{}-events", bench.prefix);
    // The action of the component, and the reason and text of the dead letter.
    let cases = [
        ("send", None),
        ("forward", None),
        ("disconnected", Some(("rejected", "disconnected"))),
        ("timeout", Some(("exhausted", "timeout"))),
        ("connection", Some(("exhausted", "the other side is down"))),
        ("denied", Some(("rejected", "not for you"))),
        ("other", Some(("rejected", "no such order"))),
        ("panic", Some(("trap", "messenger says no to panic"))),
        ("fill", Some(("too-large", "limits.output"))),
    ];
    let broker = bench.open(ROUTES).await;
    let batch: Vec<Publication> = cases
        .iter()
        .map(|(text, _)| {
            let mut publication = message(&exchange, "in.orders", text, *text);
            publication.message_mut().properties.kind = Some("order.placed".to_owned());
            publication
        })
        .collect();
    drop(broker.publish(batch).await.expect("confirmed"));
    broker.close(trunkline_support::patience()).await;
    drop(broker);

    let daemon = bench.start(ROUTES).await;
    crate::bench::metric(&daemon, &settled(&bench, "messenger", "dead_letter"), |count| count == 7.0).await;
    crate::bench::metric(&daemon, &settled(&bench, "messenger", "ack"), |count| count == 2.0).await;
    assert!(daemon.terminate().await.success());

    let broker = bench.open(ROUTES).await;
    let dead = drain(&broker, &bench.queue("$P-messenger.dlq"), 7).await;
    for (id, expected) in cases.iter().filter_map(|(id, expected)| Some((id, (*expected)?))) {
        let letter = dead.iter().find(|letter| letter.properties.message_id.as_deref() == Some(id)).expect(id);
        let headers = &letter.properties.headers;
        let (reason, text) = (headers.text("trunkline-reason"), headers.text("trunkline-error"));
        assert_eq!(reason, Some(expected.0), "{id}: {text:?}");
        assert!(text.is_some_and(|text| text.contains(expected.1)), "{id}: {text:?}");
    }
    let sent = drain(&broker, &bench.queue("$P-sent"), 3).await;
    assert_eq!(sent.len(), 3, "a message that was sent before a failure is not published");
    check_sent(&sent);
    broker.close(trunkline_support::patience()).await;
}

fn check_sent(sent: &[Message]) {
    let by_key = |key: &str| sent.iter().find(|message| message.routing_key.as_str() == key).expect(key);
    let rich = by_key("messages.rich");
    let headers = &rich.properties.headers;
    assert_eq!(rich.properties.kind.as_deref(), Some("messages.rich"), "the topic is the type");
    assert_eq!(rich.properties.content_type.as_deref(), Some("application/json"));
    assert_eq!(&rich.body[..], b"{\"rich\":true}");
    assert_eq!(headers.text("trunkline-subject"), Some("a subject"));
    // Id, source and type. An AMQP message without a timestamp has no time.
    assert_eq!(headers.text("seen"), Some("in.orders order.placed 3"));
    assert_eq!((headers.text("seen-twice"), headers.text("gone"), headers.text("CC")), (Some("1"), None, None));
    assert_eq!(headers.text("trunkline-cause"), Some("send"));
    let plain = by_key("messages.plain");
    assert_eq!((&plain.body[..], plain.properties.headers.text("trunkline-cause")), (&b"plain"[..], Some("send")));
    let forwarded = by_key("messages.forwarded");
    assert_eq!(forwarded.properties.kind.as_deref(), Some("order.placed"), "a received message keeps its type");
    assert_eq!(forwarded.properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!((&forwarded.body[..], forwarded.properties.headers.text("ce-id")), (&b"forward"[..], None));
}

on_both_brokers! {
    sends_become_emissions,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_matches_exactly_one_interface() {
    let bench = Bench::embedded();
    let routes = "[routes]\nboth = { from = \"both\", plugin = \"two-faced\" }\n";
    let daemon = bench.start(routes).await;
    let health: Value = serde_json::from_str(&daemon.get("/health").1).expect("JSON");
    let error = health["routes"]["both"]["error"].as_str().unwrap_or_default().to_owned();
    for handler in ["trunkline:plugin/handler@0.1.0", "wasi:messaging/incoming-handler@0.2.0-draft"] {
        assert!(error.contains(handler), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_linked_and_every_one_is_denied() {
    let bench = Bench::embedded();
    let daemon = bench.start("[routes.dial]\nfrom = \"dial\"\nplugin = \"dialer\"\n").await;
    // A port with a listener: the daemon's own.
    let address = daemon.url("").replace("http://", "");
    let (_, accepted) = daemon.post("/api/v1/events", &json!({ "type": "dial", "data": address }).to_string());
    let end = daemon.settled(accepted["id"].as_str().expect("an id")).await;
    let emitted: Vec<Value> = serde_json::from_str(end["emitted"].as_str().expect("a list")).expect("JSON");
    let said: Value = serde_json::from_str(emitted[0]["data"].as_str().expect("a text")).expect("JSON");
    for answer in said[0].as_array().expect("answers") {
        let is_refusal =
            !["connected", "listening", "bound", "resolved", "files"].contains(&answer.as_str().expect("a word"));
        assert!(is_refusal, "{said}");
    }
    assert_eq!(said[0][0], "PermissionDenied", "{said}");
    assert_eq!(said[1], 0, "neither environment nor arguments: {said}");
}
