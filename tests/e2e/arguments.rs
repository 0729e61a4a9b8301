//! F14 and F16: what queues are declared with, and queues that are there with something else.

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::json;
use trunkline_support::eventually;
use xtask::rabbitmq::Node;

use crate::bench::{Bench, message, metric, settled};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
retry = { max = 1, delay = "200ms" }
[queues.$P-out]
bind = "echoed"
[routes.$P-in]
from = "in"
plugin = "echo"
"#;
const AS_IT_IS: &str = "is used as it is";

async fn channel(bench: &Bench) -> (Connection, Channel) {
    let connecting = Connection::connect(&bench.broker, ConnectionProperties::default());
    let connection = connecting.await.expect("the broker is there");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

async fn declare(bench: &Bench, queue: &str, arguments: &[(&str, AMQPValue)]) {
    let (_connection, channel) = channel(bench).await;
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(bench.queue(queue).as_str().into(), durable, table).await;
    drop(declared.expect("declared"));
}

/// Where a queue's dead letters go by default.
fn dead_letters_of(bench: &Bench, queue: &str) -> [(&'static str, AMQPValue); 2] {
    let target = format!("{}-{queue}.dlq", bench.prefix);
    [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(&target))]
}

async fn ready(bench: &Bench, queue: &str) -> u32 {
    let (_connection, channel) = channel(bench).await;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(bench.queue(queue).as_str().into(), options, FieldTable::default()).await;
    found.expect("the queue is there").message_count()
}

/// Queues of an earlier version, of an operator, and of both.
#[tokio::test(flavor = "multi_thread")]
async fn queues_with_other_arguments_are_used_and_told_once() {
    let bench = Bench::amqp();
    let dead_letters = format!("{}-in.dlq", bench.prefix);
    let quorum = ("x-queue-type", text("quorum"));
    let theirs = [
        quorum.clone(),
        ("x-delivery-limit", AMQPValue::LongLongInt(20)),
        ("x-max-length-bytes", AMQPValue::LongLongInt(1 << 30)),
    ];
    declare(&bench, "$P-in", &[&dead_letters_of(&bench, "in")[..], &theirs].concat()).await;
    declare(&bench, "$P-in.dlq", &[("x-max-length", AMQPValue::LongLongInt(100_000))]).await;
    let ttl = ("x-message-ttl", AMQPValue::LongLongInt(3_600_000));
    declare(&bench, "$P-out", &[&dead_letters_of(&bench, "out")[..], &[quorum.clone(), ttl]].concat()).await;
    let daemon = bench.start(ROUTES).await;
    let (status, answer) = daemon.post("/api/v1/events", &json!({ "type": "in", "data": 1 }).to_string());
    assert_eq!(status, 202, "{answer}");
    metric(&daemon, &settled(&bench, "in", "ack"), |count| count == 1.0).await;
    assert_eq!(daemon.get("/health").0, 200, "{}", daemon.get("/health").1);
    let log = daemon.log();
    for (queue, differences) in [
        ("in", &["x-max-length-bytes", "x-dead-letter-strategy", "x-overflow"][..]),
        ("in.dlq", &["x-queue-type", "x-max-length"]),
        ("out", &["x-message-ttl is 3600000, ours not set"]),
    ] {
        let name = format!("\"{}-{queue}\"", bench.prefix);
        let told: Vec<&str> = log.lines().filter(|line| line.contains(AS_IT_IS) && line.contains(&name)).collect();
        assert_eq!(told.len(), 1, "{queue}: {told:?}");
        for difference in differences {
            assert!(told[0].contains(difference), "{difference}: {}", told[0]);
        }
    }
    // What was let run empty and deleted is made anew.
    let (_connection, channel) = channel(&bench).await;
    let deleted = channel.queue_delete(dead_letters.as_str().into(), QueueDeleteOptions::default()).await;
    assert_eq!(deleted.expect("deleted"), 0, "nothing was in it");
    assert!(daemon.terminate().await.success());
    let daemon = bench.start(ROUTES).await;
    declare(&bench, "$P-in.dlq", &[quorum]).await;
    assert!(daemon.terminate().await.success());
}

/// What the file asks for by its own words has to be there.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_says_is_not_given_up() {
    let bench = Bench::amqp();
    let quorum = ("x-queue-type", text("quorum"));
    let limit = ("x-delivery-limit", AMQPValue::LongLongInt(3));
    declare(&bench, "$P-out", &[&dead_letters_of(&bench, "out")[..], &[quorum, limit]].concat()).await;
    let routes = ROUTES.replace("bind = \"echoed\"", "bind = \"echoed\"\ndelivery-limit = 5");
    let daemon = bench.start(&routes).await;
    let log = daemon.logged("refuses a part of the topology").await;
    let line = log.lines().find(|line| line.contains("refuses a part")).expect("a line");
    assert!(line.contains("x-delivery-limit"), "{line}");
    assert!(!log.contains(AS_IT_IS), "{log}");
    assert!(daemon.terminate().await.success());
}

/// The dead-letter queue is away for a moment: what expires meanwhile waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_expires_waits_for_its_dead_letter_queue() {
    const COUNT: u32 = 10;
    let node = Node::start().expect("a RabbitMQ");
    // RabbitMQ tries again after three minutes otherwise.
    let soon = "application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 500).";
    node.ctl(&["eval", soon]).expect("set");
    let bench = Bench::on(node.url());
    let routes = format!("{ROUTES}queue = \"$P-short\"\n[queues.$P-short]\nbind = \"in\"\nttl = \"1s\"\n")
        .replace("from = \"in\"\n", "");
    let daemon = bench.start(&routes).await;
    crate::bench::becomes_ready(&daemon, true).await;
    assert!(daemon.terminate().await.success());
    let (_connection, channel) = channel(&bench).await;
    let letters = bench.queue("$P-short.dlq");
    let deleted = channel.queue_delete(letters.as_str().into(), QueueDeleteOptions::default()).await;
    assert_eq!(deleted.expect("deleted"), 0, "nothing was in it");
    // Its own topology would make the queue again, so another one publishes.
    let other = Bench::on(node.url());
    let broker = other.open("[defaults]\nexchange = { name = \"$P-events\", type = \"topic\" }\n[routes.$P-other]\nfrom = \"x\"\nplugin = \"echo\"\n").await;
    let exchange = format!("{}-events", bench.prefix);
    let batch = (0..COUNT).map(|n| message(&exchange, "in", &format!("e-{n}"), "x"));
    drop(broker.publish(batch.collect::<Vec<_>>()).await.expect("confirmed"));
    eventually("they expire", || async { (ready(&bench, "$P-short").await == 0).then_some(()) }).await;
    let daemon = bench.start(&routes).await;
    crate::bench::becomes_ready(&daemon, true).await;
    eventually("all letters", || async { (ready(&bench, "$P-short.dlq").await == COUNT).then_some(()) }).await;
    assert!(daemon.terminate().await.success());
}
