//! Behaviour of RabbitMQ that differs by version. The tests hold on each version that `cargo xtask matrix` runs.

use std::time::Duration;

use serde_json::{Value, json};
use trunkline_broker::{Broker, Confirmed, Delivery, EventStreamQueues, Next, Subscription};
use trunkline_event::{ExchangeName, RoutingKey};
use trunkline_support::eventually;
use trunkline_support::rabbitmq::{RabbitmqNode, RabbitmqServer};

use crate::bench::{Bench, becomes_ready, drain, message, metric, settled};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "managed"
[routes.$P-ordered]
from = "ordered"
plugin = "retrier"
order-by = "subject"
retry = { max = 3, delay = "2s", multiplier = 1 }
"#;

/// Checks every second instead of every minute, with a timeout of five seconds instead of half an hour.
const IMPATIENT: &str =
    "application:set_env(rabbit, consumer_timeout, 5000), application:set_env(rabbit, channel_tick_interval, 1000).";

#[tokio::test(flavor = "multi_thread")]
async fn health_shows_the_version_of_the_broker() {
    let node = RabbitmqNode::start().expect("a private node");
    let bench = Bench::on(node.url());
    let daemon = bench.start(ROUTES).await;
    becomes_ready(&daemon, true).await;
    let health: Value = serde_json::from_str(&daemon.get("/health/rabbitmq").1).expect("JSON");
    let version = RabbitmqServer::chosen().version().expect("the node runs a server");
    assert_eq!((&health["product"], &health["version"]), (&json!("RabbitMQ"), &json!(version)), "{health}");
    assert!(daemon.terminate().await.success());
}

/// From version 4.1 on, RabbitMQ ends a connection with a smaller `frame_max` than 8192 without an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_frame_max_connects() {
    let url = trunkline_support::rabbitmq::url();
    let separator = if url.contains('?') { '&' } else { '?' };
    let bench = Bench::on(format!("{url}{separator}frame_max=4096"));
    let broker = bench.open(ROUTES).await;
    let body = vec![b'x'; 100_000];
    let publication = message(&format!("{}-events", bench.prefix), "managed", "e", body);
    drop(broker.publish(vec![publication]).await.expect("confirmed"));
    assert_eq!(drain(&broker, &bench.queue("$P-out"), 1).await[0].body.len(), 100_000);
}

/// From version 4.0 on, quorum queues deliver by priority. Events of an ordered route that wait keep their order all the same, and
/// a dead letter has the priority of its event.
#[tokio::test(flavor = "multi_thread")]
async fn priorities_do_not_change_the_order_of_events_that_wait() {
    const PRIORITIES: [u8; 6] = [9, 0, 5, 1, 8, 3];
    let bench = Bench::amqp();
    let daemon = bench.start(ROUTES).await;
    let publish = |id: &str, priority: u8, attempts: u32| {
        let body = json!({ "type": "ordered", "id": id, "subject": "a", "priority": priority, "data": attempts });
        assert_eq!(daemon.post("/api/v1/events", &body.to_string()).0, 202, "{id}");
    };
    publish("first", 4, 3);
    metric(&daemon, &settled(&bench, "ordered", "retry"), |count| count >= 1.0).await;
    for (number, priority) in PRIORITIES.into_iter().enumerate() {
        let parked = daemon.metric(&settled(&bench, "ordered", "parked"));
        publish(&format!("e{number}"), priority, 1);
        // The route receives one event after the other, so that only the waiting copies can change the order.
        let acked = settled(&bench, "ordered", "ack");
        eventually("the event waits or ran", || {
            let is_seen = daemon.metric(&settled(&bench, "ordered", "parked")) > parked || daemon.metric(&acked) > 0.0;
            async move { is_seen.then_some(()) }
        })
        .await;
    }
    publish("bad", 7, 99);
    metric(&daemon, &settled(&bench, "ordered", "dead_letter"), |count| count >= 1.0).await;
    assert!(daemon.metric(&settled(&bench, "ordered", "parked")) >= 1.0, "something waited in the broker");
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    let out = drain(&broker, &bench.queue("$P-out"), 7).await;
    let order: Vec<&str> =
        out.iter().filter_map(|message| message.properties.headers.text("trunkline-cause")).collect();
    assert_eq!(order, ["first", "e0", "e1", "e2", "e3", "e4", "e5"]);
    let dead = drain(&broker, &bench.queue("$P-ordered.dlq"), 1).await;
    assert_eq!((dead.len(), dead[0].properties.priority), (1, Some(7)));
    assert_eq!(dead[0].properties.headers.get("trunkline-kept-priority"), None);
}

