//! The examples beside the applications' own declarations, as each README describes. The applications declare their queues
//! with aio-pika and amqplib, before or after the daemon, and neither side is refused.

use serde_json::{Value, json};
use trunkline_support::Daemon;

use super::clients::{Client, Library};
use super::example::{Example, On};
use super::schemas::sample;
use crate::bench::metric;

/// The consumer of the call centre. It declares its queue without arguments.
const VOICE: &str = r#"
import asyncio, json, sys, aio_pika

async def main(url):
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange("ocelot.events", aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue("focus_lite_calls", durable=True)
        await queue.bind(exchange, "comms.call.ended")
        async with queue.iterator() as messages:
            print(json.dumps({"ready": True}), flush=True)
            async for message in messages:
                async with message.process():
                    print(json.dumps({"key": message.routing_key, "body": json.loads(message.body)}), flush=True)

asyncio.run(main(*sys.argv[1:]))
"#;

/// The grading service. It declares all three queues without arguments, and consumes the results.
pub const GRADING: &str = r#"
import asyncio, json, sys, aio_pika

async def main(url):
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange("ai_grading", aio_pika.ExchangeType.DIRECT, durable=True)
        queues = {}
        for name in ["writing", "speaking", "result"]:
            queues[name] = await channel.declare_queue(name, durable=True)
            await queues[name].bind(exchange, name)
        async with queues["result"].iterator() as messages:
            print(json.dumps({"ready": True}), flush=True)
            async for message in messages:
                async with message.process():
                    print(json.dumps({"key": message.routing_key, "body": json.loads(message.body)}), flush=True)

asyncio.run(main(*sys.argv[1:]))
"#;

/// The services around WhatsApp. They declare the queues with a TTL and a dead-letter exchange, and send tasks.
pub const WHATSAPP: &str = r#"
const amqp = require("amqplib");
const readline = require("node:readline");
const [url] = process.argv.slice(1);
(async () => {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue("ag_queue", { durable: true, messageTtl: 300000, deadLetterExchange: "dlx_agent" });
  await channel.assertQueue("wb_queue", { durable: true, messageTtl: 60000, deadLetterExchange: "dlx_webhook" });
  console.log(JSON.stringify({ ready: true }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { key, body, id, expiration } = JSON.parse(line);
    const options = { contentType: "application/json", persistent: true, messageId: id ?? undefined, expiration };
    channel.sendToQueue(key, Buffer.from(JSON.stringify(body)), options);
    await channel.waitForConfirms();
    console.log(JSON.stringify({ confirmed: true }));
  }
})();
"#;

/// The service in front of the event broker. It declares the queues with the limits of its settings, and consumes batches.
const EVENT_BROKER: &str = r#"
const amqp = require("amqplib");
const [url] = process.argv.slice(1);
(async () => {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  const limits = { messageTtl: 86400000, maxLength: 10000 };
  await channel.assertQueue("events", { durable: true, ...limits, maxPriority: 10 });
  await channel.assertQueue("batches", { durable: true });
  await channel.consume("batches", (message) => {
    console.log(JSON.stringify({ key: message.fields.routingKey, body: JSON.parse(message.content) }));
    channel.ack(message);
  });
  console.log(JSON.stringify({ ready: true }));
})();
"#;

/// The side that declares first.
#[derive(Clone, Copy)]
enum First {
    Applications,
    Daemon,
}

macro_rules! in_either_order {
    ($($system:ident),+ $(,)?) => {
        mod applications_first {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $system() {
                super::$system(super::First::Applications).await;
            })+
        }

        mod daemon_first {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $system() {
                super::$system(super::First::Daemon).await;
            })+
        }
    };
}

in_either_order! { voice, grading, whatsapp, event_broker }

/// Starts both sides. No declaration is refused, and no queue differs from the file.
async fn together(first: First, example: &Example, library: Library, script: &str) -> (Daemon, Client) {
    let (daemon, application) = match first {
        First::Applications => {
            let application = Client::start(library, script, &[&example.broker]).await;
            (example.start().await, application)
        }
        First::Daemon => {
            let daemon = example.start().await;
            (daemon, Client::start(library, script, &[&example.broker]).await)
        }
    };
    let log = daemon.log();
    for refused in ["refuses a part of the topology", "uses the queue unchanged"] {
        assert!(!log.contains(refused), "{log}");
    }
    (daemon, application)
}

