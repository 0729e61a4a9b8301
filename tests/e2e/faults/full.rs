//! B13 and B21: the target of a publish is full, or missing. The input is not acknowledged meanwhile.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lapin::options::QueueDeleteOptions;
use trunkline_support::{Daemon, eventually};

use super::{Breaker, causes, fill, handled, header, id, post, settled, taken};
use crate::bench::{Bench, drain, metric};

/// The time in which nothing may happen. The first pauses between tries are shorter.
const QUIET: Duration = Duration::from_secs(2);
const STUCK: &str =
    "the broker did not accept a message of the event; the daemon keeps the event and publishes the message again";

/// Checks that a counter does not change for [`QUIET`].
async fn stays(daemon: &Daemon, series: &str, value: f64) {
    let begun = Instant::now();
    eventually(&format!("{series} is quiet"), || {
        assert_eq!(daemon.metric(series), value, "{series}");
        let is_over = begun.elapsed() >= QUIET;
        async move { is_over.then_some(()) }
    })
    .await;
}

const FULL_TARGET: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "echoed"
type = "classic"
max-length = 10
overflow = "reject-publish"
[queues.$P-slept]
bind = "slept"
[routes.$P-first]
from = "first"
plugin = "echo"
[routes.$P-other]
from = "other"
plugin = "sleeper"
"#;
const EVENTS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_target_queue_holds_its_route_until_there_is_room() {
    let bench = Bench::amqp();
    let daemon = bench.start(FULL_TARGET).await;
    let (broker, breaker) = (bench.open(FULL_TARGET).await, Breaker::on(&bench).await);
    fill(&bench, &broker, "first", EVENTS, "x").await;
    let acked = settled(&bench, "first", "ack");
    metric(&daemon, &acked, |count| count == 10.0).await;
    daemon.logged(STUCK).await;
    stays(&daemon, &acked, 10.0).await;
    assert_eq!(breaker.ready(&bench, "$P-out").await, 10);
    handled(&daemon, "other", 1).await;

    // A crash shows the acknowledged events: only the ten.
    daemon.signal("KILL");
    let _killed = daemon.ended().await;
    eventually("the work in progress is back in its queue", || async {
        let left = breaker.ready(&bench, "$P-first").await;
        (left == 40).then_some(())
    })
    .await;
    let daemon = bench.start(FULL_TARGET).await;
    daemon.logged(STUCK).await;

    let cause = |message: &trunkline_event::Message| header(message, "trunkline-cause");
    let out = taken(&bench, &broker, "$P-out", EVENTS, cause).await;
    assert_eq!((out.len(), causes(&out).len()), (EVENTS, EVENTS), "each once");
    metric(&daemon, &acked, |count| count == 40.0).await;
    for outcome in ["retry", "dead_letter"] {
        assert_eq!(daemon.metric(&settled(&bench, "first", outcome)), 0.0, "a full queue is no event's fault");
    }
    assert!(daemon.terminate().await.success());
    for queue in ["$P-first", "$P-first.dlq"] {
        assert_eq!(drain(&broker, &bench.queue(queue), 0).await.len(), 0, "{queue}");
    }
}

