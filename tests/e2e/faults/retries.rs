//! Retries on RabbitMQ: they wait in the delay queues that all routes of a virtual host share, and the relay brings them home.
//!
//! Each test has a virtual host or a node of its own, because daemons of other tests would relay its retries.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::{Value, json};
use trunkline_broker::Publication;
use trunkline_event::Message;
use trunkline_support::rabbitmq::{RabbitmqNode, virtual_host};
use trunkline_support::{Daemon, eventually};
use trunkline_telemetry::wait;

use super::{Breaker, fill, header, post, taken};
use crate::bench::{Bench, becomes_ready, binary, drain, message, metric, on_both_brokers, settled};
use crate::broker_faults::insist;

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "managed"
[routes.$P-again]
from = "again"
plugin = "retrier"
retry = { max = 4, delay = "$DELAY", jitter = false }
"#;
const DUE: &str = "trunkline.delay.due";
const DEAD: &str = "trunkline.delay.dlq";
/// Daemons that share queues share this key too.
const SHARED: &str = "[broker]\nheader-key = { env = \"RETRY_TEST_KEY\" }\n";
const KEY: &[(&str, &str)] = &[("RETRY_TEST_KEY", "0123456789abcdef0123456789abcdef")];

fn routes(delay: &str) -> String {
    ROUTES.replace("$DELAY", delay)
}

async fn launch(bench: &Bench, text: &str, state: &str) -> Daemon {
    let routes = bench.write_routes(text);
    let started = Daemon::start_with(binary(), &routes, &bench.path(state), &bench.broker, KEY).await;
    started.unwrap_or_else(|ended| panic!("{ended:?}"))
}

async fn start(bench: &Bench, text: &str, state: &str) -> Daemon {
    let daemon = launch(bench, text, state).await;
    becomes_ready(&daemon, true).await;
    daemon
}

async fn all_retry(bench: &Bench, daemon: &Daemon, count: f64) {
    metric(daemon, &settled(bench, "again", "retry"), |retried| retried >= count).await;
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_costs_its_queue_and_its_dead_letter_queue() {
    let node = RabbitmqNode::start().expect("a RabbitMQ");
    let bench = Bench::on(node.url());
    let more = "[routes.$P-more]\nfrom = \"more\"\nplugin = \"retrier\"\n\
        [routes.$P-ordered]\nfrom = \"ordered\"\nplugin = \"retrier\"\norder-by = \"subject\"\n";
    let daemon = start(&bench, &format!("{}{more}", routes("100ms")), "state").await;
    for kind in ["again", "more", "ordered"] {
        let id = post(&daemon, kind, json!(3));
        assert_eq!(daemon.settled(&id).await["outcome"], "ack");
    }
    let listed = node.ctl(&["list_queues", "name"]).expect("a list");
    let names = listed.lines().map(str::trim).filter_map(|name| name.strip_prefix(&bench.prefix));
    let expected =
        ["-again", "-again.dlq", "-more", "-more.dlq", "-ordered", "-ordered.dlq", "-ordered.waiting", "-out"];
    assert_eq!(names.collect::<BTreeSet<_>>(), BTreeSet::from(expected));
    let shared = listed.lines().filter(|name| name.trim().starts_with("trunkline.delay.")).count();
    assert_eq!(shared, 27 + 3, "the levels, the queues of due messages and of their dead letters:\n{listed}");
    assert!(daemon.terminate().await.success());
}

/// Two daemons share a route. One after the other is ended by a signal while retries wait and come home.
async fn retries_outlive_daemons(signal: &str) -> usize {
    const EVENTS: usize = 1_600;
    const ENDS: usize = 4;
    let bench = Bench::on(virtual_host());
    let text = format!("{SHARED}{}concurrency = 64\n", routes("1s"));
    let mut daemons = [Some(start(&bench, &text, "one").await), Some(start(&bench, &text, "other").await)];
    let broker = bench.open_with(&text, KEY).await;
    let exchange = format!("{}-events", bench.prefix);
    for (end, ids) in (0..EVENTS).collect::<Vec<_>>().chunks(EVENTS / ENDS).enumerate() {
        let batch = ids.iter().map(|id| message(&exchange, "again", &format!("e{id}"), "3"));
        drop(broker.publish(batch.collect::<Vec<_>>()).await.expect("confirmed"));
        let daemon = daemons[end % 2].take().expect("it runs");
        // Since its start this daemon has sent some events to their retry.
        all_retry(&bench, &daemon, 30.0).await;
        daemon.signal(signal);
        let status = daemon.ended().await;
        assert_eq!(status.success(), signal == "TERM");
        daemons[end % 2] = Some(start(&bench, &text, ["one", "other"][end % 2]).await);
    }
    let mut out = taken(&bench, &broker, "$P-out", EVENTS, |message| header(message, "trunkline-cause")).await;
    let breaker = Breaker::on(&bench).await;
    eventually("no event that waits", || async {
        (breaker.ready(&bench, DUE).await + breaker.ready(&bench, "$P-again").await == 0).then_some(())
    })
    .await;
    for daemon in daemons.into_iter().flatten() {
        assert!(daemon.terminate().await.success());
    }
    out.extend(drain(&broker, &bench.queue("$P-out"), 0).await);
    assert!(out.iter().all(|message| &message.body[..] == b"3"), "no retry is taken for another attempt");
    for queue in ["$P-again.dlq", DEAD] {
        assert_eq!(breaker.ready(&bench, queue).await, 0, "{queue}");
    }
    broker.close(trunkline_support::patience()).await;
    out.len() - EVENTS
}

#[tokio::test(flavor = "multi_thread")]
async fn many_retries_outlive_killed_daemons() {
    let repeats = retries_outlive_daemons("KILL").await;
    println!("{repeats} repeats");
}

/// At an orderly end, the relay acknowledges the retries that it is publishing.
#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_repeats_no_retry() {
    assert_eq!(retries_outlive_daemons("TERM").await, 0);
}

