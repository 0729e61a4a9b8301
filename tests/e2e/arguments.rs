//! F14 and F16: the arguments of declared queues, and existing queues with other arguments.

use lapin::options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::json;
use trunkline_broker::Next;
use trunkline_support::eventually;
use xtask::rabbitmq::RabbitmqNode;

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
const AS_IT_IS: &str = "uses the queue unchanged";

async fn channel(bench: &Bench) -> (Connection, Channel) {
    let connecting = Connection::connect(&bench.broker, ConnectionProperties::default());
    let connection = connecting.await.expect("the broker answers");
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

/// The default dead-letter arguments of a queue.
fn dead_letters_of(bench: &Bench, queue: &str) -> [(&'static str, AMQPValue); 2] {
    let target = format!("{}-{queue}.dlq", bench.prefix);
    [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(&target))]
}

async fn ready(bench: &Bench, queue: &str) -> u32 {
    let (_connection, channel) = channel(bench).await;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(bench.queue(queue).as_str().into(), options, FieldTable::default()).await;
    found.expect("the queue exists").message_count()
}

/// Queues of an earlier version, of an operator, and of both.
#[tokio::test(flavor = "multi_thread")]
async fn queues_with_other_arguments_are_used_and_reported_once() {
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
    declare(&bench, "$P-out", &[&dead_letters_of(&bench, "out")[..], &[quorum, ttl]].concat()).await;
    let daemon = bench.start(ROUTES).await;
    let (status, answer) = daemon.post("/api/v1/events", &json!({ "type": "in", "data": 1 }).to_string());
    assert_eq!(status, 202, "{answer}");
    metric(&daemon, &settled(&bench, "in", "ack"), |count| count == 1.0).await;
    assert_eq!(daemon.get("/health").0, 200, "{}", daemon.get("/health").1);
    let log = daemon.log();
    for (queue, differences) in [
        ("in", &["x-max-length-bytes", "x-dead-letter-strategy", "x-overflow"][..]),
        ("in.dlq", &["x-queue-type", "x-max-length"]),
        ("out", &["x-message-ttl is 3600000, but must not be set"]),
    ] {
        let name = format!("\"{}-{queue}\"", bench.prefix);
        let told: Vec<&str> = log.lines().filter(|line| line.contains(AS_IT_IS) && line.contains(&name)).collect();
        assert_eq!(told.len(), 1, "{queue}: {told:?}");
        for difference in differences {
            assert!(told[0].contains(difference), "{difference}: {}", told[0]);
        }
    }
    // A queue that was emptied and deleted is made anew.
    let (_connection, channel) = channel(&bench).await;
    let deleted = channel.queue_delete(dead_letters.as_str().into(), QueueDeleteOptions::default()).await;
    assert_eq!(deleted.expect("deleted"), 0, "nothing was in it");
    assert!(daemon.terminate().await.success());
    let daemon = bench.start(ROUTES).await;
    daemon.runs().await;
    assert_eq!(ready(&bench, "$P-in.dlq").await, 0);
    let differs = |line: &str| line.contains(AS_IT_IS) && line.contains(&format!("\"{dead_letters}\""));
    assert!(!daemon.log().lines().any(differs), "{}", daemon.log());
    assert!(daemon.terminate().await.success());
}

/// A full queue must not drop messages where the file says that the queue refuses messages.
#[tokio::test(flavor = "multi_thread")]
async fn an_overflow_that_drops_against_the_file_is_refused() {
    let bench = Bench::amqp();
    declare(&bench, "$P-out", &[("x-max-length", AMQPValue::LongLongInt(5))]).await;
    let refusing = "bind = \"echoed\"\nmax-length = 5\noverflow = \"reject-publish\"";
    let daemon = bench.start(&ROUTES.replace("bind = \"echoed\"", refusing)).await;
    let log = daemon.logged("refuses a part of the topology").await;
    let line = log.lines().find(|line| line.contains("refuses a part")).expect("a line");
    assert!(line.contains("x-overflow") && line.contains("remove `overflow"), "{line}");
    assert!(line.contains("\"code\":\"topology-refused\""), "the line has the name of the condition: {line}");
    assert!(!log.contains(AS_IT_IS), "{log}");
    assert!(daemon.terminate().await.success());
}

/// Several channels declare the topology. The refusal of a queue closes one of them, and all other queues and bindings exist.
#[tokio::test(flavor = "multi_thread")]
async fn refused_queues_leave_the_rest_of_a_large_topology() {
    const QUEUES: usize = 40;
    const REFUSED: [usize; 3] = [3, 17, 18];
    let bench = Bench::amqp();
    let name = |number: usize| format!("$P-many{number:02}");
    for number in REFUSED {
        declare(&bench, &name(number), &[("x-max-length", AMQPValue::LongLongInt(5))]).await;
    }
    let table = |number: usize| {
        let name = name(number);
        format!("[queues.{name}]\nbind = \"many\"\nmax-length = 5\noverflow = \"reject-publish\"\n")
    };
    let daemon = bench.start(&(0..QUEUES).map(table).fold(ROUTES.to_owned(), |text, table| text + &table)).await;
    daemon.logged("refuses a part of the topology").await;
    daemon.logged("the route consumes its queue").await;
    let health: serde_json::Value = serde_json::from_str(&daemon.get("/health").1).expect("JSON");
    let refused = health["broker"]["refused"].as_array().expect("refusals");
    let named = |number: usize| format!("queue {}:", bench.queue(&name(number)));
    for (refusal, number) in refused.iter().zip(REFUSED) {
        assert!(refusal.as_str().is_some_and(|text| text.starts_with(&named(number))), "{number}: {refusal}");
    }
    assert_eq!(refused.len(), REFUSED.len(), "{refused:?}");
    let (status, answer) = daemon.post("/api/v1/events", &json!({ "type": "many", "data": 1 }).to_string());
    assert_eq!(status, 202, "{answer}");
    for number in 0..QUEUES {
        assert_eq!(ready(&bench, &name(number)).await, 1, "{number}: a refused queue is bound all the same");
    }
    assert!(daemon.terminate().await.success());
}

/// A consumer begins without a declaration if the session has declared its queue a moment ago. The queue may be gone by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_before_its_consumer_begins_is_declared_again() {
    let bench = Bench::amqp();
    let broker = bench.open(ROUTES).await;
    let queue = bench.queue("$P-in");
    let (_connection, channel) = channel(&bench).await;
    let deleted = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await;
    assert_eq!(deleted.expect("deleted"), 0, "nothing was in it");
    let mut subscription = broker.subscribe(&queue, 1, "late").await.expect("the queue is declared again");
    let events = format!("{}-events", bench.prefix);
    drop(broker.publish(vec![message(&events, "in", "one", "x")]).await.expect("the queue is bound again"));
    let next = tokio::time::timeout(trunkline_support::patience(), subscription.next()).await;
    assert!(matches!(next, Ok(Next::Delivery(_))), "{next:?}");
    broker.close(trunkline_support::patience()).await;
}

