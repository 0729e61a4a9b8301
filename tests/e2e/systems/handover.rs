//! A running aio-pika service hands its queue over to a plugin, as `docs/how-to/move-a-consumer-to-a-plugin.md` says.
//! The service declares and consumes its queue as the document of voice-by-kraliki says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use trunkline_support::{Daemon, eventually};

use super::clients::{Client, Library};
use crate::bench::{Bench, metric, settled};

const SERVICE: &str = r#"
import asyncio, json, sys, uuid, aio_pika

def task_of(event):
    call = event["data"]
    data = {"title": f"Call back: {call['call_id']}", "priority": "high",
            "source": {"event_id": event["id"], "call_id": call["call_id"]}}
    return {"id": str(uuid.uuid5(uuid.NAMESPACE_URL, event["id"])), "type": "planning.task.created", "source": "focus-lite",
            "timestamp": event["timestamp"], "organizationId": event["organizationId"], "userId": event["userId"],
            "data": data, "metadata": {"version": "1.0.0", "module": "focus-lite"}}

async def main(url, exchange_name, queue_name):
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=10)
        exchange = await channel.declare_exchange(exchange_name, aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(queue_name, durable=True)
        await queue.bind(exchange, routing_key="comms.call.ended")
        async with queue.iterator() as messages:
            print(json.dumps({"ready": True}), flush=True)
            async for message in messages:
                async with message.process():
                    event = json.loads(message.body)
                    if event["data"]["outcome"] == "callback_requested":
                        body = json.dumps(task_of(event)).encode()
                        task = aio_pika.Message(body, content_type="application/json",
                                                delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
                        await exchange.publish(task, routing_key="planning.task.created")
                    print(json.dumps({"handled": event["data"]["call_id"]}), flush=True)

asyncio.run(main(*sys.argv[1:]))
"#;

/// The exchanges of both steps. The second exchange gets the tasks of the comparison.
const EXCHANGES: &str = r#"
    plugin-dir = "$PLUGINS"
    [exchanges."$P.ocelot.events"]
    type = "topic"
    codec = "ocelot"
    [exchanges."$P.compare"]
    type = "topic"
    codec = "ocelot"
"#;

/// The plugin gets a copy of each event, and its tasks reach no other program.
const COMPARISON: &str = r#"
    [queues.$P-compare]
    bind = { exchange = "$P.ocelot.events", keys = "comms.call.ended" }
    [routes.$P-compare]
    queue = "$P-compare"
    plugin = "callback-task"
    emit = { exchange = "$P.compare" }
"#;

/// The plugin shares the queue of the service.
const SHARED: &str = r#"
    [queues."$P.focus_lite_calls"]
    owned = "shared"
    bind = { exchange = "$P.ocelot.events", keys = "comms.call.ended" }
    [routes.$P-callback-tasks]
    queue = "$P.focus_lite_calls"
    plugin = "callback-task"
"#;

/// The queue and the programs around the queue.
struct Handover {
    bench: Bench,
    exchange: String,
    queue: String,
    producer: Client,
    /// Receives every task, of the service and of the plugin.
    tasks: Client,
    /// The published calls that ask for a call back.
    calls: BTreeSet<String>,
}

impl Handover {
    /// Starts the service, and then the programs around it.
    async fn start(bench: Bench) -> (Self, Client) {
        let [exchange, queue] = ["ocelot.events", "focus_lite_calls"].map(|name| format!("{}.{name}", bench.prefix));
        let service = service(&bench, &exchange, &queue).await;
        let producer = Client::producer(Library::AioPika, &bench.broker, [&exchange, "topic"]).await;
        let created = [exchange.as_str(), "topic", "planning.task.created"];
        let tasks = Client::consumer(Library::Amqplib, &bench.broker, created).await;
        (Self { bench, exchange, queue, producer, tasks, calls: BTreeSet::new() }, service)
    }

    /// Publishes calls. Every fourth call asks for no call back.
    async fn publish(&mut self, count: usize) {
        for number in 0..count {
            let call = format!("c-{}", uuid::Uuid::now_v7().simple());
            let outcome = if number % 4 == 3 { "completed" } else { "callback_requested" };
            let event = json!({
                "id": uuid::Uuid::now_v7().to_string(), "type": "call.ended", "source": "communications",
                "timestamp": "2026-11-21T10:00:00Z", "organizationId": "org-1", "userId": "user-7",
                "data": { "call_id": call, "duration": 42, "outcome": outcome, "transcript": null },
                "metadata": { "version": "1.0.0", "module": "cc-lite" },
            });
            self.producer.publish("comms.call.ended", &event).await;
            if outcome == "callback_requested" {
                self.calls.insert(call);
            }
        }
    }

    /// Waits until each call has a task.
    async fn every_call_has_a_task(&self) {
        eventually("a task for each call", || {
            let of = titles(&self.tasks.received());
            let is_done = self.calls.iter().all(|call| of.contains_key(call));
            async move { is_done.then_some(()) }
        })
        .await;
    }

    /// Waits until the service and the daemon have taken every message of the queue, and the daemon has handled its part.
    async fn daemon_is_done(&self, daemon: &Daemon) {
        let in_flight = format!("trunkline_messages_in_flight{{route=\"{}-callback-tasks\"}}", self.bench.prefix);
        eventually("an empty queue and an idle daemon", || {
            let is_done = self.ready(daemon) == Some(0) && daemon.metric(&in_flight) == 0.0;
            async move { is_done.then_some(()) }
        })
        .await;
    }

    /// The number of messages that wait in the queue.
    fn ready(&self, daemon: &Daemon) -> Option<u64> {
        let all: Value = serde_json::from_str(&daemon.get("/api/v1/events/queues").1).expect("JSON");
        let queues = all["queues"].as_array().map(Vec::as_slice).unwrap_or_default();
        queues.iter().find(|queue| queue["name"] == *self.queue)?["ready"].as_u64()
    }
}

/// The routes of a step.
fn routes(step: &str) -> String {
    let plugins = trunkline_support::plugins().display().to_string();
    (EXCHANGES.to_owned() + step).replace("$PLUGINS", &plugins)
}

async fn service(bench: &Bench, exchange: &str, queue: &str) -> Client {
    Client::program(SERVICE, &[&bench.broker, exchange, queue]).await
}

/// The titles of tasks by their calls.
fn titles(tasks: &[Value]) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let task = |task: &Value| {
        let data = &task["body"]["data"];
        (text(&data["source"]["call_id"]), text(&data["title"]))
    };
    tasks.iter().map(task).collect()
}

/// The tasks of the plugin are those of the service, for the same calls.
async fn the_plugin_agrees_with_the_service(handover: &mut Handover) {
    let compare = format!("{}.compare", handover.bench.prefix);
    let daemon = handover.bench.start(&routes(COMPARISON)).await;
    daemon.runs().await;
    let copies = [compare.as_str(), "topic", "planning.task.created"];
    let copies = Client::consumer(Library::Amqplib, &handover.bench.broker, copies).await;
    let before = handover.calls.clone();
    handover.publish(12).await;
    handover.every_call_has_a_task().await;
    let ours = titles(&copies.has(9).await);
    let theirs = titles(&handover.tasks.received());
    assert_eq!(ours.len(), 9);
    for call in handover.calls.difference(&before) {
        assert_eq!(ours.get(call), theirs.get(call), "{call}");
    }
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_hands_its_queue_over_without_a_lost_event() {
    let (mut handover, service_before) = Handover::start(Bench::amqp()).await;
    handover.publish(4).await;
    handover.every_call_has_a_task().await;
    the_plugin_agrees_with_the_service(&mut handover).await;

    // Side by side: RabbitMQ gives each message to one of the two consumers.
    let daemon = handover.bench.start(&routes(SHARED)).await;
    daemon.runs().await;
    let by_service = service_before.received().len();
    handover.publish(24).await;
    handover.every_call_has_a_task().await;
    assert!(service_before.received().len() > by_service, "the service still takes its part");
    let acked = settled(&handover.bench, "callback-tasks", "ack");
    metric(&daemon, &acked, |count| count > 0.0).await;
    assert_eq!(handover.tasks.received().len(), handover.calls.len(), "no event was handled twice");

    // The service is killed while it holds unacknowledged messages. RabbitMQ gives these messages to the daemon.
    handover.daemon_is_done(&daemon).await;
    let before = daemon.metric(&acked);
    service_before.signal("STOP");
    handover.publish(24).await;
    handover.daemon_is_done(&daemon).await;
    assert!(daemon.metric(&acked) - before < 24.0, "the service holds messages");
    drop(service_before);
    metric(&daemon, &acked, |count| count >= before + 24.0).await;
    handover.every_call_has_a_task().await;
    handover.publish(24).await;
    handover.every_call_has_a_task().await;

    // The service can be started again, and the daemon too: each declares the queue beside the other.
    let service_again = service(&handover.bench, &handover.exchange, &handover.queue).await;
    assert!(daemon.terminate().await.success());
    handover.publish(8).await;
    handover.every_call_has_a_task().await;
    assert!(!service_again.received().is_empty());
    let daemon = handover.bench.start(&routes(SHARED)).await;
    daemon.runs().await;
    drop(service_again);
    handover.publish(8).await;
    handover.every_call_has_a_task().await;
    nothing_is_left(&handover, &daemon).await;
    assert!(daemon.terminate().await.success());
}

/// The daemon makes the queue, and the service joins. Both take their part.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_may_start_before_the_service() {
    let bench = Bench::amqp();
    let daemon = bench.start(&routes(SHARED)).await;
    daemon.runs().await;
    let (mut handover, service) = Handover::start(bench).await;
    handover.publish(24).await;
    handover.every_call_has_a_task().await;
    assert!(!service.received().is_empty(), "the service takes its part");
    metric(&daemon, &settled(&handover.bench, "callback-tasks", "ack"), |count| count > 0.0).await;
    nothing_is_left(&handover, &daemon).await;
    assert_eq!(handover.tasks.received().len(), handover.calls.len(), "no event was handled twice");
    assert!(daemon.terminate().await.success());
}

/// The queue is empty, and the daemon has dead-lettered nothing.
async fn nothing_is_left(handover: &Handover, daemon: &Daemon) {
    eventually("an empty queue", || {
        let is_empty = handover.ready(daemon) == Some(0);
        async move { is_empty.then_some(()) }
    })
    .await;
    assert_eq!(daemon.sum("trunkline_dead_letters_total"), 0.0);
}