/// A retry queue of an earlier version still has an event. RabbitMQ moves the event home, and its attempt counts. The daemon then
/// gives the command that deletes the queue.
#[tokio::test(flavor = "multi_thread")]
async fn events_in_retry_queues_of_earlier_versions_come_home() {
    let bench = Bench::on(virtual_host());
    let text = routes("2s");
    let (breaker, waits) = (Breaker::on(&bench).await, format!("{}-again.retry.2000", bench.prefix));
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", self::text("quorum")),
        ("x-message-ttl", AMQPValue::LongLongInt(2_000)),
        ("x-overflow", self::text("reject-publish")),
        ("x-dead-letter-exchange", self::text("")),
        ("x-dead-letter-routing-key", self::text(&format!("{}-again", bench.prefix))),
        ("x-dead-letter-strategy", self::text("at-least-once")),
    ] {
        arguments.insert(name.into(), value);
    }
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let name = ShortString::from(waits.as_str());
    breaker.channel.queue_declare(name, durable, arguments).await.expect("declared");
    let daemon = bench.start(&text).await;
    becomes_ready(&daemon, true).await;
    // The state directory has the key of the daemon.
    let broker = bench.open(&text).await;
    let key = broker.header_key().expect("RabbitMQ has a key");
    let mut earlier = message("", &waits, "earlier", "2");
    let copy = earlier.message_mut();
    copy.properties.headers.set("trunkline-route", format!("{}-again", bench.prefix));
    copy.properties.headers.set("trunkline-attempt", 2_u32);
    copy.properties.headers.set("trunkline-source-key", "again");
    key.sign(copy);
    insist(&broker, earlier).await;
    assert_eq!(daemon.settled("earlier").await["outcome"], "ack");
    assert_eq!(daemon.metric(&settled(&bench, "again", "retry")), 0.0, "it was its second attempt");
    assert_eq!(breaker.ready(&bench, &waits).await, 0, "the queue is empty and can be deleted");
    let line = daemon.logged("retry queues of earlier builds are empty").await;
    let removable = || {
        let view: Value = serde_json::from_str(&daemon.get("/api/v1/events/queues").1).expect("JSON");
        view["removable"].clone()
    };
    let found = removable();
    assert_eq!((&found[0]["name"], &found[0]["ready"], &found[1]), (&json!(waits), &json!(0), &Value::Null), "{found}");
    let command = found[0]["command"].as_str().expect("a command");
    assert!(
        command.starts_with("rabbitmqctl --vhost ") && command.ends_with(&format!(" delete_queue {waits}")),
        "{command}"
    );
    assert!(line.contains(command), "{line}");
    let deleted = breaker.channel.queue_delete(waits.as_str().into(), QueueDeleteOptions::default()).await;
    assert_eq!(deleted.expect("deleted"), 0, "nothing was in it");
    assert_eq!(removable(), json!([]));
    broker.close(trunkline_support::patience()).await;
    assert!(daemon.terminate().await.success());
}

