//! Delays, priorities, dedupe windows and transactions.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use trunkline_broker::{Confirmed, DedupeLookup, DedupeRecord, Permanent, Refusal, SettledAs};
use trunkline_config::DedupeWindow;
use trunkline_event::RouteName;

use super::cases::{TOPOLOGY, ack, next, put, refusals};
use crate::bench::{Bench, drain, message, on_both_brokers};

/// The longest delay is published first. No message waits for another one.
async fn delayed_messages_come_in_time_and_survive_a_reopened_broker(bench: Bench) {
    const DELAYS_MS: [u64; 5] = [4000, 2500, 1100, 333, 40];
    let broker = bench.open(TOPOLOGY).await;
    let topic = format!("{}-topic", bench.prefix);
    // On RabbitMQ the first delayed message makes the delay queues, which takes time.
    let mut first = message(&topic, "a.b", "first", "x");
    first.delay = Some(Duration::from_millis(1));
    // Several tests make the delay queues at once. RabbitMQ 3.10 sometimes answers that with the end of a connection.
    crate::broker_faults::insist(&broker, first).await;
    let mut sent = Vec::new();
    for ms in DELAYS_MS {
        let mut publication = message(&topic, "a.b", &ms.to_string(), vec![7; 100]);
        publication.message_mut().properties.headers.set("region", "eu");
        publication.delay = Some(Duration::from_millis(ms));
        sent.push((ms, Instant::now()));
        put(&broker, publication).await;
    }
    let early = drain(&broker, &bench.queue("$P-one"), 2).await;
    let has_last = early.iter().any(|message| message.properties.message_id.as_deref() == Some("4000"));
    assert!(!has_last || sent[0].1.elapsed() >= Duration::from_secs(4), "the event is not due yet");
    broker.close(trunkline_support::patience()).await;
    drop(broker);
    let broker = bench.open(TOPOLOGY).await;
    broker.begin_relay();
    let mut subscription = broker.subscribe(&bench.queue("$P-one"), 10, "t").await.expect("the queue exists");
    let mut seen: BTreeSet<_> = early.iter().filter_map(|message| message.properties.message_id.clone()).collect();
    while seen.len() < DELAYS_MS.len() + 1 {
        let delivery = next(&mut subscription).await;
        let id = delivery.message.properties.message_id.clone().expect("an id");
        if let Some((ms, at)) = sent.iter().find(|(ms, _)| ms.to_string() == id) {
            let waited = at.elapsed();
            assert!(waited >= Duration::from_millis(ms - 5), "{id} came after {waited:?}");
        }
        assert_eq!(
            (delivery.message.exchange.as_str(), delivery.message.routing_key.as_str()),
            (topic.as_str(), "a.b")
        );
        let names: Vec<_> = delivery.message.properties.headers.iter().map(|(name, _)| name.to_owned()).collect();
        // RabbitMQ counts deliveries, and RabbitMQ 4.3 also counts how often a consumer got the message.
        let known = ["region", "x-delivery-count", "x-acquired-count"];
        assert!(names.iter().all(|name| known.contains(&name.as_str())), "{names:?}");
        seen.insert(id);
        ack(delivery);
    }
    subscription.close().await.expect("acknowledged");
    let mut endless = message(&topic, "a.b", "endless", "x");
    endless.delay = Some(Duration::from_secs(31 * 24 * 3600));
    assert!(matches!(
        refusals(broker.publish(vec![endless]).await).as_slice(),
        [(0, Refusal::Permanent(Permanent::Delay(_)))]
    ));
}

/// A retry may wait a quarter longer than an emission, and comes back as it was.
async fn a_delayed_message_keeps_its_properties(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    let queue = bench.queue("$P-two");
    for (n, is_retry) in [true, false].into_iter().enumerate() {
        let mut publication = message("", queue.as_str(), &format!("p-{n}"), "x");
        let properties = &mut publication.message_mut().properties;
        properties.priority = Some(3);
        properties.correlation_id = Some("root".into());
        properties.headers.set("region", "eu");
        (publication.delay, publication.is_retry) = (Some(Duration::from_millis(300)), is_retry);
        let sent = publication.message.copy();
        let since = Instant::now();
        crate::broker_faults::insist(&broker, publication).await;
        let came = drain(&broker, &queue, 1).await.remove(0);
        assert!(since.elapsed() >= Duration::from_millis(300), "after {:?}", since.elapsed());
        let (mut came, mut sent) = (came, sent);
        for message in [&mut came, &mut sent] {
            message.properties.headers.retain(|name| name == "region");
        }
        assert!(came == sent, "{came:?}");
    }
}

async fn urgent_messages_go_first(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    let direct = format!("{}-direct", bench.prefix);
    // More messages than the embedded broker keeps in memory.
    for n in 0..600_u32 {
        let mut publication = message(&direct, "urgent", &format!("{n}"), "x");
        publication.message_mut().properties.priority = u8::try_from(n % 7).ok();
        put(&broker, publication).await;
    }
    let taken = drain(&broker, &bench.queue("$P-urgent"), 600).await;
    let order: Vec<(u8, u32)> = taken
        .iter()
        .map(|message| {
            let id = message.properties.message_id.as_ref().and_then(|id| id.parse().ok()).expect("an id");
            (5 - message.properties.priority.unwrap_or_default().min(5), id)
        })
        .collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(order, sorted, "by priority, and in order within one");
    assert_eq!(order.iter().map(|(_, id)| id).collect::<BTreeSet<_>>().len(), 600, "each once");
}

