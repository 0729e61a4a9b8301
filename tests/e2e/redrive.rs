//! Dead letters that are redriven while the dedupe window still has their events.

use lapin::options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::json;
use trunkline_broker::Publication;
use trunkline_event::{ExchangeName, Message};
use trunkline_support::Daemon;
use xtask::rabbitmq::RabbitmqNode;

use crate::bench::{Bench, drain, message, metric, on_both_brokers, settled};
use crate::faults::frames::{Mode, Proxy};

const ROUTES: &str = r#"
# The listener remembers the last id only: repetitions are for the route to see.
[http]
dedupe = { window = "10m", max = 1 }
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
retry = { max = 2, delay = "200ms" }
[queues.$P-out]
bind = ["managed", "echoed"]
[routes.$P-once]
from = "once"
plugin = "$PLUGIN"
dedupe = "10m"
"#;

fn routes(plugin: &str) -> String {
    ROUTES.replace("$PLUGIN", plugin)
}

/// With further keys of the route.
fn routes_with(plugin: &str, keys: &str) -> String {
    routes(plugin) + keys
}

/// A dead letter as it is in its queue, with its signature.
pub enum Letter {
    Amqp(Box<(BasicProperties, Vec<u8>)>),
    Embedded(Box<Message>),
}

async fn channel(bench: &Bench) -> (Connection, lapin::Channel) {
    let connecting = Connection::connect(&bench.broker, ConnectionProperties::default());
    let connection = connecting.await.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    (connection, channel)
}

/// Takes all dead letters of a queue. The test opens the embedded broker itself meanwhile.
async fn take(bench: &Bench, routes: &str, queue: &str) -> Vec<Letter> {
    if bench.is_embedded() {
        let broker = bench.open(routes).await;
        let taken = drain(&broker, &bench.queue(queue), 1).await;
        broker.close(trunkline_support::patience()).await;
        return taken.into_iter().map(|message| Letter::Embedded(Box::new(message))).collect();
    }
    let (_connection, channel) = channel(bench).await;
    let mut letters = Vec::new();
    let queue = bench.queue(queue);
    while let Some(found) =
        channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.expect("the queue exists")
    {
        letters.push(Letter::Amqp(Box::new((found.delivery.properties.clone(), found.delivery.data.clone()))));
        found.delivery.ack(BasicAckOptions::default()).await.expect("acknowledged");
    }
    letters
}

/// Publishes dead letters unchanged to a queue, as a shovel does.
async fn put(bench: &Bench, routes: &str, queue: &str, letters: &[Letter]) {
    let queue = bench.queue(queue);
    let mut batch = Vec::new();
    for letter in letters {
        match letter {
            Letter::Embedded(message) => {
                let (exchange, routing_key) = (ExchangeName::default_exchange(), queue.as_key());
                batch.push(Publication::now(message.copy_for(exchange, routing_key)));
            }
            Letter::Amqp(letter) => {
                let (properties, body) = Box::as_ref(letter).clone();
                let (_connection, channel) = channel(bench).await;
                let options = BasicPublishOptions::default();
                let confirm = channel.basic_publish("".into(), queue.as_str().into(), options, &body, properties);
                confirm.await.expect("sent").await.expect("confirmed");
            }
        }
    }
    if !batch.is_empty() {
        let broker = bench.open(routes).await;
        drop(broker.publish(batch).await.expect("confirmed"));
        broker.close(trunkline_support::patience()).await;
    }
}

pub async fn move_back(bench: &Bench, routes: &str, at_least: usize) -> Vec<Letter> {
    let letters = take(bench, routes, "$P-once.dlq").await;
    assert!(letters.len() >= at_least, "{} of {at_least} letters", letters.len());
    put(bench, routes, "$P-once", &letters).await;
    letters
}

fn publish(daemon: &Daemon, id: &str, body: serde_json::Value) {
    let mut event = json!({ "type": "once", "id": id });
    event.as_object_mut().expect("a table").append(&mut body.as_object().cloned().expect("a table"));
    // An event without a queue, whose id is the HTTP API's last one.
    for event in [json!({ "type": "unheard", "id": uuid::Uuid::now_v7().to_string(), "data": 1 }), event] {
        let (status, answer) = daemon.post("/api/v1/events", &event.to_string());
        assert_eq!(status, 202, "{answer}");
    }
}

async fn reaches(bench: &Bench, daemon: &Daemon, outcome: &str, wanted: f64) {
    metric(daemon, &settled(bench, "once", outcome), |count| count >= wanted).await;
}

