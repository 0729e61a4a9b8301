//! F23: a key keeps its order when its route changes daemons: by kills and orderly ends of daemons that share it, by
//! restarts, and by reloads.
//!
//! On RabbitMQ each test has a virtual host of its own: another test that kills its daemon would repeat retries of this one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use lapin::options::QueuePurgeOptions;
use trunkline_event::Message;
use trunkline_support::rabbitmq::virtual_host;
use trunkline_support::{Daemon, eventually};

use super::{Breaker, header, taken};
use crate::bench::{Bench, binary, connected, drain, message, metric, settled};
use crate::broker_faults::insist;

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "managed"
[routes.$P-ordered]
from = "ordered.*"
plugin = "retrier"
order-by = "routing-key"
retry = { max = 4, delay = "300ms" }
"#;
/// Daemons that share queues share this key too.
const SHARED: &str = "[broker]\nheader-key = { env = \"ORDER_TEST_KEY\" }\n";
const KEY: &[(&str, &str)] = &[("ORDER_TEST_KEY", "0123456789abcdef0123456789abcdef")];

const KEYS: usize = 12;

/// The events of all keys in turn. Some succeed at their second or third attempt.
fn id(number: usize) -> (String, String, &'static str) {
    let attempts = match number % 7 {
        0 => "3",
        3 | 4 => "2",
        _ => "1",
    };
    (format!("ordered.k{}", number % KEYS), format!("{number:05}"), attempts)
}

/// The events by key, in the order of their first handling.
fn by_key(out: &[Message]) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in out {
        let (key, cause) = (header(message, "key"), header(message, "trunkline-cause"));
        let seen = keys.entry(key).or_default();
        if !seen.contains(&cause) {
            seen.push(cause);
        }
    }
    keys
}

fn is_in_order(out: &[Message], count: usize) {
    let keys = by_key(out);
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in 0..count {
        let (key, id, _) = self::id(number);
        wanted.entry(key).or_default().push(id);
    }
    for (key, wanted) in wanted {
        let found = keys.get(&key).cloned().unwrap_or_default();
        let wrong = wanted.iter().zip(&found).find(|(wanted, found)| wanted != found);
        assert_eq!(wrong, None, "{key}: {found:?}");
        assert_eq!(found.len(), wanted.len(), "{key}");
    }
}

fn lost(bench: &Bench, why: &str) -> String {
    format!("trunkline_order_lost_total{{route=\"{}-ordered\",why=\"{why}\"}}", bench.prefix)
}

fn nothing_lost(bench: &Bench, daemon: &Daemon) {
    for why in ["missing", "unlisted", "unreadable", "other_key"] {
        assert_eq!(daemon.metric(&lost(bench, why)), 0.0, "{why}\n{}", daemon.log());
    }
}

async fn start(bench: &Bench, routes: &Path, state: &str) -> Daemon {
    let started = Daemon::start_with(binary(), routes, &bench.path(state), &bench.broker, KEY).await;
    started.unwrap_or_else(|ended| panic!("{ended:?}"))
}

/// Two daemons share the route. One after the other is killed or ended while events arrive.
#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_keep_the_order_over_every_switch() {
    const SWITCHES: usize = 8;
    let bench = Bench::on(virtual_host());
    let text = format!("{SHARED}{ROUTES}");
    let routes = bench.write_routes(&text);
    let broker = bench.open_with(&text, KEY).await;
    let mut daemons = [Some(start(&bench, &routes, "one").await), Some(start(&bench, &routes, "other").await)];
    let exchange = format!("{}-events", bench.prefix);
    let mut count = 0;
    for switch in 0..SWITCHES {
        let until = count + 80;
        while count < until {
            let (key, id, attempts) = id(count);
            insist(&broker, message(&exchange, &key, &id, attempts)).await;
            count += 1;
            trunkline_telemetry::wait::after(Duration::from_millis(4)).await;
        }
        let place = switch % 2;
        let daemon = daemons[place].take().expect("it runs");
        if switch % 4 < 2 {
            daemon.signal("KILL");
            daemon.ended().await;
        } else {
            nothing_lost(&bench, &daemon);
            assert!(daemon.terminate().await.success());
        }
        daemons[place] = Some(start(&bench, &routes, ["one", "other"][place]).await);
    }
    let out = taken(&bench, &broker, "$P-out", count, |message| header(message, "trunkline-cause")).await;
    is_in_order(&out, count);
    // Events that were in work twice when a daemon was killed are handled as well.
    let breaker = Breaker::on(&bench).await;
    for daemon in daemons.iter().flatten().cycle().take(4) {
        eventually("no retry that waits", || {
            let stats = daemon.get("/api/v1/events/stats").1;
            let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
            async move { (stats["delayed"] == 0).then_some(()) }
        })
        .await;
        eventually("an empty queue", || {
            let (breaker, bench) = (&breaker, &bench);
            async move { (breaker.ready(bench, "$P-ordered").await == 0).then_some(()) }
        })
        .await;
    }
    for daemon in daemons.into_iter().flatten() {
        nothing_lost(&bench, &daemon);
        assert!(daemon.terminate().await.success());
    }
    // Entries of standby daemons may be left, and the next daemon removes them.
    let listed = drain(&broker, &bench.queue("$P-ordered.waiting"), 0).await;
    let entries = listed.iter().filter(|message| !header(message, "trunkline-waiting-key").is_empty());
    assert_eq!(entries.count(), 0, "no event waits any more");
    println!("{count} events, {} messages, {SWITCHES} switches", out.len());
}