/// RabbitMQ 4.3 nacks a publish that meets a queue during its removal. The publish is no refusal of the event.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_removed_refuses_no_event() {
    const PUBLISHERS: usize = 4;
    let bench = Bench::amqp();
    let broker = bench.open(ROUTES).await;
    let stream = EventStreamQueues {
        queue: bench.queue("$P-gone"),
        overflow: bench.queue("$P-gone.lost"),
        exchange: ExchangeName::new(format!("{}-events", bench.prefix)).expect("a name"),
        keys: vec![RoutingKey::new("gone").expect("a key")],
        expires: Duration::from_secs(1),
        max_length: 10,
    };
    broker.open_event_stream(&stream).await.expect("made");
    let mut work = tokio::task::JoinSet::new();
    for _ in 0..PUBLISHERS {
        work.spawn(until_unrouted(broker.clone(), stream.exchange.to_string()));
    }
    let published: usize = work.join_all().await.into_iter().sum();
    assert!(published > 20, "hardly any event was published before the removal: {published}");
}

/// Publishes one event after the other until no queue takes the event; gives the number of events.
async fn until_unrouted(broker: Broker, exchange: String) -> usize {
    let deadline = std::time::Instant::now() + trunkline_support::patience();
    let mut count = 0;
    loop {
        assert!(std::time::Instant::now() < deadline, "the queue did not expire");
        let mut publication = message(&exchange, "gone", &format!("e{count}"), "x");
        publication.accept_unroutable = true;
        let receipt = broker.publish(vec![publication]).await.expect("no refusal");
        if receipt.confirmed() == [Confirmed::Unrouted] {
            return count;
        }
        count += 1;
    }
}

/// Before version 4.3, RabbitMQ closes the channel after a consumer timeout. Later versions cancel the consumer. In both cases the
/// deliveries come back, so the subscription is over.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_that_time_out_come_back_once() {
    let node = RabbitmqNode::start().expect("a private node");
    node.ctl(&["eval", IMPATIENT]).expect("it is set");
    let bench = Bench::on(node.url());
    let broker = bench.open(ROUTES).await;
    let queue = bench.queue("$P-ordered.dlq");
    for id in ["one", "two", "three"] {
        drop(broker.publish(vec![message("", queue.as_str(), id, "x")]).await.expect("confirmed"));
    }
    let mut subscription = broker.subscribe(&queue, 2, "slow").await.expect("the queue exists");
    let held = [delivery(&mut subscription).await, delivery(&mut subscription).await];
    let end = tokio::time::timeout(trunkline_support::patience(), subscription.next()).await;
    assert!(matches!(end, Ok(Next::Ended(_))), "the deliveries cannot be answered any more: {end:?}");
    drop((held, subscription));
    let ids = drain(&broker, &queue, 3).await.into_iter().filter_map(|message| message.properties.message_id);
    let mut ids: Vec<String> = ids.collect();
    ids.sort();
    assert_eq!(ids, ["one", "three", "two"]);
    assert_eq!(broker.status().borrow().session, 1, "a timeout costs the channel, no session");
}

async fn delivery(subscription: &mut Subscription) -> Delivery {
    match tokio::time::timeout(trunkline_support::patience(), subscription.next()).await {
        Ok(Next::Delivery(delivery)) => delivery,
        Ok(Next::Cancelled(reason) | Next::Ended(reason)) => panic!("{reason}"),
        Err(_elapsed) => panic!("no delivery"),
    }
}
