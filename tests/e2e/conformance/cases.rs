//! The cases of the broker contract. Each names its queues after its bench, so that all run side by side on one broker.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use trunkline_broker::{
    Broker, Confirmed, Delivery, Next, NothingPublished, Passing, Permanent, Publication, Receipt, Refusal, Settlement,
    Subscription, Unpublished,
};
use trunkline_event::{HeaderValue, Headers};

use crate::bench::{Bench, drain, message, on_both_brokers};

pub const TOPOLOGY: &str = r##"
[defaults]
exchange = { name = "$P-topic", type = "topic" }

[exchanges]
$P-direct = { type = "direct" }
$P-fanout = { type = "fanout" }
$P-headers = { type = "headers" }
$P-spare = { type = "fanout" }
$P-first = { type = "topic", alternate = "$P-spare" }

[queues.$P-one]
owned = true
bind = ["a.*", "#.z", "a.b"]
[queues.$P-two]
owned = true
bind = [{ exchange = "$P-direct", keys = "k" }, { exchange = "$P-fanout", keys = "" }]
[queues.$P-all]
bind = [{ exchange = "$P-headers", headers = { x = "1", y = "2" }, match = "all" }]
[queues.$P-any]
bind = [{ exchange = "$P-headers", headers = { x = "1", y = "2" }, match = "any" }]
[queues.$P-lost]
bind = { exchange = "$P-spare", keys = "" }
[queues.$P-full]
owned = true
bind = { exchange = "$P-direct", keys = "full" }
max-length = 2
overflow = "reject-publish"
[queues.$P-short]
owned = true
bind = { exchange = "$P-direct", keys = "short" }
max-length = 2
[queues.$P-urgent]
bind = { exchange = "$P-direct", keys = "urgent" }
max-priority = 5
[queues.$P-wait]
owned = true
ttl = "300ms"
dead-letter = "$P-two"
[queues.$P-limited]
owned = true
bind = { exchange = "$P-direct", keys = "limited" }
delivery-limit = 2

[routes.$P-route]
from = "route.in"
plugin = "echo"
retry = { max = 1, delay = "300ms" }
"##;

pub async fn next(subscription: &mut Subscription) -> Delivery {
    match tokio::time::timeout(trunkline_support::patience(), subscription.next()).await {
        Ok(Next::Delivery(delivery)) => delivery,
        Ok(Next::Cancelled(reason) | Next::Ended(reason)) => panic!("{reason}"),
        Err(_elapsed) => panic!("no delivery"),
    }
}

async fn is_quiet(subscription: &mut Subscription) -> bool {
    tokio::time::timeout(Duration::from_millis(300), subscription.next()).await.is_err()
}

pub fn ack(delivery: Delivery) {
    delivery.settle(Settlement::Nothing(NothingPublished::Duplicate));
}

pub async fn put(broker: &Broker, publication: Publication) {
    let receipt = broker.publish(vec![publication]).await.expect("confirmed");
    assert_eq!(receipt.confirmed(), [Confirmed::Routed]);
}

pub fn refusals(result: Result<Receipt, Unpublished>) -> Vec<(usize, Refusal)> {
    match result {
        Err(Unpublished { refused, lost: None, .. }) => refused,
        other => panic!("{other:?}"),
    }
}

async fn properties_headers_and_body_survive(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    let mut publication = message(&format!("{}-topic", bench.prefix), "a.b", "id-1", vec![7_u8; 1 << 20]);
    let properties = &mut publication.message_mut().properties;
    properties.kind = Some("call.ended".into());
    properties.correlation_id = Some("root".into());
    properties.reply_to = Some("somewhere".into());
    properties.timestamp = Some(1_700_000_000);
    properties.app_id = Some("test".into());
    let nested = [("in".to_owned(), HeaderValue::Bool(true))].into_iter().collect::<Headers>();
    for (name, value) in [
        ("text", HeaderValue::from("ä")),
        ("int", HeaderValue::Int(-7)),
        ("float", HeaderValue::Float(0.25)),
        ("bytes", HeaderValue::Bytes(vec![0, 255])),
        ("decimal", HeaderValue::Decimal { scale: 2, unscaled: -150 }),
        ("list", HeaderValue::List(vec![HeaderValue::Null, HeaderValue::Timestamp(5)])),
        ("table", HeaderValue::Table(nested)),
    ] {
        properties.headers.set(name, value);
    }
    let sent = publication.message.copy();
    put(&broker, publication).await;
    let got = drain(&broker, &bench.queue("$P-one"), 1).await.remove(0);
    for (name, value) in sent.properties.headers.iter() {
        assert_eq!(got.properties.headers.get(name), Some(value), "{name}");
    }
    let (mut got, mut sent) = (got, sent);
    (got.properties.headers, sent.properties.headers) = (Headers::default(), Headers::default());
    assert!(got == sent, "{:?}", got.properties);
}

