//! W19: a plugin answers in the queue of the caller. On RabbitMQ, aio-pika waits in an exclusive queue, and amqplib and lapin use
//! direct reply-to.

use std::collections::BTreeMap;
use std::process::Command;

use lapin::options::{BasicConsumeOptions, BasicGetOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::{Value, json};
use trunkline_broker::{Next, Publication};
use trunkline_event::{HeaderValue, Message, Reason};
use trunkline_support::compressed::gzip;
use trunkline_support::{Daemon, patience};

use crate::bench::{Bench, drain, message, metric, on_both_brokers, settled};
use crate::foreign::{modules_with, python_with, run};

const ROUTES: &str = r#"
[http]
reserved = $R
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
retry = { max = 1, delay = "100ms" }
[queues.$P-answers]
[queues.$P-out]
bind = ["echoed", "managed"]
[queues.$P-seen]
bind = "seen"
[routes.$P-ask]
from = "ask"
plugin = "echo"
emit = { reply = true, unroutable = "dead-letter" }
[routes.$P-again]
from = "again"
plugin = "retrier"
emit = { reply = true }
[routes.$P-plain]
from = "plain"
plugin = "echo"
[routes.$P-witness]
from = "witness"
plugin = "witness"
"#;

fn routes() -> String {
    routes_with("false")
}

fn routes_with(reserved: &str) -> String {
    ROUTES.replace("$R", reserved)
}

/// A message that asks for an answer.
fn request(bench: &Bench, key: &str, id: &str, reply_to: Option<&str>, correlation_id: Option<&str>) -> Publication {
    let mut publication = message(&format!("{}-events", bench.prefix), key, id, format!("\"{id}\""));
    let properties = &mut publication.message_mut().properties;
    properties.reply_to = reply_to.map(|queue| queue.replace("$P", &bench.prefix));
    properties.correlation_id = correlation_id.map(str::to_owned);
    publication
}

/// Published events of a route with this result.
fn published(bench: &Bench, route: &str, result: &str) -> String {
    format!(
        "trunkline_events_published_total{{route=\"{0}-{route}\",exchange=\"{0}-events\",result=\"{result}\"}}",
        bench.prefix
    )
}

/// The correlation ids of messages, by the bodies.
fn correlations(messages: &[Message]) -> BTreeMap<String, Option<String>> {
    let pair = |message: &Message| {
        let body = String::from_utf8(message.body.to_vec()).expect("a text");
        (body.trim_matches('"').to_owned(), message.properties.correlation_id.clone())
    };
    messages.iter().map(pair).collect()
}

async fn a_request_is_answered_in_the_queue_of_the_caller(bench: Bench) {
    let broker = bench.open(&routes()).await;
    for publication in [
        request(&bench, "ask", "with-correlation", Some("$P-answers"), Some("c-1")),
        request(&bench, "ask", "without-correlation", Some("$P-answers"), None),
        request(&bench, "ask", "caller-is-gone", Some("$P-gone"), Some("c-2")),
        request(&bench, "ask", "no-caller", None, Some("c-3")),
        request(&bench, "ask", "own-queue", Some("trunkline.delay.due"), Some("c-4")),
        request(&bench, "plain", "no-reply-route", Some("$P-answers"), Some("c-5")),
    ] {
        drop(broker.publish(vec![publication]).await.expect("confirmed"));
    }
    // The retrier asks for a retry first, and the copy keeps the address.
    let mut retried = request(&bench, "again", "retried", Some("$P-answers"), Some("c-6"));
    retried.message_mut().body = "2".into();
    drop(broker.publish(vec![retried]).await.expect("confirmed"));
    broker.close(patience()).await;
    drop(broker);

    let daemon = bench.start(&routes()).await;
    metric(&daemon, &settled(&bench, "ask", "ack"), |count| count == 4.0).await;
    metric(&daemon, &settled(&bench, "ask", "dead_letter"), |count| count == 1.0).await;
    for (route, outcome) in [("plain", "ack"), ("again", "ack"), ("again", "retry")] {
        metric(&daemon, &settled(&bench, route, outcome), |count| count == 1.0).await;
    }
    assert_eq!(daemon.metric(&published(&bench, "ask", "unroutable")), 1.0, "the caller that is gone");
    assert_eq!(daemon.metric(&published(&bench, "ask", "confirmed")), 3.0);
    let log = daemon.logged("the queue for a reply does not exist").await;
    let line = log.lines().find(|line| line.contains("the queue for a reply does not exist")).expect("the line");
    assert!(line.contains("caller-is-gone") && line.contains(&format!("{}-gone", bench.prefix)), "{line}");
    assert!(daemon.terminate().await.success());

    let broker = bench.open(&routes()).await;
    let answers = drain(&broker, &bench.queue("$P-answers"), 3).await;
    let (mut found, id) = (correlations(&answers), |text: &str| Some(text.to_owned()));
    let retried = found.keys().find(|body| !body.contains("correlation")).cloned().expect("the answer of the retrier");
    assert_eq!(found.remove(&retried), Some(id("c-6")));
    let expected = [("with-correlation", id("c-1")), ("without-correlation", id("without-correlation"))];
    assert_eq!(found, BTreeMap::from(expected.map(|(body, id)| (body.to_owned(), id))));
    assert!(answers.iter().all(|answer| answer.properties.reply_to.is_none()));
    let out = correlations(&drain(&broker, &bench.queue("$P-out"), 2).await);
    let expected = [("no-caller", id("c-3")), ("no-reply-route", id("c-5"))];
    assert_eq!(out, BTreeMap::from(expected.map(|(body, id)| (body.to_owned(), id))));
    let dead = drain(&broker, &bench.queue("$P-ask.dlq"), 1).await;
    let headers = &dead[0].properties.headers;
    assert_eq!(dead[0].properties.message_id.as_deref(), Some("own-queue"));
    assert_eq!(headers.text("trunkline-reason"), Some(Reason::Invalid.as_str()));
    assert!(headers.text("trunkline-error").is_some_and(|error| error.contains("`reply-to`")), "{headers:?}");
    broker.close(patience()).await;
}

async fn a_plugin_sees_the_properties_of_the_request(bench: Bench) {
    let broker = bench.open(&routes()).await;
    let mut full = request(&bench, "witness", "full", Some("$P-answers"), Some("c-1"));
    let properties = &mut full.message_mut().properties;
    properties.content_encoding = Some("gzip".to_owned());
    properties.headers.set("number", HeaderValue::Int(7));
    full.message_mut().body = gzip(b"{}").into();
    drop(broker.publish(vec![full]).await.expect("confirmed"));
    // The message goes back to its queue without an acknowledgement.
    let mut subscription = broker.subscribe(&bench.queue("$P-witness"), 1, "test").await.expect("subscribed");
    match tokio::time::timeout(patience(), subscription.next()).await {
        Ok(Next::Delivery(delivery)) => assert!(!delivery.redelivered),
        other => panic!("no delivery: {other:?}"),
    }
    subscription.close().await.expect("closed");
    let mut bare = request(&bench, "witness", "bare", None, None);
    bare.message_mut().properties.message_id = None;
    drop(broker.publish(vec![bare]).await.expect("confirmed"));
    broker.close(patience()).await;
    drop(broker);

    let daemon = bench.start(&routes()).await;
    metric(&daemon, &settled(&bench, "witness", "ack"), |count| count == 2.0).await;
    assert!(daemon.terminate().await.success());
    let broker = bench.open(&routes()).await;
    let seen = drain(&broker, &bench.queue("$P-seen"), 2).await;
    broker.close(patience()).await;
    let seen: Vec<Value> = seen.iter().map(|seen| serde_json::from_slice(&seen.body).expect("JSON")).collect();
    let full = seen.iter().find(|seen| seen["id"] == "full").expect("the request with an id");
    let answers = format!("{}-answers", bench.prefix);
    assert_eq!((&full["reply_to"], &full["correlation_id"]), (&json!(answers), &json!("c-1")));
    assert_eq!((&full["content_encoding"], &full["own_id"]), (&json!("gzip"), &json!(true)));
    assert_eq!((&full["redelivered"], &full["attempt"]), (&json!(true), &json!(1)));
    let bare = seen.iter().find(|seen| seen["id"] != "full").expect("the request without an id");
    if bench.is_embedded() {
        // RabbitMQ needs an id for each message that the daemon's client publishes.
        assert_eq!(bare["own_id"], json!(false), "{bare}");
    }
    for absent in ["reply_to", "correlation_id", "content_encoding"] {
        assert_eq!(bare[absent], Value::Null, "{bare}");
    }
    assert_eq!(bare["redelivered"], json!(false), "{bare}");
}

async fn a_client_of_the_api_asks_where_it_may(bench: Bench) {
    let answers = bench.queue("$P-answers");
    let ask = |daemon: &Daemon, id: &str| {
        let body =
            json!({ "type": "ask", "id": id, "data": id, "reply_to": answers.as_str(), "correlation_id": "c-1" });
        daemon.post("/api/v1/events", &body.to_string())
    };
    let daemon = bench.start(&routes()).await;
    let (status, problem) = ask(&daemon, "refused");
    assert_eq!((status, &problem["code"]), (403, &json!("TL403")), "{problem}");
    assert!(
        problem["detail"].as_str().is_some_and(|detail| detail.contains("`reserved = true` in [http]")),
        "{problem}"
    );
    assert!(daemon.terminate().await.success());

    let daemon = bench.start(&routes_with("true")).await;
    let (status, accepted) = ask(&daemon, "asked");
    assert_eq!(status, 202, "{accepted}");
    assert_eq!(daemon.settled("asked").await["outcome"], "ack");
    let other =
        json!({ "type": "ask", "id": "asked", "data": "asked", "reply_to": "elsewhere", "correlation_id": "c-1" });
    assert_eq!(daemon.post("/api/v1/events", &other.to_string()).0, 422, "the same id for another request");
    assert!(daemon.terminate().await.success());
    let broker = bench.open(&routes_with("true")).await;
    let answers = correlations(&drain(&broker, &answers, 1).await);
    assert_eq!(answers, BTreeMap::from([("asked".to_owned(), Some("c-1".to_owned()))]));
    broker.close(patience()).await;
}

on_both_brokers! {
    a_request_is_answered_in_the_queue_of_the_caller,
    a_plugin_sees_the_properties_of_the_request,
    a_client_of_the_api_asks_where_it_may,
}

/// A caller with an exclusive queue, as in the sixth tutorial of RabbitMQ.
const AIO_PIKA: &str = r#"
import asyncio, json, sys, aio_pika

async def main(url, exchange_name):
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(exchange_name)
        answers = await channel.declare_queue(exclusive=True, auto_delete=True)
        request = aio_pika.Message(b'{"n": 1}', content_type="application/json", correlation_id="call-1",
                                   reply_to=answers.name)
        await exchange.publish(request, routing_key="ask")
        async with answers.iterator(timeout=60) as messages:
            async for answer in messages:
                async with answer.process():
                    print(json.dumps({"body": json.loads(answer.body), "correlation_id": answer.correlation_id}))
                    return

asyncio.run(main(*sys.argv[1:]))
"#;

/// A caller with direct reply-to.
const AMQPLIB: &str = r#"
const amqp = require("amqplib");
const [url, exchange] = process.argv.slice(1);
(async () => {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  const answered = new Promise((resolve) => channel.consume("amq.rabbitmq.reply-to", resolve, { noAck: true }));
  const options = { contentType: "application/json", correlationId: "call-2", replyTo: "amq.rabbitmq.reply-to" };
  channel.publish(exchange, "ask", Buffer.from('{"n": 2}'), options);
  const answer = await answered;
  console.log(JSON.stringify({ body: JSON.parse(answer.content), correlation_id: answer.properties.correlationId }));
  await connection.close();
})();
"#;

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_two_libraries_get_their_answers() {
    let bench = Bench::amqp();
    let daemon = bench.start(&routes()).await;
    daemon.runs().await;
    let exchange = format!("{}-events", bench.prefix);
    let mut aio_pika = Command::new(python_with("aio-pika==10.2.1"));
    aio_pika.args(["-c", AIO_PIKA, &bench.broker, &exchange]);
    let mut amqplib = Command::new("node");
    amqplib.env("NODE_PATH", modules_with("amqplib", "2.3.1"));
    amqplib.args(["-e", AMQPLIB, "--", &bench.broker, &exchange]);
    for (mut caller, number) in [(aio_pika, 1), (amqplib, 2)] {
        let output = run(&mut caller);
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(answer, json!({ "body": { "n": number }, "correlation_id": format!("call-{number}") }));
    }
    metric(&daemon, &published(&bench, "ask", "confirmed"), |count| count == 2.0).await;
    assert_eq!(daemon.metric(&published(&bench, "ask", "unroutable")), 0.0, "each caller waited");
    assert!(daemon.terminate().await.success());
}

/// A forged address would end the session on RabbitMQ 3.10, again with each redelivery.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_with_direct_reply_to_may_go_away_and_a_forged_address_ends_alone() {
    let bench = Bench::amqp();
    let broker = bench.open(&routes()).await;
    broker.close(patience()).await;
    let exchange = format!("{}-events", bench.prefix);
    let ask = async |id: &'static str| {
        let connecting = Connection::connect(&bench.broker, ConnectionProperties::default());
        let connection = connecting.await.expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consuming =
            channel.basic_consume("amq.rabbitmq.reply-to".into(), "".into(), options, FieldTable::default());
        let consumer = consuming.await.expect("a consumer");
        let properties = BasicProperties::default()
            .with_message_id(id.into())
            .with_correlation_id(id.into())
            .with_reply_to("amq.rabbitmq.reply-to".into());
        let options = BasicPublishOptions::default();
        let publishing = channel.basic_publish(exchange.as_str().into(), "ask".into(), options, b"\"x\"", properties);
        let _no_confirm = publishing.await.expect("published").await.expect("not requested");
        // The answer to this request comes after the publish was handled.
        let queue = bench.queue("$P-answers");
        let empty = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.expect("it exists");
        assert!(empty.is_none());
        (connection, channel, consumer)
    };
    let (connection, _channel, _consumer) = ask("gone").await;
    connection.close(200, "".into()).await.expect("closed");
    let broker = bench.open(&routes()).await;
    // Not Base64, and Base64 of a text.
    for (id, address) in
        [("forged-1", "amq.rabbitmq.reply-to.x.y"), ("forged-2", "amq.rabbitmq.reply-to.dGV4dA==.dGV4dA==")]
    {
        let forged = request(&bench, "ask", id, Some(address), Some("c-1"));
        drop(broker.publish(vec![forged]).await.expect("confirmed"));
    }
    broker.close(patience()).await;
    let (_connection, _channel, mut consumer) = ask("waits").await;

    let daemon = bench.start(&routes()).await;
    metric(&daemon, &settled(&bench, "ask", "ack"), |count| count == 2.0).await;
    metric(&daemon, &settled(&bench, "ask", "dead_letter"), |count| count == 2.0).await;
    let answer = tokio::time::timeout(patience(), futures_util::StreamExt::next(&mut consumer)).await;
    let answer = answer.expect("an answer").expect("a consumer").expect("a delivery");
    let correlation_id = answer.properties.correlation_id().as_ref().map(|id| id.as_str().to_owned());
    assert_eq!((correlation_id.as_deref(), &answer.data[..]), (Some("waits"), &b"\"x\""[..]));
    // RabbitMQ does not say whether a caller with direct reply-to still waits.
    assert_eq!(daemon.metric(&published(&bench, "ask", "confirmed")), 2.0);
    assert_eq!(daemon.metric(&published(&bench, "ask", "unroutable")), 0.0);
    let health: Value = serde_json::from_str(&daemon.get("/health").1).expect("JSON");
    assert_eq!(health["broker"]["session"], json!(1), "no session ended: {health}");
    assert!(daemon.terminate().await.success());
    let broker = bench.open(&routes()).await;
    for letter in drain(&broker, &bench.queue("$P-ask.dlq"), 2).await {
        let headers = &letter.properties.headers;
        assert_eq!(headers.text("trunkline-reason"), Some(Reason::Refused.as_str()), "{headers:?}");
        assert!(headers.text("trunkline-error").is_some_and(|error| error.contains("direct reply-to")), "{headers:?}");
    }
    broker.close(patience()).await;
}
