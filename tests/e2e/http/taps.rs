//! Readers' own queues, on both brokers: what does not fit leaves a trace, only one may read, and who stays away is forgotten.

use std::time::Duration;

use trunkline_broker::{Broker, Confirmed, Delivery, Error, Next, NothingPublished, Settlement, Subscription, Tap};
use trunkline_event::{ExchangeName, RoutingKey};
use trunkline_support::eventually;

use crate::bench::{Bench, message, on_both_brokers};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
"#;

fn tap(bench: &Bench, expires: Duration) -> Tap {
    Tap {
        queue: bench.queue("$P-tap"),
        overflow: bench.queue("$P-tap.lost"),
        exchange: ExchangeName::new(format!("{}-events", bench.prefix)).expect("a name"),
        keys: vec![RoutingKey::new("a.#").expect("a key"), RoutingKey::new("b").expect("a key")],
        expires,
        max_length: 3,
    }
}

async fn put(bench: &Bench, broker: &Broker, key: &str, id: &str) {
    let publication = message(&format!("{}-events", bench.prefix), key, id, "x");
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

async fn a_reader_is_alone_and_learns_what_did_not_fit(bench: Bench) {
    let broker = bench.open(ROUTES).await;
    let tap = tap(&bench, Duration::from_secs(60));
    assert_eq!(broker.tap_consumers(&tap).await.expect("asked"), None);
    broker.open_tap(&tap).await.expect("made");
    broker.open_tap(&tap).await.expect("made twice is made once");
    for (key, id) in [("a", "1"), ("a.x.y", "2"), ("b", "3"), ("a.z", "4"), ("a", "5")] {
        put(&bench, &broker, key, id).await;
    }
    let mut lost = broker.hold_tap(&tap, "lost").await.expect("held");
    assert!(matches!(broker.hold_tap(&tap, "again").await, Err(Error::Queue { .. })), "one holds it");
    let trace = next(&mut lost).await;
    assert!(["1", "2"].contains(&id(&trace)), "one of those that did not fit: {}", id(&trace));
    assert_eq!(broker.tap_consumers(&tap).await.expect("asked"), Some(0));
    let mut queue = broker.subscribe(&tap.queue, 10, "tap").await.expect("consumed");
    for expected in ["3", "4", "5"] {
        let mut delivery = next(&mut queue).await;
        if id(&delivery) == "2" {
            // The embedded broker takes away what is too much with its next transaction.
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
    let _held_again = broker.hold_tap(&tap, "lost").await.expect("free again");
    let mut queue = broker.subscribe(&tap.queue, 10, "tap").await.expect("consumed");
    let again = next(&mut queue).await;
    assert_eq!((id(&again), again.redelivered), ("4", true), "unanswered deliveries come again, in order");
    assert_eq!(broker.queue_depths().iter().filter(|(name, _)| name.as_str().contains("tap")).count(), 0);
}

async fn who_stays_away_is_forgotten(bench: Bench) {
    let broker = bench.open(ROUTES).await;
    let tap = tap(&bench, Duration::from_secs(5));
    broker.open_tap(&tap).await.expect("made");
    put(&bench, &broker, "b", "1").await;
    // Not asked for its consumers: to RabbitMQ that counts as a use.
    let mut publication = message(&format!("{}-events", bench.prefix), "b", "2", "x");
    publication.accept_unroutable = true;
    let gone = || async {
        broker.expire_taps().await;
        let receipt = broker.publish(vec![publication.clone()]).await.expect("confirmed");
        (receipt.confirmed() == [Confirmed::Unrouted]).then_some(())
    };
    eventually("its bindings are gone with it", gone).await;
    assert_eq!(broker.tap_consumers(&tap).await.expect("asked"), None);
    broker.open_tap(&tap).await.expect("made anew");
    put(&bench, &broker, "b", "3").await;
    let mut queue = broker.subscribe(&tap.queue, 10, "tap").await.expect("consumed");
    assert_eq!(id(&next(&mut queue).await), "3", "nothing of the old one");
    drop(queue);
    if bench.is_embedded() {
        // What is on disk is the new queue with its bindings; a store that is opened again has both.
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
    a_reader_is_alone_and_learns_what_did_not_fit,
    who_stays_away_is_forgotten,
}
