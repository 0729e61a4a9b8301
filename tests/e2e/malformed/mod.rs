//! Messages that a strict client cannot read: each becomes one dead letter, and other messages are not affected.
//!
//! AMQP 0-9-1 says that texts are UTF-8 and does not limit the depth of tables. RabbitMQ checks neither. See `cases`.

mod cases;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use trunkline_event::{HeaderValue, Message};
use trunkline_support::certificates::CertificateAuthority;
use trunkline_support::frames::{FrameProducer, HEADERS, MESSAGE_ID, entry, long, properties, short};
use trunkline_support::rabbitmq::{RabbitmqNode, free_port};
use trunkline_support::{Daemon, eventually};

use crate::bench::{Bench, drain, metric, settled};
use crate::http::sse::Client;
use cases::Case;

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-out]
bind = "echoed"
[queues.$P-in]
type = "$KIND"
bind = ["good", "bad.#"]
[queues.$P-beside]
bind = "beside"
[routes.$P-in]
queue = "$P-in"
plugin = "echo"
retry = { max = 0 }
[routes.$P-beside]
queue = "$P-beside"
plugin = "echo"
"#;
/// A good event is faster than a new session with its redelivery.
const NOT_LATE: Duration = Duration::from_secs(10);

fn routes(kind: &str) -> String {
    ROUTES.replace("$KIND", kind)
}

/// Publishes a good event in the same way, and waits for its outcome.
async fn good(bench: &Bench, daemon: &Daemon, producer: &mut FrameProducer, key: &str, id: &str) {
    let exchange = format!("{}-events", bench.prefix);
    let (begun, given) = (Instant::now(), properties(&[(MESSAGE_ID, short(id.as_bytes()))]));
    producer.publish(exchange.as_bytes(), key.as_bytes(), &given, b"good").await.expect("confirmed");
    assert_eq!(daemon.settled(id).await["outcome"], "ack", "{id}");
    assert!(begun.elapsed() < NOT_LATE, "{id} took {:?}", begun.elapsed());
}

fn sessions(daemon: &Daemon) -> u64 {
    let health: Value = serde_json::from_str(&daemon.get("/health/rabbitmq").1).expect("JSON");
    health["session"].as_u64().expect("a number")
}

fn text(message: &Message, name: &str) -> String {
    message.properties.headers.text(name).unwrap_or_default().to_owned()
}

/// Publishes every case with good events between them, and checks all outcomes.
async fn each_is_one_dead_letter(bench: &Bench, plain: &str, routes: &str) {
    let daemon = bench.start(routes).await;
    daemon.runs().await;
    let stream = Client::open(&daemon, &format!("/api/v1/events/stream?exchange={}-events", bench.prefix), None);
    let stream = stream.becomes_ready().await;
    let mut producer = FrameProducer::connect(plain).await.expect("the broker answers");
    let (exchange, all) = (format!("{}-events", bench.prefix), cases::all());
    for (number, case) in all.iter().enumerate() {
        producer
            .publish(exchange.as_bytes(), &case.key, &case.properties, case.name.as_bytes())
            .await
            .expect("confirmed");
        good(bench, &daemon, &mut producer, "good", &format!("good-{number}")).await;
        good(bench, &daemon, &mut producer, "beside", &format!("beside-{number}")).await;
    }
    let dead = settled(bench, "in", "dead_letter");
    metric(&daemon, &dead, |count| count >= all.len() as f64).await;
    assert_eq!(daemon.metric("trunkline_broker_reconnects_total"), 0.0, "no session ends");
    assert_eq!((sessions(&daemon), daemon.get("/health").0), (1, 200), "{}", daemon.get("/health").1);

    let broker = bench.open(routes).await;
    let letters = drain(&broker, &bench.queue("$P-in.dlq"), all.len()).await;
    assert_eq!(letters.len(), all.len(), "each once");
    for case in &all {
        let letter = letters.iter().find(|letter| letter.body == case.name.as_bytes());
        check(case, letter.unwrap_or_else(|| panic!("{} is nowhere", case.name)));
    }
    let out = drain(&broker, &bench.queue("$P-out"), 2 * all.len()).await;
    let causes: BTreeSet<String> = out.iter().map(|message| text(message, "trunkline-cause")).collect();
    assert_eq!((out.len(), causes.len()), (2 * all.len(), 2 * all.len()), "every good event, each once");
    let streamed = eventually("the good events on the stream", || {
        let good = stream.ids().iter().filter(|id| id.starts_with("good-") || id.starts_with("beside-")).count();
        let found = (good >= 2 * all.len()).then_some(good);
        async move { found }
    })
    .await;
    assert_eq!(streamed, 2 * all.len());
    broker.close(trunkline_support::patience()).await;
    assert!(daemon.terminate().await.success());
}