async fn settled_events_are_known_for_a_while(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    let window = DedupeWindow { window: Duration::from_secs(60), max: 1000 };
    let mark = |id: &str, content| {
        let route = RouteName::new("r").expect("a name");
        DedupeRecord { route, id: id.to_owned(), content, window, settled_as: SettledAs::Done }
    };
    assert_eq!(broker.look_up(&mark("e-1", 1)).await, DedupeLookup::Unknown);
    let marking = (0..50).map(|n| broker.record(mark(&format!("e-{n}"), 1)));
    for marked in futures_util::future::join_all(marking).await {
        marked.expect("marked");
    }
    assert_eq!(broker.look_up(&mark("e-1", 1)).await, DedupeLookup::Same(SettledAs::Done));
    assert_eq!(broker.look_up(&mark("e-1", 2)).await, DedupeLookup::Other(SettledAs::Done));
    broker.record(DedupeRecord { settled_as: SettledAs::Dead, ..mark("e-2", 1) }).await.expect("marked");
    assert_eq!(broker.look_up(&mark("e-2", 1)).await, DedupeLookup::Same(SettledAs::Dead), "the last end counts");
    broker.close(trunkline_support::patience()).await;
    drop(broker);
    let broker = bench.open(TOPOLOGY).await;
    assert_eq!(broker.look_up(&mark("e-49", 1)).await, DedupeLookup::Same(SettledAs::Done), "it is on disk");
    assert_eq!(broker.look_up(&mark("e-2", 1)).await, DedupeLookup::Same(SettledAs::Dead));
    assert_eq!(broker.look_up(&mark("e-50", 1)).await, DedupeLookup::Unknown);
}

/// Input, outputs and dedupe record are one transaction, on the broker with transactions.
async fn a_commit_is_whole_or_nothing(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    let topic = format!("{}-topic", bench.prefix);
    let (input, output) = (bench.queue("$P-one"), bench.queue("$P-two"));
    put(&broker, message(&topic, "a.b", "in", "x")).await;
    let mut subscription = broker.subscribe(&input, 10, "t").await.expect("the queue exists");
    let delivery = next(&mut subscription).await;
    let window = DedupeWindow { window: Duration::from_secs(60), max: 1000 };
    let route = RouteName::new("r").expect("a name");
    let mark = DedupeRecord { route, id: "in".into(), content: 1, window, settled_as: SettledAs::Dead };
    let out = message(&format!("{}-direct", bench.prefix), "k", "out", "y");
    if !broker.is_atomic() {
        let (_unanswered, error) = *broker.commit(delivery, out.into(), Some(mark)).await.expect_err("it cannot");
        assert!(error.lost.as_ref().is_some_and(|why| why.contains("no transaction")), "{error}");
        return;
    }
    let nowhere = message(&format!("{}-direct", bench.prefix), "unbound", "out", "y");
    let (delivery, error) = *broker
        .commit(delivery, vec![out.clone(), nowhere].into(), Some(mark.clone()))
        .await
        .expect_err("one has no queue");
    assert!(matches!(error.refused.as_slice(), [(1, _)]) && error.lost.is_none(), "{error}");
    assert_eq!(broker.look_up(&mark).await, DedupeLookup::Unknown);
    assert!(drain(&broker, &output, 0).await.is_empty(), "nothing of it was published");
    assert_eq!(broker.commit(delivery, out.into(), Some(mark.clone())).await.expect("committed"), [Confirmed::Routed]);
    assert_eq!(broker.look_up(&mark).await, DedupeLookup::Same(SettledAs::Dead));
    subscription.close().await.expect("nothing is open");
    assert!(drain(&broker, &input, 0).await.is_empty(), "the input queue is empty");
    assert_eq!(drain(&broker, &output, 1).await.len(), 1);
}

/// A delivery that was returned belongs to another consumer. A late commit of it must not publish.
async fn a_late_commit_of_a_returned_delivery_does_nothing(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    put(&broker, message(&format!("{}-topic", bench.prefix), "a.b", "in", "x")).await;
    let mut subscription = broker.subscribe(&bench.queue("$P-one"), 10, "t").await.expect("the queue exists");
    let delivery = next(&mut subscription).await;
    drop(subscription);
    let out = message(&format!("{}-direct", bench.prefix), "k", "out", "y");
    let (_late, error) = *broker.commit(delivery, out.into(), None).await.expect_err("too late");
    assert!(!broker.is_atomic() || error.lost.is_some(), "{error}");
    assert!(drain(&broker, &bench.queue("$P-two"), 0).await.is_empty());
    assert_eq!(drain(&broker, &bench.queue("$P-one"), 1).await.len(), 1);
}

on_both_brokers! {
    delayed_messages_come_in_time_and_survive_a_reopened_broker,
    a_delayed_message_keeps_its_properties,
    urgent_messages_go_first,
    settled_events_are_known_for_a_while,
    a_commit_is_whole_or_nothing,
    a_late_commit_of_a_returned_delivery_does_nothing,
}