fn count(bench: &Bench, daemon: &Daemon, outcome: &str) -> f64 {
    daemon.metric(&settled(bench, "once", outcome))
}

async fn emitted(bench: &Bench, routes: &str) -> Vec<Message> {
    let broker = bench.open(routes).await;
    let out = drain(&broker, &bench.queue("$P-out"), 0).await;
    broker.close(trunkline_support::patience()).await;
    out
}

/// The whole life of an event: dead, repeated, redriven and dead again, redriven and retried, done, redriven again.
async fn a_letter_that_is_put_back_is_handled_until_its_event_is_done(bench: Bench) {
    let (rejects, works) = (routes("rejecter"), routes("retrier"));
    let daemon = bench.start(&rejects).await;
    publish(&daemon, "e-1", json!({ "data": 2 }));
    reaches(&bench, &daemon, "dead_letter", 1.0).await;
    publish(&daemon, "e-1", json!({ "data": 2 }));
    reaches(&bench, &daemon, "dropped", 1.0).await;
    assert!(daemon.terminate().await.success());

    move_back(&bench, &rejects, 1).await;
    let daemon = bench.start(&rejects).await;
    reaches(&bench, &daemon, "dead_letter", 1.0).await;
    assert_eq!(count(&bench, &daemon, "dropped"), 0.0, "a letter that is put back is tried again");
    assert!(daemon.terminate().await.success());

    // The corrected plugin succeeds at the second attempt.
    let letters = move_back(&bench, &works, 1).await;
    assert_eq!(letters.len(), 1, "one letter for each death");
    let daemon = bench.start(&works).await;
    reaches(&bench, &daemon, "ack", 1.0).await;
    assert_eq!((count(&bench, &daemon, "retry"), count(&bench, &daemon, "dropped")), (1.0, 0.0));
    publish(&daemon, "e-1", json!({ "data": 2 }));
    reaches(&bench, &daemon, "dropped", 1.0).await;
    assert!(daemon.terminate().await.success());

    put(&bench, &works, "$P-once", &letters).await;
    let daemon = bench.start(&works).await;
    reaches(&bench, &daemon, "dropped", 1.0).await;
    assert_eq!(count(&bench, &daemon, "ack"), 0.0, "what is done is not done again");
    assert!(daemon.terminate().await.success());
    assert_eq!(emitted(&bench, &works).await.len(), 1);
}

/// Events without an id have no record, and their dead letters have an id that the daemon made.
async fn events_without_an_id_are_put_back_too(bench: Bench) {
    let (rejects, works) = (routes("rejecter"), routes("echo"));
    let broker = bench.open(&rejects).await;
    let exchange = format!("{}-events", bench.prefix);
    let batch = (0..3).map(|_| {
        let mut equal = message(&exchange, "once", "", "equal");
        equal.message_mut().properties.message_id = None;
        equal
    });
    drop(broker.publish(batch.collect::<Vec<_>>()).await.expect("confirmed"));
    broker.close(trunkline_support::patience()).await;
    drop(broker);
    for routes in [&rejects, &rejects] {
        let daemon = bench.start(routes).await;
        reaches(&bench, &daemon, "dead_letter", 3.0).await;
        assert!(daemon.terminate().await.success());
        assert_eq!(move_back(&bench, routes, 3).await.len(), 3);
    }
    let daemon = bench.start(&works).await;
    reaches(&bench, &daemon, "ack", 3.0).await;
    assert_eq!(count(&bench, &daemon, "dropped"), 0.0);
    assert!(daemon.terminate().await.success());
    assert_eq!(emitted(&bench, &works).await.len(), 3);
}

