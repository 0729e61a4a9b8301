//! B11, B12, B18: queues and exchanges that are deleted, or that differ from the routes.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use serde_json::Value;
use trunkline_event::Message;
use trunkline_support::eventually;

use super::{Breaker, causes, handled, header, id, is_up, of_route, post, settled};
use crate::bench::{Bench, drain, message, metric};

const TWO: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
owned = true
bind = ["echoed", "slept"]
[routes.$P-first]
from = "first"
plugin = "sleeper"
[routes.$P-other]
from = "other"
plugin = "echo"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_input_queue_that_is_deleted_is_declared_and_consumed_again() {
    let bench = Bench::amqp();
    let daemon = bench.start(TWO).await;
    let breaker = Breaker::on(&bench).await;
    handled(&daemon, "first", 1).await;
    let in_work = post(&daemon, "first", 3_000);
    metric(&daemon, &of_route(&bench, "trunkline_messages_received_total", "first"), |count| count >= 2.0).await;

    let name = bench.queue("$P-first");
    breaker.channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.expect("it is deleted");
    handled(&daemon, "other", 1).await;
    assert_eq!(daemon.settled(&in_work).await["outcome"], "ack", "what was in work is finished");
    daemon.logged("the queue was deleted, or the broker cancelled the consumer").await;
    let again = eventually("an event is routed to the queue", || {
        let (status, accepted) = daemon.post("/api/v1/events", r#"{"type":"first","data":2}"#);
        assert_eq!(status, 202, "{accepted}");
        let id = (accepted["routed"] == true).then(|| accepted["id"].as_str().expect("an id").to_owned());
        async move { id }
    })
    .await;
    assert_eq!(daemon.settled(&again).await["outcome"], "ack");
    is_up(&bench, &daemon, "first", true).await;
    handled(&daemon, "other", 2).await;
    let broker = bench.open(TWO).await;
    for queue in ["$P-first.dlq", "$P-other.dlq"] {
        assert_eq!(drain(&broker, &bench.queue(queue), 0).await.len(), 0, "{queue}");
    }
    assert_eq!(daemon.metric("trunkline_broker_reconnects_total"), 0.0, "it costs the route's channel, no session");
    assert!(daemon.terminate().await.success());
}

const TWO_TARGETS: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
retry = { max = 2, delay = "200ms" }
[exchanges]
$P-a = { type = "topic" }
$P-b = { type = "topic" }
[queues.$P-out-a]
owned = true
bind = { exchange = "$P-a", keys = "slept" }
[queues.$P-out-b]
owned = true
bind = { exchange = "$P-b", keys = "slept" }
[routes.$P-first]
from = "first"
plugin = "sleeper"
concurrency = 4
emit = { exchange = "$P-a" }
[routes.$P-other]
from = "other"
plugin = "sleeper"
concurrency = 4
emit = { exchange = "$P-b" }
"#;
/// At 200 a second.
const EVENTS: usize = 1_000;
const BEFORE: f64 = 100.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_target_exchange_that_is_deleted_under_load_dead_letters_its_own_events_only() {
    let bench = Bench::amqp();
    let (broker, breaker) = (bench.open(TWO_TARGETS).await, Breaker::on(&bench).await);
    let events = format!("{}-events", bench.prefix);
    for chunk in (0..EVENTS).collect::<Vec<_>>().chunks(100) {
        let both = chunk.iter().flat_map(|n| ["first", "other"].map(|key| (n, key)));
        let batch = both.map(|(n, key)| message(&events, key, &format!("{key}{n}"), "20"));
        drop(broker.publish(batch.collect::<Vec<_>>()).await.expect("confirmed"));
    }
    let daemon = bench.start(TWO_TARGETS).await;
    let [acked, dead] = ["ack", "dead_letter"].map(|outcome| settled(&bench, "first", outcome));
    metric(&daemon, &acked, |count| count >= BEFORE).await;
    let target = format!("{}-a", bench.prefix);
    let gone = breaker.channel.exchange_delete(target.as_str().into(), ExchangeDeleteOptions::default());
    gone.await.expect("it is deleted");

    #[expect(clippy::cast_precision_loss, reason = "a thousand")]
    let all = EVENTS as f64;
    metric(&daemon, &settled(&bench, "other", "ack"), |count| count == all).await;
    eventually("an outcome for every event", || {
        let is_done = daemon.metric(&acked) + daemon.metric(&dead) >= all;
        async move { is_done.then_some(()) }
    })
    .await;
    let count = |series| daemon.metric(series).to_string().parse::<usize>().expect("a whole number");
    let (through, given_up) = (count(&acked), count(&dead));
    assert!(daemon.metric(&settled(&bench, "first", "retry")) > 0.0, "it may have been a passing trouble");
    let lost = format!("{{route=\"{0}-other\",exchange=\"{0}-b\",result=\"lost\"}}", bench.prefix);
    assert_eq!(daemon.metric(&format!("trunkline_events_published_total{lost}")), 0.0);
    for outcome in ["retry", "dead_letter"] {
        assert_eq!(daemon.metric(&settled(&bench, "other", outcome)), 0.0, "the neighbour: {outcome}");
    }

    // The exchange is made again, and events pass without a restart of the daemon.
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let name = || target.as_str().into();
    let made = breaker.channel.exchange_declare(name(), ExchangeKind::Topic, durable, FieldTable::default());
    made.await.expect("it is made");
    let queue = bench.queue("$P-out-a");
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    let bound = breaker.channel.queue_bind(queue.as_str().into(), name(), "slept".into(), options, arguments);
    bound.await.expect("it is bound");
    handled(&daemon, "first", 1).await;
    assert!(daemon.terminate().await.success());

    let (out, other) =
        (drain(&broker, &queue, through + 1).await, drain(&broker, &bench.queue("$P-out-b"), EVENTS).await);
    assert_eq!((other.len(), causes(&other).len()), (EVENTS, EVENTS), "the neighbour's, each once");
    let dead = drain(&broker, &bench.queue("$P-first.dlq"), given_up).await;
    let reasons: BTreeSet<String> = dead.iter().map(|message| header(message, "trunkline-reason")).collect();
    assert_eq!(reasons, BTreeSet::from(["refused".to_owned()]));
    let is_last = |message: &Message| message.properties.headers.int("trunkline-attempt") == Some(3);
    assert!(dead.iter().all(is_last), "given up after both retries");
    let given_up: BTreeSet<String> = dead.iter().map(id).collect();
    assert_eq!(given_up.len(), dead.len(), "none is given up twice");
    let seen: BTreeSet<String> = causes(&out).into_iter().chain(given_up).collect();
    let missing: Vec<usize> = (0..EVENTS).filter(|n| !seen.contains(&format!("first{n}"))).collect();
    assert!(missing.is_empty(), "lost: {missing:?}");
    println!("{} through, {} dead-lettered as refused", out.len(), dead.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_would_lose_messages_holds_only_its_own_route_down_and_says_why() {
    let bench = Bench::amqp();
    let breaker = Breaker::on(&bench).await;
    let name = bench.queue("$P-first");
    let auto_delete = QueueDeclareOptions { durable: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let declared = breaker.channel.queue_declare(name.as_str().into(), auto_delete, FieldTable::default());
    declared.await.expect("it is declared");

    let daemon = bench.start(TWO).await;
    handled(&daemon, "other", 1).await;
    is_up(&bench, &daemon, "other", true).await;
    is_up(&bench, &daemon, "first", false).await;
    let (status, text) = daemon.get("/health");
    let health: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, &health["status"]), (503, &"degraded".into()), "{text}");
    let refused = health["broker"]["refused"].to_string();
    for part in [name.as_str(), "inequivalent arg", "received", "but current is"] {
        assert!(refused.contains(part), "the daemon's arguments and the broker's: {refused}");
    }
    let raised = "trunkline_condition{condition=\"topology-refused\",subject=\"\"}";
    assert_eq!(daemon.metric(raised), 1.0);
    daemon.logged("the route does not consume its queue; the daemon subscribes again").await;
    daemon.logged("PRECONDITION_FAILED").await;
    // The daemon makes some further attempts, with pauses from 0.2 s.
    trunkline_telemetry::wait::after(Duration::from_secs(3)).await;
    let log = daemon.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("does not consume its queue")).collect();
    assert_eq!(lines.len(), 1, "one line for one reason: {lines:#?}");
    for part in ["\"code\":\"route-down\"", name.as_str(), "the existing queue is auto-delete"] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    assert!(!log.contains("\"target\":\"lapin"), "the log contains no line of the AMQP client: {log}");

    breaker.channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.expect("it is deleted");
    is_up(&bench, &daemon, "first", true).await;
    handled(&daemon, "first", 1).await;
    let (status, text) = daemon.get("/health");
    assert_eq!(status, 200, "the corrected difference is not reported any more: {text}");
    assert!(daemon.terminate().await.success());
}
