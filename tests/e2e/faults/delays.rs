//! F15 and F22: due messages that no daemon wrote, and messages of a daemon with another key. Also delay queues and exchanges that
//! an operator deleted.

use std::time::{Duration, Instant};

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::{Value, json};
use trunkline_support::rabbitmq::virtual_host;
use trunkline_support::{Daemon, eventually};
use xtask::rabbitmq::RabbitmqNode;

use super::{Breaker, post};
use crate::bench::{Bench, becomes_ready, drain, metric, settled};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "later"
[queues.$P-secret]
[routes.$P-later]
from = "later.in"
plugin = "delayer"
"#;

const DUE: &str = "trunkline.delay.due";
const DEAD: &str = "trunkline.delay.dlq";
/// More than the relay holds at a time.
const FOREIGN: usize = 200;
/// Much less than the delay.
const SOON: Duration = Duration::from_secs(20);

async fn put(breaker: &Breaker, queue: &str, headers: FieldTable) {
    let properties = BasicProperties::default().with_headers(headers).with_message_id("foreign".into());
    let (queue, options) = (ShortString::from(queue), BasicPublishOptions::default());
    let confirm = breaker.channel.basic_publish("".into(), queue, options, b"foreign", properties);
    let _ack = confirm.await.expect("sent").await.expect("confirmed");
}

/// Waits until a queue has this many messages.
async fn holds(bench: &Bench, breaker: &Breaker, queue: &str, count: u32) {
    eventually(&format!("{count} messages in {queue}"), || async {
        (breaker.ready(bench, queue).await >= count).then_some(())
    })
    .await;
}