async fn exists(breaker: &Breaker, queue: &str) {
    eventually(queue, || async {
        let channel = breaker.connection.create_channel().await.expect("a channel");
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.into(), options, FieldTable::default()).await.ok().map(drop)
    })
    .await;
}

/// An operator deletes a level, and then the queue of due messages.
#[tokio::test(flavor = "multi_thread")]
async fn deleted_delay_queues_are_declared_again() {
    let bench = Bench::on(virtual_host());
    // The wait passes one level, the fifth.
    let daemon = bench.start(&routes("800ms")).await;
    becomes_ready(&daemon, true).await;
    let breaker = Breaker::on(&bench).await;
    let id = post(&daemon, "again", json!(2));
    assert_eq!(daemon.settled(&id).await["outcome"], "ack");
    for queue in ["trunkline.delay.05", DUE] {
        let deleted = breaker.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
        assert_eq!(deleted.expect("deleted"), 0, "nothing was in it");
        if queue == DUE {
            // Until then RabbitMQ keeps messages that are due for three minutes.
            exists(&breaker, DUE).await;
        }
        let id = post(&daemon, "again", json!(3));
        assert_eq!(daemon.settled(&id).await["outcome"], "ack", "{queue}");
    }
    assert!(daemon.terminate().await.success());
}

/// Retries of a daemon that ended may be due when a running daemon gets its first route.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_relays_from_its_first_route_on() {
    let bench = Bench::on(virtual_host());
    let text = routes("200ms");
    let (without, _) = text.split_once("[routes.").expect("a route");
    let daemon = start(&bench, without, "state").await;
    let breaker = Breaker::on(&bench).await;
    bench.write_routes(&text);
    exists(&breaker, DUE).await;
    assert!(daemon.terminate().await.success());
}

/// A daemon without a configured key is gone for good, with its key. Another daemon consumes the same queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_comes_home_although_its_key_is_lost() {
    let bench = Bench::on(virtual_host());
    let text = routes("3s");
    let daemon = start(&bench, &text, "one").await;
    post(&daemon, "again", json!(2));
    all_retry(&bench, &daemon, 1.0).await;
    daemon.signal("KILL");
    daemon.ended().await;
    let daemon = start(&bench, &text, "other").await;
    metric(&daemon, &settled(&bench, "again", "ack"), |count| count == 1.0).await;
    let breaker = Breaker::on(&bench).await;
    assert_eq!(breaker.ready(&bench, DEAD).await, 0, "it is no dead letter");
    assert!(daemon.terminate().await.success());
}

/// The retries become due while the broker takes no publish.
#[tokio::test(flavor = "multi_thread")]
async fn retries_that_are_due_during_an_alarm_come_home_after_it() {
    const EVENTS: usize = 150;
    let node = RabbitmqNode::start().expect("a RabbitMQ");
    let bench = Bench::on(node.url());
    let daemon = start(&bench, &routes("6s"), "state").await;
    let broker = bench.open(&routes("6s")).await;
    fill(&bench, &broker, "again", EVENTS, "2").await;
    broker.close(trunkline_support::patience()).await;
    #[expect(clippy::cast_precision_loss, reason = "few")]
    let all = EVENTS as f64;
    all_retry(&bench, &daemon, all).await;
    node.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]).expect("the limit is set");
    // The alarm outlasts the delay. A connection learns of the alarm with its next publish.
    wait::after(Duration::from_secs(9)).await;
    let before = daemon.metric(&settled(&bench, "again", "ack"));
    assert!(before < all, "all came home before the alarm: the test shows nothing");
    node.ctl(&["set_vm_memory_high_watermark", "absolute", "4GiB"]).expect("the limit is set");
    metric(&daemon, &settled(&bench, "again", "ack"), |count| count >= all).await;
    assert_eq!(daemon.metric(&settled(&bench, "again", "retry")), all, "none is repeated");
    assert!(daemon.terminate().await.success());
}

