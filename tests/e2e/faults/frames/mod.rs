//! B14 and B15: confirms that never come, come in another order, or come as one for many, with returns between them. I4
//! is checked on the wire: no event is acknowledged before everything that follows from it is confirmed.

mod book;
mod proxy;
mod wire;

pub(crate) use book::Mode;
pub(crate) use proxy::Proxy;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use trunkline_event::Message;
use trunkline_support::eventually;

use super::{causes, fill, header, id, settled, taken};
use crate::bench::{Bench, drain, message, metric};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "echoed"
[routes.$P-echo]
from = "in"
plugin = "echo"
"#;

/// The confirms end after a part of them, while some are in work.
const EVENTS: usize = 400;
const BEFORE: u64 = 100;
/// The daemon waits twice as long for a confirm.
const SILENT: Duration = Duration::from_secs(15);

/// The ids of emissions by the event that they follow from.
fn by_cause(messages: &[Message]) -> BTreeMap<String, BTreeSet<String>> {
    let mut causes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for message in messages {
        causes.entry(header(message, "trunkline-cause")).or_default().insert(id(message));
    }
    causes
}

#[tokio::test(flavor = "multi_thread")]
async fn confirms_that_never_come_cost_a_channel_and_no_event() {
    let mut bench = Bench::amqp();
    let broker = bench.open(ROUTES).await;
    fill(&bench, &broker, "in", EVENTS, "x").await;
    let (proxy, url) = Proxy::start(&bench.broker, Mode::SwallowAfter(BEFORE), 1).await;
    bench.broker = url;
    let daemon = bench.start(ROUTES).await;
    let acked = settled(&bench, "echo", "ack");
    eventually("a confirm that is swallowed", || {
        let found = (proxy.seen().swallowed > 0).then_some(());
        async move { found }
    })
    .await;
    let silent = Instant::now();
    eventually("nothing is acknowledged without a confirm", || {
        let seen = proxy.seen();
        assert!(seen.acked <= seen.confirmed, "{seen:?}");
        assert!(daemon.metric(&acked) <= EVENTS as f64 / 2.0, "the daemon works on");
        let is_over = silent.elapsed() >= SILENT;
        async move { is_over.then_some(()) }
    })
    .await;
    daemon.logged("a confirm did not arrive in time; the channel is closed").await;
    let given_up = silent.elapsed();

    let out = taken(&bench, &broker, "$P-out", EVENTS, |message| header(message, "trunkline-cause")).await;
    metric(&daemon, &acked, |count| count == EVENTS as f64).await;
    let seen = proxy.seen();
    let lost = seen.swallowed;
    let by_cause = by_cause(&out);
    assert_eq!(by_cause.len(), EVENTS);
    assert!(by_cause.values().all(|ids| ids.len() == 1), "a repeated message has the same id");
    assert_eq!(out.len() as u64, EVENTS as u64 + lost, "only unconfirmed events are published again, once each");
    assert_eq!(proxy.early(), Vec::<String>::new(), "acknowledged too early (I4)");
    assert_eq!(daemon.metric("trunkline_broker_reconnects_total"), 0.0);
    for outcome in ["retry", "dead_letter"] {
        assert_eq!(daemon.metric(&settled(&bench, "echo", outcome)), 0.0, "no event's fault: {outcome}");
    }
    assert!(daemon.terminate().await.success());
    for queue in ["$P-echo", "$P-echo.dlq", "$P-out"] {
        assert_eq!(drain(&broker, &bench.queue(queue), 0).await.len(), 0, "{queue}");
    }
    println!("{lost} confirms swallowed; given up after {given_up:.1?}; {seen:?}");
}

/// All events emit to the same exchange, so that their confirms and returns share a channel.
const MIXED: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "echoed"
[routes.$P-good]
from = "good"
plugin = "echo"
[routes.$P-bad]
from = "bad"
plugin = "sleeper"
emit = { unroutable = "dead-letter" }
[routes.$P-again]
from = "again"
plugin = "sleeper"
emit = { unroutable = "retry" }
retry = { max = 1, delay = "100ms" }
"#;
const GOOD: usize = 2_000;
const BAD: usize = 400;
const AGAIN: usize = 200;

/// Publishes the events of all routes in turn.
async fn fill_mixed(bench: &Bench, broker: &trunkline_broker::Broker) {
    let exchange = format!("{}-events", bench.prefix);
    for chunk in (0..GOOD).collect::<Vec<_>>().chunks(200) {
        let kinds = chunk.iter().flat_map(|n| [("good", GOOD, n), ("bad", BAD, n), ("again", AGAIN, n)]);
        let meant = kinds.filter(|(_, count, n)| *n % (GOOD / count) == 0);
        let batch = meant.map(|(kind, _, n)| message(&exchange, kind, &format!("{kind}{n}"), "0"));
        drop(broker.publish(batch.collect::<Vec<_>>()).await.expect("confirmed"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn confirms_in_disorder_and_returns_between_them_blame_the_right_events() {
    // In a virtual host of its own no other daemon relays its retries.
    let mut bench = Bench::on(trunkline_support::rabbitmq::virtual_host());
    let broker = bench.open(MIXED).await;
    fill_mixed(&bench, &broker).await;
    let (proxy, url) = Proxy::start(&bench.broker, Mode::Disorder, 1).await;
    bench.broker = url;
    let daemon = bench.start(MIXED).await;
    for (route, outcome, count) in
        [("good", "ack", GOOD), ("bad", "dead_letter", BAD), ("again", "retry", AGAIN), ("again", "dead_letter", AGAIN)]
    {
        metric(&daemon, &settled(&bench, route, outcome), |settled| settled >= count as f64).await;
    }
    assert_eq!(daemon.metric("trunkline_broker_reconnects_total"), 0.0, "none of it is an error");
    assert!(daemon.terminate().await.success());

    let out = drain(&broker, &bench.queue("$P-out"), GOOD).await;
    assert_eq!((out.len(), causes(&out).len()), (GOOD, GOOD), "the good ones, each once");
    assert!(causes(&out).iter().all(|cause| cause.starts_with("good")));
    for (route, count, attempt) in [("bad", BAD, 1), ("again", AGAIN, 2)] {
        let dead = drain(&broker, &bench.queue(&format!("$P-{route}.dlq")), count).await;
        let ids: BTreeSet<String> = dead.iter().map(id).collect();
        assert_eq!((dead.len(), ids.len()), (count, count), "{route}: each once");
        for letter in &dead {
            let told = (header(letter, "trunkline-reason"), letter.properties.headers.int("trunkline-attempt"));
            assert_eq!(told, ("unroutable".to_owned(), Some(attempt)), "{}", id(letter));
            assert!(id(letter).starts_with(route), "{}", id(letter));
        }
    }
    for queue in ["$P-good", "$P-good.dlq", "$P-bad", "$P-again"] {
        assert_eq!(drain(&broker, &bench.queue(queue), 0).await.len(), 0, "{queue}");
    }
    let seen = proxy.seen();
    println!("{seen:?}");
    assert_eq!(proxy.early(), Vec::<String>::new(), "acknowledged too early (I4)");
    assert_eq!(
        seen.acked,
        (GOOD + BAD + 3 * AGAIN) as u64,
        "the proxy saw every event, and every retry that the relay moved"
    );
    assert_eq!((seen.returned, seen.nacked), ((BAD + 2 * AGAIN) as u64, 0));
    for (what, count) in [("late", seen.late), ("merged", seen.merged), ("overtaking", seen.overtaking)] {
        assert!(count > 50, "hardly any were {what}: the test shows nothing: {seen:?}");
    }
}