/// The dead-letter queue is missing for a moment, and expired messages wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn expired_messages_wait_for_their_dead_letter_queue() {
    const COUNT: u32 = 10;
    let node = RabbitmqNode::start().expect("a RabbitMQ");
    // Otherwise RabbitMQ tries again after three minutes.
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
    // The test's own topology would make the queue again, so another one publishes.
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

/// The daemon cannot compare the properties of a queue that it does not declare. The first message shows that the queue is a
/// stream. On another queue, the same header is a copied one.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_another_program_is_refused_at_its_first_message() {
    let bench = Bench::amqp();
    let routes = format!(
        "{ROUTES}[queues.$P-theirs]\nowned = false\n[routes.$P-theirs]\nqueue = \"$P-theirs\"\nplugin = \"echo\"\n"
    );
    declare(&bench, "$P-theirs", &[("x-queue-type", text("stream")), ("x-max-age", text("1h"))]).await;
    let daemon = bench.start(&routes).await;
    daemon.runs().await;
    let (_connection, channel) = channel(&bench).await;
    let queue = bench.queue("$P-theirs");
    let send = async || {
        let mut headers = FieldTable::default();
        headers.insert("x-stream-offset".into(), AMQPValue::LongLongInt(7));
        let properties = BasicProperties::default().with_headers(headers);
        let options = BasicPublishOptions::default();
        let sending = channel.basic_publish("".into(), queue.as_str().into(), options, b"1", properties);
        let _ack = sending.await.expect("sent").await.expect("confirmed");
    };
    send().await;
    eventually("the reason in /health", || {
        let (status, health) = daemon.get("/health");
        async move { (status == 503 && health.contains("is a stream")).then_some(()) }
    })
    .await;

    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    declare(&bench, "$P-theirs", &[]).await;
    daemon.runs().await;
    send().await;
    metric(&daemon, &settled(&bench, "theirs", "ack"), |count| count >= 1.0).await;
    assert!(daemon.terminate().await.success());
}