/// The first delayed event makes the delay queues.
async fn warm(bench: &Bench, breaker: &Breaker, daemon: &Daemon) {
    post(daemon, "later.in", json!(1));
    holds(bench, breaker, "$P-out", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_messages_that_are_due_hold_up_no_delayed_event() {
    let node = RabbitmqNode::start().expect("a RabbitMQ");
    let bench = Bench::on(node.url());
    let daemon = bench.start(ROUTES).await;
    let breaker = Breaker::on(&bench).await;
    breaker.channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    warm(&bench, &breaker, &daemon).await;
    for _ in 0..FOREIGN {
        put(&breaker, DUE, FieldTable::default()).await;
    }
    // A forged message: headers like a daemon's, from a producer that may publish to this queue only.
    let mut forged = FieldTable::default();
    let secret = format!("{}-secret", bench.prefix);
    for (name, value) in [("trunkline-delay-exchange", ""), ("trunkline-delay-key", &secret)] {
        forged.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    forged.insert("trunkline-delay-accept".into(), AMQPValue::Boolean(false));
    let mut signed = forged.clone();
    let guessed = format!("1.{}.{}", "0".repeat(8), "0".repeat(32));
    signed.insert("trunkline-mac".into(), AMQPValue::LongString(guessed.into()));
    put(&breaker, DUE, forged).await;
    put(&breaker, DUE, signed).await;

    let started = Instant::now();
    post(&daemon, "later.in", json!(500));
    holds(&bench, &breaker, "$P-out", 2).await;
    assert!(started.elapsed() < SOON, "the event came after {:?}", started.elapsed());
    let dead = FOREIGN + 2;
    holds(&bench, &breaker, DEAD, u32::try_from(dead).expect("few")).await;
    assert_eq!(breaker.ready(&bench, "$P-secret").await, 0, "no forged message is published");
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    let letters = drain(&broker, &bench.queue(DEAD), dead).await;
    assert_eq!(letters.len(), dead);
    assert!(letters.iter().all(|letter| &letter.body[..] == b"foreign"), "the letters are whole");
    broker.close(trunkline_support::patience()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_with_different_keys_pass_on_each_others_delayed_events() {
    const EVENTS: u32 = 30;
    let node = RabbitmqNode::start().expect("a RabbitMQ");
    let [one, other] = [(); 2].map(|()| Bench::on(node.url()));
    let daemons = [one.start(ROUTES).await, other.start(ROUTES).await];
    let breaker = Breaker::on(&one).await;
    for (bench, daemon) in [&one, &other].into_iter().zip(&daemons) {
        warm(bench, &breaker, daemon).await;
    }
    // Both consume the queue of due messages now.
    for daemon in &daemons {
        for delay in 0..EVENTS {
            post(daemon, "later.in", json!(200 + delay));
        }
    }
    for bench in [&one, &other] {
        holds(bench, &breaker, "$P-out", EVENTS + 1).await;
    }
    assert_eq!(breaker.ready(&one, DEAD).await, 0, "none is given up");
    for daemon in daemons {
        assert!(daemon.terminate().await.success());
    }
}

const NARROW: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "later"
type = "classic"
max-length = 1
overflow = "reject-publish"
[routes.$P-later]
from = "later.in"
plugin = "delayer"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_event_without_a_daemon_is_shown_in_health() {
    const EVENTS: u32 = 3;
    let bench = Bench::amqp();
    let daemon = bench.start(NARROW).await;
    for n in 0..EVENTS {
        post(&daemon, "later.in", json!(n));
    }
    let jammed = "trunkline_condition{condition=\"delay-relay-jammed\",subject=\"\"}";
    metric(&daemon, jammed, |raised| raised == 1.0).await;
    let (status, health) = daemon.get("/health");
    assert!(health.contains("delay-relay-jammed") && health.contains("degraded"), "{status} {health}");
    assert!(daemon.terminate().await.success());
}

const RETRIES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[routes.$P-again]
from = "again"
plugin = "retrier"
retry = { max = 2, delay = "$DELAY", jitter = false }
"#;

/// RabbitMQ keeps a message whose next level has no exchange. The next session declares the exchange and its bindings.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_exchange_of_a_level_is_declared_by_the_next_session() {
    let bench = Bench::on(virtual_host());
    // The retry waits in level 5 for 800 ms, and then in level 4 for 400 ms.
    let routes = RETRIES.replace("$DELAY", "1200ms");
    for is_deleted in [false, true] {
        if is_deleted {
            let breaker = Breaker::on(&bench).await;
            let deleted =
                breaker.channel.exchange_delete("trunkline.delay.04".into(), ExchangeDeleteOptions::default());
            deleted.await.expect("deleted");
        }
        let daemon = bench.start(&routes).await;
        becomes_ready(&daemon, true).await;
        let id = post(&daemon, "again", json!(2));
        assert_eq!(daemon.settled(&id).await["outcome"], "ack", "deleted: {is_deleted}");
        assert!(daemon.terminate().await.success());
    }
}

/// The figures of the other delay queues stay right, and the missing queue is named.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_events_are_counted_beside_a_missing_delay_queue() {
    let bench = Bench::on(virtual_host());
    // The retry waits in level 13 first.
    let daemon = bench.start(&RETRIES.replace("$DELAY", "5m")).await;
    becomes_ready(&daemon, true).await;
    post(&daemon, "again", json!(2));
    metric(&daemon, &settled(&bench, "again", "retry"), |count| count == 1.0).await;
    let breaker = Breaker::on(&bench).await;
    for is_deleted in [false, true] {
        if is_deleted {
            let deleted = breaker.channel.queue_delete("trunkline.delay.00".into(), QueueDeleteOptions::default());
            assert_eq!(deleted.await.expect("deleted"), 0, "nothing was in it");
        }
        eventually("one waiting event", || {
            let stats: Value = serde_json::from_str(&daemon.get("/api/v1/events/stats").1).expect("JSON");
            let names_it = stats["problems"].to_string().contains("delay queue trunkline.delay.00");
            let is_right = stats["delayed"] == 1 && names_it == is_deleted;
            async move { is_right.then_some(()) }
        })
        .await;
    }
    assert!(daemon.terminate().await.success());
}