/// Exchange, key, headers, and the queues that get the message.
type RoutingCase = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

async fn exchanges_route_as_amqp_says(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    let table: [RoutingCase; 12] = [
        ("$P-topic", "a.b", &[], &["one"]),
        ("$P-topic", "z", &[], &["one"]),
        ("$P-topic", "x.y.z", &[], &["one"]),
        ("$P-topic", "a.b.c", &[], &[]),
        ("$P-direct", "k", &[], &["two"]),
        ("$P-direct", "K", &[], &[]),
        ("$P-fanout", "anything", &[], &["two"]),
        ("$P-headers", "", &[("x", "1"), ("y", "2")], &["all", "any"]),
        ("$P-headers", "", &[("x", "1")], &["any"]),
        ("$P-headers", "", &[("x", "3")], &[]),
        ("$P-first", "unbound", &[], &["lost"]),
        ("", "$P-two", &[], &["two"]),
    ];
    for (index, (exchange, key, headers, expected)) in table.into_iter().enumerate() {
        let place = |text: &str| text.replace("$P", &bench.prefix);
        let mut publication = message(&place(exchange), &place(key), &format!("m{index}"), "x");
        publication.accept_unroutable = true;
        for (name, value) in headers {
            publication.message_mut().properties.headers.set(*name, *value);
        }
        let receipt = broker.publish(vec![publication]).await.expect("confirmed");
        let fate = if expected.is_empty() { Confirmed::Unrouted } else { Confirmed::Routed };
        assert_eq!(receipt.confirmed(), [fate], "{exchange} {key} {headers:?}");
    }
    let count = |name: &str| table.iter().filter(|(_, _, _, queues)| queues.contains(&name)).count();
    for name in ["one", "two", "all", "any", "lost"] {
        // "a.b" matches two patterns of the first queue, which gets the message once.
        let got = drain(&broker, &bench.queue(&format!("$P-{name}")), count(name)).await;
        assert_eq!(got.len(), count(name), "{name}");
    }
}

async fn blame_is_exact_under_load(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    let exchange = format!("{}-topic", bench.prefix);
    let mut work = tokio::task::JoinSet::new();
    for n in 0..2000_u32 {
        let is_lost = n % 10 == 3;
        let key = if is_lost { "un.bound" } else { "a.b" };
        let (broker, publication) = (broker.clone(), message(&exchange, key, &format!("m{n}"), n.to_string()));
        work.spawn(async move { (n, is_lost, broker.publish(vec![publication]).await) });
    }
    for (n, is_lost, result) in work.join_all().await {
        if is_lost {
            let refused = refusals(result);
            assert!(
                matches!(refused.as_slice(), [(0, Refusal::Passing(Passing::Unroutable { .. }))]),
                "{n}: {refused:?}"
            );
        } else {
            assert_eq!(result.expect("confirmed").confirmed(), [Confirmed::Routed], "{n}");
        }
    }
    let got = drain(&broker, &bench.queue("$P-one"), 1800).await;
    let ids: BTreeSet<_> = got.iter().map(|message| message.properties.message_id.clone()).collect();
    assert_eq!((got.len(), ids.len()), (1800, 1800));
}