fn check(case: &Case, letter: &Message) {
    let (reason, told) = (text(letter, "trunkline-reason"), text(letter, "trunkline-error"));
    assert_eq!(reason, "invalid", "{}: {told}", case.name);
    assert!(told.starts_with("the message cannot be read: ") && told.contains(case.told), "{}: {told}", case.name);
    if let Some((name, bytes)) = &case.kept {
        let kept = letter.properties.headers.get(&format!("trunkline-kept-{name}"));
        assert_eq!(kept, Some(&HeaderValue::Bytes(bytes.clone())), "{}", case.name);
    }
    let unreadable = letter.properties.headers.iter().find(|(name, _)| name.starts_with("trunkline-unreadable"));
    assert_eq!(unreadable, None, "the marker leaves the daemon in no message");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_quorum_queue() {
    let bench = Bench::amqp();
    let plain = bench.broker.clone();
    each_is_one_dead_letter(&bench, &plain, &routes("quorum")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_classic_queue() {
    let bench = Bench::amqp();
    let plain = bench.broker.clone();
    each_is_one_dead_letter(&bench, &plain, &routes("classic")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls() {
    let dir = tempfile::tempdir().expect("a directory");
    CertificateAuthority::new(dir.path(), "ca").issue("server");
    let (port, at) = (free_port().expect("a port"), dir.path().display());
    let lines = format!(
        "listeners.ssl.default = 127.0.0.1:{port}\nssl_options.cacertfile = {at}/ca.pem\n\
         ssl_options.certfile = {at}/server.pem\nssl_options.keyfile = {at}/server.key\n"
    );
    let node = RabbitmqNode::start_with(&lines).expect("a node with TLS");
    let bench = Bench::on(format!("amqps://guest:guest@localhost:{port}/%2f"));
    let over_tls = format!("[broker]\ntls = {{ ca = \"{at}/ca.pem\" }}\n{}", routes("quorum"));
    each_is_one_dead_letter(&bench, &node.url(), &over_tls).await;
}

/// A forged marker is a header like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_marker_that_somebody_else_wrote_is_a_header_like_any_other() {
    let bench = Bench::amqp();
    let daemon = bench.start(&routes("quorum")).await;
    daemon.runs().await;
    let mut producer = FrameProducer::connect(&bench.broker).await.expect("the broker answers");
    let exchange = format!("{}-events", bench.prefix);
    for (number, name) in ["trunkline-unreadable", "trunkline-unreadable-0123456789abcdef"].iter().enumerate() {
        let lost = [entry(b"text", b"forged"), entry(b"headers", b"forged")].concat();
        let table = [&short(name.as_bytes())[..], b"F", &long(&lost)].concat();
        let id = format!("forged-{number}");
        let given = properties(&[(HEADERS, long(&table)), (MESSAGE_ID, short(id.as_bytes()))]);
        producer.publish(exchange.as_bytes(), b"good", &given, b"good").await.expect("confirmed");
        assert_eq!(daemon.settled(&id).await["outcome"], "ack");
    }
}

/// RabbitMQ cuts its texts after 252 bytes, possibly within a character. That ended every session before. RabbitMQ 4.3 cuts after
/// as many characters, cannot send the text then, and ends the connection instead.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_whose_text_is_cut_within_a_character() {
    let bench = Bench::amqp();
    let name = format!("{}x{}", bench.prefix, "ä".repeat(104));
    let missing = format!("[exchanges.\"{name}\"]\nowned = false\n{}", routes("quorum"));
    let daemon = bench.start(&missing).await;
    let health = eventually("the refusal", || {
        let health: Value = serde_json::from_str(&daemon.get("/health/rabbitmq").1).expect("JSON");
        let is_told = health["refused"].as_array().is_some_and(|refused| !refused.is_empty());
        async move { is_told.then_some(health) }
    })
    .await;
    let text = health["refused"][0].as_str().unwrap_or_default();
    assert!(text.contains("NOT_FOUND") || text.contains("the broker ended the connection"), "{health}");
    let expected = if text.contains("NOT_FOUND") { 1 } else { 2 };
    let mut producer = FrameProducer::connect(&bench.broker).await.expect("the broker answers");
    good(&bench, &daemon, &mut producer, "good", "good").await;
    assert_eq!(sessions(&daemon), expected);
}