/// The daemon is killed and ended, again and again.
async fn restarts(bench: Bench) {
    const EVENTS: usize = 400;
    let mut daemon = begin(&bench, EVENTS).await;
    for (number, part) in [0.2, 0.4, 0.6, 0.8].into_iter().enumerate() {
        let share = EVENTS as f64 * 0.15;
        metric(&daemon, &settled(&bench, "ordered", "ack"), |count| count >= share).await;
        nothing_lost(&bench, &daemon);
        if number % 2 == 0 {
            daemon.signal("KILL");
            daemon.ended().await;
        } else {
            assert!(daemon.terminate().await.success(), "at {part}");
        }
        daemon = bench.start(ROUTES).await;
    }
    let out = finish(&bench, daemon, EVENTS).await;
    is_in_order(&out, EVENTS);
    if bench.is_embedded() {
        assert_eq!(out.len(), EVENTS, "each once, in one transaction with its entry");
    }
}

/// The route is changed while it works, so that another task takes it over each time.
async fn reloads(bench: Bench) {
    const EVENTS: usize = 400;
    let daemon = begin(&bench, EVENTS).await;
    for number in 1..=6 {
        let before = daemon.metric(&settled(&bench, "ordered", "ack"));
        metric(&daemon, &settled(&bench, "ordered", "ack"), |count| count >= before + 40.0).await;
        bench.write_routes(&format!("{ROUTES}concurrency = {}\n", 4 + number));
        let (status, answer) = daemon.post("/api/v1/reload", "");
        assert_eq!(status, 200, "{answer}");
    }
    let out = finish(&bench, daemon, EVENTS).await;
    is_in_order(&out, EVENTS);
    assert_eq!(out.len(), EVENTS, "a reload repeats nothing");
}

mod embedded {
    use crate::bench::Bench;

    #[tokio::test(flavor = "multi_thread")]
    async fn restarts() {
        super::restarts(Bench::embedded()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn reloads() {
        super::reloads(Bench::embedded()).await;
    }
}

mod amqp {
    use super::virtual_host;
    use crate::bench::Bench;

    #[tokio::test(flavor = "multi_thread")]
    async fn restarts() {
        super::restarts(Bench::on(virtual_host())).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn reloads() {
        super::reloads(Bench::on(virtual_host())).await;
    }
}

/// Publishes events, and starts a daemon on them.
async fn begin(bench: &Bench, events: usize) -> Daemon {
    let broker = bench.open(ROUTES).await;
    let exchange = format!("{}-events", bench.prefix);
    for number in 0..events {
        let (key, id, attempts) = id(number);
        drop(broker.publish(message(&exchange, &key, &id, attempts)).await.expect("confirmed"));
    }
    broker.close(trunkline_support::patience()).await;
    drop(broker);
    bench.start(ROUTES).await
}

/// Waits until all events are settled, and takes their emissions.
async fn finish(bench: &Bench, daemon: Daemon, events: usize) -> Vec<Message> {
    if !bench.is_embedded() {
        let broker = bench.open(ROUTES).await;
        let out = taken(bench, &broker, "$P-out", events, |message| header(message, "trunkline-cause")).await;
        nothing_lost(bench, &daemon);
        assert!(daemon.terminate().await.success());
        broker.close(trunkline_support::patience()).await;
        return out;
    }
    let ready = format!("trunkline_queue_messages{{queue=\"{}-out\",state=\"ready\",role=\"work\"}}", bench.prefix);
    metric(&daemon, &ready, |count| count >= events as f64).await;
    nothing_lost(bench, &daemon);
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    let out = drain(&broker, &bench.queue("$P-out"), events).await;
    broker.close(trunkline_support::patience()).await;
    out
}

/// The waiting events are deleted from their queue. The key goes on when the new daemon has seen that nothing comes
/// back.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_does_not_come_back_holds_its_key_for_a_moment_and_is_counted() {
    let slow = ROUTES.replace("300ms", "3s");
    let bench = Bench::on(virtual_host());
    let daemon = bench.start(&slow).await;
    let broker = bench.open(&slow).await;
    connected(&broker).await;
    let exchange = format!("{}-events", bench.prefix);
    drop(broker.publish(message(&exchange, "ordered.k", "gone", "3")).await.expect("confirmed"));
    metric(&daemon, &settled(&bench, "ordered", "retry"), |count| count >= 1.0).await;
    let breaker = Breaker::on(&bench).await;
    // A message only goes to lower levels.
    for queue in (0..27).rev().map(|level| format!("trunkline.delay.{level:02}")) {
        breaker.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await.expect("purged");
    }
    daemon.signal("KILL");
    daemon.ended().await;
    let daemon = bench.start(&slow).await;
    let begun = Instant::now();
    drop(broker.publish(message(&exchange, "ordered.k", "next", "1")).await.expect("confirmed"));
    metric(&daemon, &settled(&bench, "ordered", "ack"), |count| count >= 1.0).await;
    assert!(begun.elapsed() < Duration::from_secs(40), "two rounds of the markers: {:?}", begun.elapsed());
    assert_eq!(daemon.metric(&lost(&bench, "missing")), 1.0);
    let log = daemon.log();
    let said =
        |line: &&str| line.contains("handled events of this ordering key in the wrong order") && line.contains("gone");
    assert!(log.lines().any(|line| said(&line) && line.contains("ordered.k")), "{log}");
    assert!(daemon.terminate().await.success());
    broker.close(trunkline_support::patience()).await;
}
