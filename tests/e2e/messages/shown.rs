//! W9: the stream shows JSON as JSON, even if the content type of the message is not JSON.

use serde_json::{Value, json};
use trunkline_support::frames::{CONTENT_TYPE, FrameProducer, MESSAGE_ID, properties, short};
use trunkline_support::{Daemon, patience};

use crate::bench::{Bench, on_both_brokers};
use crate::http::sse::Client;

const ROUTES: &str = r##"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[hooks.in]
[queues.$P-all]
bind = "#"
"##;
const PATH: &str = "/api/v1/events/stream";
const JSON: &str = "{\"a\": [1.5, \"\u{e4}\"]}";

/// Body, and the fields `data` and `data_base64` that the stream shows.
fn cases() -> [(&'static str, Value, Value); 4] {
    [
        (JSON, json!({ "a": [1.5, "\u{e4}"] }), Value::Null),
        ("[1,\n2]", json!([1, 2]), Value::Null),
        ("hello", Value::Null, json!("aGVsbG8=")),
        ("{\"a\":", Value::Null, json!("eyJhIjo=")),
    ]
}

fn check(events: &[crate::http::sse::Sse], content_types: usize) {
    let cases = cases();
    assert_eq!(events.len(), cases.len() * content_types);
    for (event, (body, data, base64)) in events.iter().zip(cases.iter().cycle()) {
        assert_eq!((&event.data["data"], &event.data["data_base64"]), (data, base64), "{body}");
    }
}

fn send(daemon: &Daemon, content_type: &str, body: &str) {
    let request = ureq::post(daemon.url("/hooks/in")).config().timeout_global(Some(patience())).build();
    let response = request.header("content-type", content_type).send(body).expect("an answer");
    assert_eq!(response.status(), 202);
}

async fn json_is_shown_as_json(bench: Bench) {
    const CONTENT_TYPES: [&str; 3] = ["application/octet-stream", "text/plain", "application/x-www-form-urlencoded"];
    let daemon = bench.start(ROUTES).await;
    let client = Client::open(&daemon, PATH, None).becomes_ready().await;
    for content_type in CONTENT_TYPES {
        for (body, ..) in cases() {
            send(&daemon, content_type, body);
        }
    }
    client.has(cases().len() * CONTENT_TYPES.len()).await;
    check(&client.events(), CONTENT_TYPES.len());
    assert!(daemon.terminate().await.success());
}

on_both_brokers!(json_is_shown_as_json);

/// The daemon's clients always send a content type. Some other programs send none.
#[tokio::test(flavor = "multi_thread")]
async fn json_without_a_content_type_is_shown_as_json() {
    let bench = Bench::amqp();
    let daemon = bench.start(ROUTES).await;
    let client = Client::open(&daemon, PATH, None).becomes_ready().await;
    let mut producer = FrameProducer::connect(&bench.broker).await.expect("the broker answers");
    let exchange = format!("{}-events", bench.prefix);
    for content_type in [None, Some(short(b""))] {
        for (number, (body, ..)) in cases().into_iter().enumerate() {
            let mut given = vec![(MESSAGE_ID, short(format!("e-{number}").as_bytes()))];
            given.extend(content_type.clone().map(|content_type| (CONTENT_TYPE, content_type)));
            producer
                .publish(exchange.as_bytes(), b"any", &properties(&given), body.as_bytes())
                .await
                .expect("confirmed");
        }
    }
    client.has(cases().len() * 2).await;
    check(&client.events(), 2);
    assert!(daemon.terminate().await.success());
}
