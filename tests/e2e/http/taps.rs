//! The queues of streams, on both brokers: dropped events leave a notice, one reader at a time, and an absent reader's
//! queue expires.

use std::time::Duration;

use trunkline_broker::{
    Broker, Confirmed, Delivery, Error, EventStreamQueues, Next, NothingPublished, Settlement, Subscription,
};
use trunkline_event::{ExchangeName, RoutingKey};
use trunkline_support::eventually;

use crate::bench::{Bench, message, on_both_brokers};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
"#;

fn tap(bench: &Bench, expires: Duration) -> EventStreamQueues {
    EventStreamQueues {
        queue: bench.queue("$P-tap"),
        overflow: bench.queue("$P-tap.lost"),
        exchange: ExchangeName::new(format!("{}-events", bench.prefix)).expect("a name"),
        keys: vec![RoutingKey::new("a.#").expect("a key"), RoutingKey::new("b").expect("a key")],
        expires,
        max_length: 3,
    }
}

async fn put(bench: &Bench, broker: &Broker, key: &str, id: &str) {
    let mut publication = message(&format!("{}-events", bench.prefix), key, id, "x");
    publication.accept_unroutable = true;
    let _receipt = broker.publish(vec![publication]).await.expect("confirmed");
}

async fn next(subscription: &mut Subscription) -> Delivery {
    match tokio::time::timeout(trunkline_support::patience(), subscription.next()).await {
        Ok(Next::Delivery(delivery)) => delivery,
        Ok(Next::Cancelled(reason) | Next::Ended(reason)) => panic!("{reason}"),
        Err(_elapsed) => panic!("no delivery"),
    }
}

fn id(delivery: &Delivery) -> &str {
    delivery.message.properties.message_id.as_deref().expect("an id")
}

async fn a_reader_is_alone_and_sees_a_notice_of_dropped_events(bench: Bench) {
    let broker = bench.open(ROUTES).await;
    let tap = tap(&bench, Duration::from_secs(60));
    assert_eq!(broker.event_stream_consumers(&tap).await.expect("asked"), None);
    broker.open_event_stream(&tap).await.expect("made");
    broker.open_event_stream(&tap).await.expect("made twice is made once");
    for (key, id) in [("a", "1"), ("a.x.y", "2"), ("b", "3"), ("a.z", "4"), ("a", "5")] {
        put(&bench, &broker, key, id).await;
    }
    let mut lost = broker.claim_event_stream(&tap, "lost").await.expect("held");
    assert!(matches!(broker.claim_event_stream(&tap, "again").await, Err(Error::Queue { .. })), "one holds it");
    let trace = next(&mut lost).await;
    assert!(["1", "2"].contains(&id(&trace)), "one of those that did not fit: {}", id(&trace));
    assert_eq!(broker.event_stream_consumers(&tap).await.expect("asked"), Some(0));
    let mut queue = broker.subscribe(&tap.queue, 10, "tap").await.expect("consumed");
    for expected in ["3", "4", "5"] {
        let mut delivery = next(&mut queue).await;
        if id(&delivery) == "2" {
            // The embedded broker drops the excess with its next transaction.
            delivery.settle(Settlement::Nothing(NothingPublished::Duplicate));
            delivery = next(&mut queue).await;
        }
        assert_eq!(id(&delivery), expected);
        if expected == "3" {
            delivery.settle(Settlement::Nothing(NothingPublished::Duplicate));
        }
    }
    queue.close().await.expect("closed");
    lost.close().await.expect("closed");
    let _held_again = broker.claim_event_stream(&tap, "lost").await.expect("free again");
    let mut queue = broker.subscribe(&tap.queue, 10, "tap").await.expect("consumed");
    let again = next(&mut queue).await;
    assert_eq!((id(&again), again.redelivered), ("4", true), "unanswered deliveries come again, in order");
    assert_eq!(broker.queue_depths().iter().filter(|(name, _)| name.as_str().contains("tap")).count(), 0);
}

async fn the_queue_of_an_absent_reader_expires(bench: Bench) {
    let broker = bench.open(ROUTES).await;
    let tap = tap(&bench, Duration::from_secs(5));
    broker.open_event_stream(&tap).await.expect("made");
    put(&bench, &broker, "b", "1").await;
    // A question for its consumers would count as a use of the queue in RabbitMQ.
    let mut publication = message(&format!("{}-events", bench.prefix), "b", "2", "x");
    publication.accept_unroutable = true;
    let gone = || async {
        broker.expire_event_streams().await;
        if bench.is_embedded() {
            return broker.event_stream_consumers(&tap).await.expect("asked").is_none().then_some(());
        }
        let receipt = broker.publish(vec![publication.clone()]).await.expect("confirmed");
        (receipt.confirmed() == [Confirmed::Unrouted]).then_some(())
    };
    eventually("its bindings are deleted with it", gone).await;
    assert_eq!(broker.event_stream_consumers(&tap).await.expect("asked"), None);
    broker.open_event_stream(&tap).await.expect("made anew");
    put(&bench, &broker, "b", "3").await;
    let mut queue = broker.subscribe(&tap.queue, 10, "tap").await.expect("consumed");
    assert_eq!(id(&next(&mut queue).await), "3", "nothing of the old one");
    drop(queue);
    if bench.is_embedded() {
        // The disk has the new queue with its bindings, and a store that is opened again has both.
        broker.close(Duration::from_secs(5)).await;
        drop(broker);
        let broker = bench.open(ROUTES).await;
        put(&bench, &broker, "b", "4").await;
        let mut queue = broker.subscribe(&tap.queue, 10, "tap").await.expect("consumed");
        assert_eq!(id(&next(&mut queue).await), "3");
        assert_eq!(id(&next(&mut queue).await), "4");
    }
}

on_both_brokers! {
    a_reader_is_alone_and_sees_a_notice_of_dropped_events,
    the_queue_of_an_absent_reader_expires,
}