/// The consumer's queue and the daemon's queues both get the event of a call.
async fn voice(first: First) {
    let example = Example::open("voice-by-kraliki", On::Beside, &[]);
    let (daemon, application) = together(first, &example, Library::AioPika, VOICE).await;
    let ended = story_event("call.ended");
    let mut producer = Client::producer(Library::Amqplib, &example.broker, ["ocelot.events", "topic"]).await;
    producer.publish("comms.call.ended", &ended).await;
    let seen = application.has(1).await;
    assert_eq!((&seen[0]["key"], &seen[0]["body"]["id"]), (&json!("comms.call.ended"), &ended["id"]));
    for route in ["callback-tasks", "crm-ended", "metrics-ended"] {
        let acked = format!("trunkline_messages_settled_total{{route=\"{route}\",outcome=\"ack\"}}");
        metric(&daemon, &acked, |count| count >= 1.0).await;
    }
    assert!(daemon.terminate().await.success());
}

/// The first envelope of the story with this type.
fn story_event(kind: &str) -> Value {
    let folder = xtask::root().join("examples/voice-by-kraliki/story");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let read = |file: &std::path::PathBuf| -> Value {
        serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON")
    };
    files.iter().map(read).find(|event| event["type"] == kind).expect("an event")
}

/// A job goes through the service's queue, and its result comes to the service.
async fn grading(first: First) {
    let example = Example::open("ai-grading", On::Beside, &[]);
    let (daemon, application) = together(first, &example, Library::AioPika, GRADING).await;
    // The result of an invalid job needs no grader.
    let mut job = sample("ai-grading", "events/01-writing.json")["publish"]["data"].clone();
    (job["job_id"], job["task_type"]) = (json!("beside"), json!("task9"));
    let mut producer = Client::producer(Library::Amqplib, &example.broker, ["ai_grading", "direct"]).await;
    producer.publish("writing", &job).await;
    let result = &application.has(1).await[0]["body"];
    assert_eq!((&result["job_id"], &result["status"]), (&json!("beside"), &json!("failed")), "{result:#}");
    // The dead letters of a shared queue go to the daemon's own queue.
    producer.publish("speaking", &json!(["no", "job"])).await;
    let dead = "trunkline_messages_settled_total{route=\"grading-speaking\",outcome=\"dead_letter\"}";
    metric(&daemon, dead, |count| count >= 1.0).await;
    assert!(daemon.terminate().await.success());
    assert_eq!(example.drained("speaking_dead", 1).await.len(), 1);
}

/// A task that is no task becomes a dead letter in the daemon's own queue. `check` prints the policies of both queues.
async fn whatsapp(first: First) {
    let secrets =
        [("SENDER_API_KEY", "a-key-of-the-sender"), ("SENDER_WEBHOOK_SECRET", "a-secret-of-the-sender-0123456789")];
    let example = Example::open("whatsapp-agent", On::Beside, &secrets);
    let printed = example.check();
    for (queue, target) in [("ag_queue", "ag_dead"), ("wb_queue", "wb_dead")] {
        let policy = printed.lines().find(|line| line.starts_with("rabbitmqctl") && line.contains(queue));
        let policy = policy.unwrap_or_else(|| panic!("no policy of {queue}: {printed}"));
        assert!(policy.contains(&format!("\"dead-letter-routing-key\":\"{target}\"")), "{policy}");
    }
    let (daemon, mut application) = together(first, &example, Library::Amqplib, WHATSAPP).await;
    application.publish("ag_queue", &json!(["no task"])).await;
    let dead = "trunkline_messages_settled_total{route=\"agent-dispatch\",outcome=\"dead_letter\"}";
    metric(&daemon, dead, |count| count >= 1.0).await;
    assert!(daemon.terminate().await.success());
    let letters = example.drained("ag_dead", 1).await;
    assert_eq!(letters[0].properties.headers.text("trunkline-route"), Some("agent-dispatch"));
}

/// An event goes through the service's queue, and its batch comes to the service.
async fn event_broker(first: First) {
    let example = Example::open("event-broker", On::Beside, &[("BATCH_SECONDS", "1")]);
    let (daemon, application) = together(first, &example, Library::Amqplib, EVENT_BROKER).await;
    let event = sample("event-broker", "samples/01-voice.json");
    let (status, accepted) = daemon.post("/api/v1/events", &event.to_string());
    assert_eq!((status, &accepted["routed"]), (202, &json!(true)), "{accepted}");
    let batch = &application.has(1).await[0];
    assert_eq!((&batch["key"], &batch["body"]["reason"]), (&json!("batch"), &json!("time")), "{batch:#}");
    assert!(daemon.terminate().await.success());
}