/// With `topology = "check"` the daemon uses the delay queues that exist, and says when they do not exist.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_declares_nothing_uses_the_delay_queues() {
    let bench = Bench::on(virtual_host());
    let text = routes("200ms");
    let daemon = start(&bench, &text, "state").await;
    let id = post(&daemon, "again", json!(2));
    assert_eq!(daemon.settled(&id).await["outcome"], "ack");
    assert!(daemon.terminate().await.success());
    let checks = format!("[broker]\ntopology = \"check\"\n{text}");
    let daemon = start(&bench, &checks, "state").await;
    let id = post(&daemon, "again", json!(2));
    assert_eq!(daemon.settled(&id).await["outcome"], "ack");
    assert!(daemon.terminate().await.success());
    let breaker = Breaker::on(&bench).await;
    let deleted = breaker.channel.queue_delete(DUE.into(), QueueDeleteOptions::default()).await;
    assert_eq!(deleted.expect("deleted"), 0, "nothing was in it");
    let daemon = launch(&bench, &checks, "state").await;
    metric(&daemon, "trunkline_condition{condition=\"delay-relay-jammed\",subject=\"\"}", |raised| raised == 1.0).await;
    let (status, health) = daemon.get("/health");
    assert!(health.contains("the delay queues do not exist"), "{status} {health}");
    daemon.signal("KILL");
    daemon.ended().await;
}

/// Urgent retries hold up no other retry, and every retry keeps its priority.
#[tokio::test(flavor = "multi_thread")]
async fn priorities_survive_the_delay_queues() {
    const EVENTS: u8 = 40;
    let bench = Bench::on(virtual_host());
    let text = routes("500ms");
    let daemon = bench.start(&text).await;
    becomes_ready(&daemon, true).await;
    let broker = bench.open(&text).await;
    let exchange = format!("{}-events", bench.prefix);
    let prioritised = |n: u8| -> Publication {
        // More attempts than there are.
        let mut publication = message(&exchange, "again", &format!("p-{n}"), "99");
        publication.message_mut().properties.priority = Some(n % 10);
        publication
    };
    drop(broker.publish((0..EVENTS).map(prioritised).collect::<Vec<_>>()).await.expect("confirmed"));
    let dead = settled(&bench, "again", "dead_letter");
    metric(&daemon, &dead, |count| count >= f64::from(EVENTS)).await;
    let letters: Vec<Message> = drain(&broker, &bench.queue("$P-again.dlq"), usize::from(EVENTS)).await;
    let kept: BTreeMap<String, Option<u8>> =
        letters.iter().map(|letter| (super::id(letter), letter.properties.priority)).collect();
    let expected: BTreeMap<String, Option<u8>> = (0..EVENTS).map(|n| (format!("p-{n}"), Some(n % 10))).collect();
    assert_eq!(kept, expected);
    assert!(letters.iter().all(|letter| letter.properties.headers.int("trunkline-attempt") == Some(5)));
    broker.close(trunkline_support::patience()).await;
    assert!(daemon.terminate().await.success());
}

/// W4: the message's own TTL ends during a retry.
async fn the_ttl_of_a_message_ends_its_retries(bench: Bench) {
    let text = routes("1s").replace("max = 4", "max = 20");
    let broker = bench.open(&text).await;
    let exchange = format!("{}-events", bench.prefix);
    for (id, ttl, attempts) in [("brief", "20000", "99"), ("lasting", "600000", "3")] {
        let mut publication = message(&exchange, "again", id, attempts);
        publication.message_mut().properties.expiration = Some(ttl.to_owned());
        insist(&broker, publication).await;
    }
    broker.close(trunkline_support::patience()).await;
    drop(broker);
    let daemon = bench.start(&text).await;
    assert_eq!(daemon.settled("lasting").await["outcome"], "ack", "its TTL is longer than its retries");
    let end = daemon.settled("brief").await;
    assert_eq!((&end["outcome"], &end["reason"]), (&json!("dead_letter"), &json!("expired")), "{end}");
    assert!(daemon.terminate().await.success());
    let broker = bench.open(&text).await;
    let letters = drain(&broker, &bench.queue("$P-again.dlq"), 1).await;
    let told: Vec<(String, String)> =
        letters.iter().map(|letter| (super::id(letter), header(letter, "trunkline-reason"))).collect();
    assert_eq!(told, [("brief".to_owned(), "expired".to_owned())]);
    broker.close(trunkline_support::patience()).await;
}

on_both_brokers! {
    the_ttl_of_a_message_ends_its_retries,
}
