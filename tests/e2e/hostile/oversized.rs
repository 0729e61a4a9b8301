//! F3: parts of an event that do not fit any copy of it.

use lapin::BasicProperties;
use serde_json::{Value, json};
use trunkline_support::eventually;

use super::{Producer, a_good_one_goes_on, is_well, table, text};
use crate::bench::{Bench, drain, metric, on_both_brokers, settled};

const ROUTES: &str = r##"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[exchanges.$P-ocelot]
type = "topic"
codec = "ocelot"
[queues.$P-ocelot]
bind = { exchange = "$P-ocelot", keys = "#" }
codec = "ocelot"
[routes.$P-wanted]
from = "wanted"
plugin = "echo"
[routes.$P-unwanted]
from = "unwanted"
plugin = "rejecter"
retry = { max = 0 }
[routes.$P-ocelot]
queue = "$P-ocelot"
plugin = "rejecter"
retry = { max = 0 }
"##;
/// More than a route works on at a time, so that a stuck route would show.
const EACH: usize = 20;

fn ocelot(changes: &[(&str, Value)]) -> String {
    let mut event = json!({ "id": "e", "type": "t", "source": "s", "data": 1, "organizationId": "o", "userId": "u" });
    for (name, value) in changes {
        event[*name] = value.clone();
    }
    event.to_string()
}

fn long(bytes: usize) -> String {
    "l".repeat(bytes)
}

/// Over HTTP, where the API refuses the parts that it can see.
async fn nothing_is_too_long_for_its_end(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    let mut taken = 0;
    let fields = [
        json!({ "organizationId": long(65_300) }),
        json!({ "organizationId": long(256) }),
        json!({ "userId": long(66_000) }),
        json!({ "subject": long(66_000) }),
        json!({ "id": long(300) }),
        json!({ "correlationId": long(300) }),
        json!({ "attributes": { "a": long(66_000) } }),
        json!({ "attributes": (0..400).map(|n| (format!("a{n}"), json!(long(200)))).collect::<serde_json::Map<_, _>>() }),
        json!({ "data": long(1 << 20) }),
        json!({ "traceparent": long(66_000) }),
    ];
    for _ in 0..EACH {
        for field in &fields {
            let mut event = json!({ "type": "unwanted", "data": 1 });
            event.as_object_mut().expect("an object").extend(field.as_object().expect("an object").clone());
            let (status, answer) = daemon.post("/api/v1/events", &event.to_string());
            match status {
                202 => taken += 1,
                400 | 413 | 422 => {}
                _ => panic!("{status}: {answer}"),
            }
        }
    }
    assert!(taken >= EACH, "some of them can be carried: {taken}");
    #[expect(clippy::cast_precision_loss, reason = "few")]
    let all = taken as f64;
    metric(&daemon, &settled(&bench, "unwanted", "dead_letter"), |count| count >= all).await;
    a_good_one_goes_on(&daemon, "wanted").await;
    is_well(&daemon);
    assert!(daemon.terminate().await.success());
}

/// Over AMQP, where the daemon is the first to check.
async fn bodies_and_headers(bench: &Bench) -> usize {
    let producer = Producer::on(bench).await;
    let plain = || BasicProperties::default().with_message_id("given".into());
    let mut count = 0;
    for _ in 0..EACH {
        for headers in [
            table(&[("traceparent", text(&long(66_000)))]),
            table(&[("trunkline-tenant", text(&long(66_000)))]),
            table(&[("trunkline-error", text(&long(66_000)))]),
            table(&[("large", text(&long(100_000)))]),
            table(&[(&long(255), text(&long(60_000)))]),
        ] {
            producer.publish("unwanted", plain().with_headers(headers), b"1").await;
            count += 1;
        }
        for (content_type, body) in [("text/plain", long(3 << 20)), ("application/json", format!("{{{}", long(70_000)))]
        {
            producer.publish("unwanted", plain().with_content_type(content_type.into()), body.as_bytes()).await;
            count += 1;
        }
    }
    count
}

async fn envelopes(bench: &Bench) -> usize {
    let mut producer = Producer::on(bench).await;
    producer.exchange = format!("{}-ocelot", bench.prefix);
    let mut count = 0;
    for _ in 0..EACH {
        for body in [
            ocelot(&[("id", json!(long(300)))]),
            ocelot(&[("id", json!(long(70_000)))]),
            ocelot(&[("type", json!(long(70_000)))]),
            ocelot(&[("organizationId", json!(long(65_300)))]),
            ocelot(&[("userId", json!(long(70_000)))]),
            ocelot(&[("source", json!(long(70_000)))]),
            ocelot(&[("timestamp", json!(long(70_000)))]),
            ocelot(&[("metadata", json!({ "version": long(70_000) }))]),
            ocelot(&[("metadata", json!({ long(70_000): "x" }))]),
            // The parser's error quotes the value.
            ocelot(&[("organizationId", json!([long(70_000)]))]),
            format!("{{\"id\":\"e\",\"type\":\"t\",\"data\":1,\"metadata\":\"{}\"}}", long(70_000)),
        ] {
            producer.publish("any", BasicProperties::default(), body.as_bytes()).await;
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_amqp_carries_is_too_long_for_its_end() {
    let bench = Bench::amqp();
    let daemon = bench.start(ROUTES).await;
    let (plain, enveloped) = (bodies_and_headers(&bench).await, envelopes(&bench).await);
    for (route, count) in [("unwanted", plain), ("ocelot", enveloped)] {
        #[expect(clippy::cast_precision_loss, reason = "few")]
        let all = count as f64;
        metric(&daemon, &settled(&bench, route, "dead_letter"), |dead| dead >= all).await;
    }
    a_good_one_goes_on(&daemon, "wanted").await;
    is_well(&daemon);
    assert!(daemon.terminate().await.success());

    let broker = bench.open(ROUTES).await;
    for (route, count) in [("unwanted", plain), ("ocelot", enveloped)] {
        let letters = drain(&broker, &bench.queue(&format!("$P-{route}.dlq")), count).await;
        assert_eq!(letters.len(), count, "each once");
        for letter in letters {
            let headers = &letter.properties.headers;
            let reason = headers.text("trunkline-reason").expect("a reason");
            assert!(["rejected", "invalid", "too-large"].contains(&reason), "{reason}");
            assert!(headers.text("trunkline-error").is_some_and(|error| !error.is_empty() && error.len() <= 8 << 10));
        }
    }
    eventually("nothing is left", || async {
        let left = drain(&broker, &bench.queue("$P-unwanted"), 0).await;
        left.is_empty().then_some(())
    })
    .await;
    broker.close(trunkline_support::patience()).await;
}

on_both_brokers!(nothing_is_too_long_for_its_end);