async fn a_missing_exchange_is_refused_and_harms_no_other(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    let session = broker.status().borrow().session;
    for round in 0..20 {
        let nowhere = message(&format!("{}-nowhere", bench.prefix), "k", "m", "x");
        let good = message(&format!("{}-topic", bench.prefix), "a.b", &format!("g{round}"), "x");
        let (refused, confirmed) =
            tokio::join!(broker.publish(vec![nowhere.clone(), nowhere]), broker.publish(vec![good]));
        let refused = refusals(refused);
        let blamed: Vec<_> = refused.iter().map(|(index, _)| *index).collect();
        assert_eq!(blamed, [0, 1], "{refused:?}");
        assert!(
            refused.iter().all(|(_, refusal)| matches!(refusal, Refusal::Passing(Passing::NoExchange(_)))),
            "{refused:?}"
        );
        assert_eq!(confirmed.expect("it has a queue").confirmed(), [Confirmed::Routed]);
    }
    assert_eq!(broker.status().borrow().session, session, "one closed channel ends no session");
    assert_eq!(drain(&broker, &bench.queue("$P-one"), 20).await.len(), 20);
}

async fn prefetch_holds_and_unanswered_deliveries_come_back(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    let queue = bench.queue("$P-one");
    for n in 0..5 {
        put(&broker, message(&format!("{}-topic", bench.prefix), "a.b", &format!("m{n}"), "x")).await;
    }
    let mut subscription = broker.subscribe(&queue, 3, "t").await.expect("the queue exists");
    let mut held = Vec::new();
    for n in 0..3 {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.message.properties.message_id, Some(format!("m{n}")), "in order");
        assert!(!delivery.redelivered, "never delivered before");
        held.push(delivery);
    }
    assert!(is_quiet(&mut subscription).await, "three are unanswered, and three is the prefetch");
    ack(held.remove(0));
    held.push(next(&mut subscription).await);
    drop(held);
    subscription.close().await.expect("acknowledged");

    let mut again = broker.subscribe(&queue, 10, "t").await.expect("the queue exists");
    for n in 1..5 {
        let delivery = next(&mut again).await;
        assert_eq!(delivery.message.properties.message_id, Some(format!("m{n}")), "the acknowledged one is gone");
        assert_eq!(delivery.redelivered, n < 4, "m{n}");
        assert_eq!(delivery.delivery_count > 0, n < 4, "m{n}");
        ack(delivery);
    }
    again.close().await.expect("acknowledged");
}

async fn consumers_share_without_loss(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    let (queue, exchange) = (bench.queue("$P-one"), format!("{}-topic", bench.prefix));
    let mut work = tokio::task::JoinSet::new();
    for task in 0..50 {
        let (broker, exchange) = (broker.clone(), exchange.clone());
        work.spawn(async move {
            for n in 0..40 {
                put(&broker, message(&exchange, "a.b", &format!("m{task}-{n}"), "x")).await;
            }
        });
    }
    let mut takers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (broker, queue) = (broker.clone(), queue.clone());
        takers.spawn(async move { drain(&broker, &queue, 0).await });
    }
    work.join_all().await;
    let taken: Vec<_> = takers.join_all().await.into_iter().flatten().collect();
    let ids: BTreeSet<_> = taken.iter().map(|message| message.properties.message_id.clone()).collect();
    let rest = drain(&broker, &queue, 2000 - taken.len()).await;
    assert_eq!((taken.len() + rest.len(), ids.len()), (2000, taken.len()), "each once");
}

async fn a_queue_with_a_ttl_passes_messages_on(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    let started = Instant::now();
    put(&broker, message("", &format!("{}-wait", bench.prefix), "m", "x")).await;
    let mut subscription = broker.subscribe(&bench.queue("$P-two"), 1, "t").await.expect("the queue exists");
    let delivery = next(&mut subscription).await;
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(295) && waited < Duration::from_secs(3), "{waited:?}");
    assert_eq!(delivery.message.properties.message_id.as_deref(), Some("m"));
    ack(delivery);
    subscription.close().await.expect("acknowledged");
}

async fn a_full_queue_refuses_or_gives_up_its_oldest(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    let direct = format!("{}-direct", bench.prefix);
    let mut refused = 0;
    for n in 0..20 {
        match broker.publish(vec![message(&direct, "full", &format!("f{n}"), "x")]).await {
            Ok(_receipt) => {}
            Err(Unpublished { refused: full, lost, .. }) => {
                assert_eq!((full, lost), (vec![(0, Refusal::Passing(Passing::Full))], None));
                refused += 1;
            }
        }
    }
    // A RabbitMQ quorum queue accepts one or two messages more.
    assert!((15..=18).contains(&refused), "{refused} of 20 refused");
    for n in 0..5 {
        put(&broker, message(&direct, "short", &format!("s{n}"), "x")).await;
    }
    let dead = drain(&broker, &bench.queue("$P-short.dlq"), 3).await;
    let ids: Vec<_> = dead.iter().filter_map(|message| message.properties.message_id.as_deref()).collect();
    assert_eq!(ids, ["s0", "s1", "s2"], "the oldest go");
    assert_eq!(dead[0].properties.headers.text("x-first-death-reason"), Some("maxlen"));
}