const FULL_DEAD_LETTERS: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "echoed"
[queues."$P-first.dlq"]
type = "classic"
max-length = 1
overflow = "reject-publish"
[routes.$P-first]
from = "first"
plugin = "rejecter"
[routes.$P-other]
from = "other"
plugin = "echo"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_dead_letter_queue_holds_its_route_until_there_is_room() {
    let bench = Bench::amqp();
    let daemon = bench.start(FULL_DEAD_LETTERS).await;
    let (broker, breaker) = (bench.open(FULL_DEAD_LETTERS).await, Breaker::on(&bench).await);
    let published: BTreeSet<String> = (0..5).map(|n| post(&daemon, "first", n)).collect();
    let dead = settled(&bench, "first", "dead_letter");
    metric(&daemon, &dead, |count| count == 1.0).await;
    daemon.logged(STUCK).await;
    stays(&daemon, &dead, 1.0).await;
    handled(&daemon, "other", 1).await;

    daemon.signal("KILL");
    let _killed = daemon.ended().await;
    eventually("the work in progress is back in its queue", || async {
        let left = breaker.ready(&bench, "$P-first").await;
        (left == 4).then_some(())
    })
    .await;
    let daemon = bench.start(FULL_DEAD_LETTERS).await;
    daemon.logged(STUCK).await;

    let letters = taken(&bench, &broker, "$P-first.dlq", 5, id).await;
    assert_eq!(letters.iter().map(id).collect::<BTreeSet<_>>(), published);
    assert_eq!(letters.len(), 5, "none twice");
    assert!(letters.iter().all(|letter| header(letter, "trunkline-reason") == "rejected"));
    metric(&daemon, &dead, |count| count == 4.0).await;
    handled(&daemon, "other", 2).await;
    assert!(daemon.terminate().await.success());
    assert_eq!(drain(&broker, &bench.queue("$P-first"), 0).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_dead_letter_queue_holds_its_route_until_it_is_there_again() {
    let bench = Bench::amqp();
    let daemon = bench.start(FULL_DEAD_LETTERS).await;
    let breaker = Breaker::on(&bench).await;
    let name = bench.queue("$P-first.dlq");
    breaker.channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.expect("it is deleted");
    let published = post(&daemon, "first", 1);
    let dead = settled(&bench, "first", "dead_letter");
    daemon.logged(STUCK).await;
    stays(&daemon, &dead, 0.0).await;
    handled(&daemon, "other", 1).await;

    // Opening the broker declares the whole topology, as another daemon would.
    let broker = bench.open(FULL_DEAD_LETTERS).await;
    metric(&daemon, &dead, |count| count == 1.0).await;
    let letters = drain(&broker, &name, 1).await;
    assert_eq!(letters.iter().map(id).collect::<Vec<_>>(), [published]);
    assert!(daemon.terminate().await.success());
}

const FULL_BESIDE_FREE: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-full]
bind = "full"
type = "classic"
max-length = 1
overflow = "reject-publish"
[queues.$P-free]
bind = "free"
[routes.$P-both]
from = "both"
plugin = "addresser"
concurrency = 8
[routes.$P-other]
from = "other"
plugin = "sleeper"
"#;

const RECEIVED: &str = "trunkline_messages_received_total";

/// F7: confirmed messages are not published again with the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_beside_a_free_one_doubles_nothing() {
    const BOTH: u32 = 8;
    // The first pauses are shorter, and each try would give the free queue all eight events again.
    const HELD: Duration = Duration::from_secs(15);
    let bench = Bench::amqp();
    let daemon = bench.start(FULL_BESIDE_FREE).await;
    let (broker, breaker) = (bench.open(FULL_BESIDE_FREE).await, Breaker::on(&bench).await);
    for _ in 0..BOTH {
        post(&daemon, "both", serde_json::json!(["free", "full"]));
    }
    daemon.logged(STUCK).await;
    let held = Instant::now();
    eventually("it lasts", || async { (held.elapsed() >= HELD).then_some(()) }).await;
    let (free, begun) = (breaker.ready(&bench, "$P-free").await, super::of_route(&bench, RECEIVED, "both"));
    let begun = daemon.metric(&begun);
    assert!(f64::from(free) <= begun, "{free} of {begun} events, however often the rest is tried");
    assert!(free >= 2, "the test shows nothing: {free}");
    let (status, health) = daemon.get("/health");
    assert!(status == 503 && health.contains("route-stuck"), "an operator sees it: {health}");
    handled(&daemon, "other", 1).await;

    let out = taken(&bench, &broker, "$P-full", BOTH as usize, |message| header(message, "trunkline-cause")).await;
    assert_eq!(out.len(), BOTH as usize, "each once");
    metric(&daemon, &settled(&bench, "both", "ack"), |count| count == f64::from(BOTH)).await;
    let free = drain(&broker, &bench.queue("$P-free"), BOTH as usize).await;
    assert_eq!((free.len(), causes(&free).len()), (BOTH as usize, BOTH as usize));
    eventually("it is over in /health", || {
        let is_ok = daemon.get("/health").0 == 200;
        async move { is_ok.then_some(()) }
    })
    .await;
    assert!(daemon.terminate().await.success());
}

const FULL_FOR_THE_API: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-full]
bind = "both"
type = "classic"
max-length = 1
overflow = "reject-publish"
[queues.$P-free]
bind = "both"
"#;

/// F19: the broker has no room, which is not an error of the request.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_meets_a_full_queue_may_be_sent_again() {
    let bench = Bench::amqp();
    let daemon = bench.start(FULL_FOR_THE_API).await;
    let breaker = Breaker::on(&bench).await;
    post(&daemon, "both", 1);
    eventually("the queue is full", || async { (breaker.ready(&bench, "$P-full").await >= 1).then_some(()) }).await;
    let event = r#"{"type":"both","id":"again","data":2}"#;
    let (status, retry_after, answer) = daemon.post_for("/api/v1/events", event, "retry-after");
    assert_eq!(status, 503, "{answer}");
    let seconds: u64 = retry_after.expect("a Retry-After").parse().expect("seconds");
    assert!((1..=120).contains(&seconds), "{seconds}");

    // The same request when there is room is not a repeat, because the first one was never complete.
    let name = bench.queue("$P-full");
    let options = lapin::options::QueuePurgeOptions::default();
    breaker.channel.queue_purge(name.as_str().into(), options).await.expect("purged");
    let (status, answer) = daemon.post("/api/v1/events", event);
    assert_eq!((status, &answer["routed"]), (202, &serde_json::json!(true)), "{answer}");
    assert_eq!(breaker.ready(&bench, "$P-full").await, 1);
    assert!(daemon.terminate().await.success());
}