/// An event that waits for its turn or its key is a copy of the dead letter, and is handled like the dead letter.
async fn letters_wait_for_order_and_tenants_and_pass(mut bench: Bench) {
    let prefix = bench.prefix.clone();
    for (name, keys) in
        [("order", "order-by = \"subject\"\n"), ("tenant", "tenant = { by = \"tenant\", rate = \"2/s\" }\n")]
    {
        // A separate queue, because an ordered route has other arguments.
        bench.prefix = format!("{prefix}-{name}");
        let (rejects, works) = (routes_with("rejecter", keys), routes_with("retrier", keys));
        let ids: Vec<String> = (0..6).map(|n| format!("{name}-{n}")).collect();
        let daemon = bench.start(&rejects).await;
        for (n, id) in ids.iter().enumerate() {
            // The first event of a key succeeds at its third attempt, and the others wait for it.
            let attempts = if n == 0 { 3 } else { 1 };
            publish(&daemon, id, json!({ "subject": "s", "organizationId": "org", "data": attempts }));
        }
        reaches(&bench, &daemon, "dead_letter", 6.0).await;
        assert!(daemon.terminate().await.success());
        move_back(&bench, &works, 6).await;
        let daemon = bench.start(&works).await;
        reaches(&bench, &daemon, "ack", 6.0).await;
        assert!(count(&bench, &daemon, "parked") > 0.0, "{name}: none waited");
        assert_eq!(count(&bench, &daemon, "dropped"), 0.0, "{name}");
        for id in &ids {
            publish(&daemon, id, json!({ "subject": "s", "organizationId": "org", "data": 1 }));
        }
        // The first one had another body.
        reaches(&bench, &daemon, "dropped", 5.0).await;
        assert!(daemon.terminate().await.success());
        let out = emitted(&bench, &works).await;
        let causes: Vec<&str> = out.iter().filter_map(|out| out.properties.headers.text("trunkline-cause")).collect();
        if name == "order" {
            assert_eq!(causes, ids, "in the order of the dead-letter queue");
        }
        assert_eq!(causes.len(), 6, "{name}: each once");
    }
}

on_both_brokers! {
    a_letter_that_is_put_back_is_handled_until_its_event_is_done,
    events_without_an_id_are_put_back_too,
    letters_wait_for_order_and_tenants_and_pass,
}

/// "Move messages" of the management page is a shovel with these settings.
#[tokio::test(flavor = "multi_thread")]
async fn messages_moved_by_the_management_page_are_handled() {
    let node = RabbitmqNode::start_with_plugins(&["rabbitmq_shovel"], "").expect("a RabbitMQ with shovels");
    let bench = Bench::on(node.url());
    let (rejects, works) = (routes("rejecter"), routes("echo"));
    let daemon = bench.start(&rejects).await;
    for n in 0..5 {
        publish(&daemon, &format!("e-{n}"), json!({ "data": n }));
    }
    reaches(&bench, &daemon, "dead_letter", 5.0).await;
    assert!(daemon.terminate().await.success());
    let daemon = bench.start(&works).await;
    let moves = json!({
        "src-protocol": "amqp091", "src-uri": "amqp:///%2f", "src-queue": format!("{}-once.dlq", bench.prefix),
        "src-prefetch-count": 1000, "src-delete-after": "queue-length",
        "dest-protocol": "amqp091", "dest-uri": "amqp:///%2f", "dest-queue": format!("{}-once", bench.prefix),
        "dest-add-forward-headers": false, "ack-mode": "on-confirm",
    });
    node.ctl(&["set_parameter", "shovel", "move", &moves.to_string()]).expect("a shovel");
    reaches(&bench, &daemon, "ack", 5.0).await;
    assert_eq!(count(&bench, &daemon, "dropped"), 0.0);
    assert!(daemon.terminate().await.success());
}

/// The record is on disk before the acknowledgement is sent. A kill between the two makes a repeat.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_record_and_acknowledgement_repeats_nothing() {
    let mut bench = Bench::amqp();
    let direct = bench.broker.clone();
    let (rejects, works) = (routes("rejecter"), routes("echo"));
    // An event that is dead-lettered, the same event redriven and done, and one that is done at once.
    for (plan, outcome, put_back) in [(&rejects, "dead_letter", false), (&works, "ack", true), (&works, "ack", false)] {
        if put_back {
            assert_eq!(move_back(&bench, plan, 1).await.len(), 1, "one letter, though the acknowledgement was lost");
        }
        let (proxy, url) = Proxy::start(&direct, Mode::LoseAcks, 1).await;
        bench.broker = url;
        let daemon = bench.start(plan).await;
        crate::bench::becomes_ready(&daemon, true).await;
        if !put_back {
            publish(&daemon, outcome, json!({ "data": 1 }));
        }
        reaches(&bench, &daemon, outcome, 1.0).await;
        trunkline_support::eventually("an acknowledgement on its way", || {
            let is_sent = proxy.acked() > 0;
            async move { is_sent.then_some(()) }
        })
        .await;
        daemon.signal("KILL");
        let _killed = daemon.ended().await;
        drop(proxy);
        bench.broker.clone_from(&direct);
        let daemon = bench.start(plan).await;
        reaches(&bench, &daemon, "dropped", 1.0).await;
        assert_eq!(count(&bench, &daemon, outcome), 0.0, "{outcome}: nothing is done again");
        assert!(daemon.terminate().await.success());
    }
    assert_eq!(emitted(&bench, &works).await.len(), 2);
    assert!(take(&bench, &works, "$P-once.dlq").await.is_empty());
}