async fn the_delivery_limit_dead_letters(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    put(&broker, message(&format!("{}-direct", bench.prefix), "limited", "m", "x")).await;
    for attempt in 0..3 {
        let mut subscription = broker.subscribe(&bench.queue("$P-limited"), 1, "t").await.expect("the queue exists");
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.delivery_count, attempt);
        drop(delivery);
        subscription.close().await.expect("closed");
    }
    let dead = drain(&broker, &bench.queue("$P-limited.dlq"), 1).await;
    assert_eq!(dead[0].properties.headers.text("x-first-death-reason"), Some("delivery_limit"));
}

async fn bounds_of_the_wire_are_refused(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    let topic = format!("{}-topic", bench.prefix);
    let mut long = message(&topic, "a.b", "m", "x");
    long.message_mut().properties.kind = Some("t".repeat(256));
    let mut fat = message(&topic, "a.b", "m", "x");
    fat.message_mut().properties.headers.set("h", "v".repeat(70_000));
    for bad in [long, fat] {
        let refused = refusals(broker.publish(vec![bad]).await);
        assert!(matches!(refused.as_slice(), [(0, Refusal::Permanent(Permanent::Limit(_)))]), "{refused:?}");
    }
    put(&broker, message(&topic, "a.b", "good", "x")).await;
    assert_eq!(drain(&broker, &bench.queue("$P-one"), 1).await.len(), 1, "the session lives on");
    let nothing = broker.publish(Vec::new()).await.expect_err("nothing proves nothing");
    assert_eq!((nothing.refused, nothing.lost), (Vec::new(), None));
}

async fn in_flight_work_settles_after_cancel(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    let queue = bench.queue("$P-one");
    for n in 0..10 {
        put(&broker, message(&format!("{}-topic", bench.prefix), "a.b", &format!("m{n}"), "x")).await;
    }
    let mut subscription = broker.subscribe(&queue, 10, "t").await.expect("the queue exists");
    let (first, second) = (next(&mut subscription).await, next(&mut subscription).await);
    subscription.cancel().await;
    ack(second);
    ack(first);
    subscription.close().await.expect("acknowledged");
    let rest = drain(&broker, &queue, 8).await;
    let ids: Vec<_> = rest.iter().filter_map(|message| message.properties.message_id.clone()).collect();
    assert_eq!(ids, (2..10).map(|n| format!("m{n}")).collect::<Vec<_>>());
}

async fn messages_survive_a_reopened_broker(bench: Bench) {
    let broker = bench.open(TOPOLOGY).await;
    for n in 0..3 {
        put(&broker, message(&format!("{}-topic", bench.prefix), "a.b", &format!("m{n}"), "x")).await;
    }
    broker.close(trunkline_support::patience()).await;
    drop(broker);
    let broker = bench.open(TOPOLOGY).await;
    let mut subscription = broker.subscribe(&bench.queue("$P-one"), 10, "t").await.expect("the queue exists");
    for n in 0..3 {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.message.properties.message_id, Some(format!("m{n}")));
        assert!(!delivery.redelivered, "an orderly end does not make a delivery");
        ack(delivery);
    }
    subscription.close().await.expect("acknowledged");
}

on_both_brokers! {
    properties_headers_and_body_survive,
    exchanges_route_as_amqp_says,
    blame_is_exact_under_load,
    a_missing_exchange_is_refused_and_harms_no_other,
    prefetch_holds_and_unanswered_deliveries_come_back,
    consumers_share_without_loss,
    a_queue_with_a_ttl_passes_messages_on,
    a_full_queue_refuses_or_gives_up_its_oldest,
    the_delivery_limit_dead_letters,
    bounds_of_the_wire_are_refused,
    in_flight_work_settles_after_cancel,
    messages_survive_a_reopened_broker,
}
