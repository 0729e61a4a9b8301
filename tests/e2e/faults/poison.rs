//! B20: an event that ends the daemon, again and again. The broker gives up this event and no other.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use trunkline_broker::Broker;
use trunkline_support::{Daemon, eventually};

use super::{Breaker, causes, header, id, of_route, settled, taken};
use crate::bench::{Bench, drain, message, metric};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-out]
bind = "slept"
[queues.$P-sleeper]
bind = "sleep"
delivery-limit = 3
[routes.$P-sleeper]
queue = "$P-sleeper"
plugin = "sleeper"
concurrency = 1
[plugins.sleeper.limits]
timeout = "60s"
"#;

const INNOCENT: usize = 600;
/// The position of the poison. The events before it widen the prefetch of the route.
const BEFORE: usize = 20;
/// Only the poison takes this long; each other event takes a millisecond.
const LONG: Duration = Duration::from_secs(5);
/// The limit gives the event up at the fourth delivery. More would mean that a delivery is not counted.
const LIVES_MAX: usize = 6;

/// Waits until the poison is in work. The other deliveries of the route wait behind it.
async fn poisoned(bench: &Bench, daemon: &Daemon) {
    let (done, held) = (settled(bench, "sleeper", "ack"), of_route(bench, "trunkline_messages_in_flight", "sleeper"));
    let (mut last, mut since) = (-1.0, Instant::now());
    eventually("the poison is in work", || {
        let (now, held) = (daemon.metric(&done), daemon.metric(&held));
        if now != last || held < 1.0 {
            (last, since) = (now, Instant::now());
        }
        let found = (since.elapsed() >= LONG).then_some(());
        async move { found }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_ends_the_daemon_is_given_up_alone() {
    let bench = Bench::amqp();
    let (broker, breaker) = (bench.open(ROUTES).await, Breaker::on(&bench).await);
    let exchange = format!("{}-events", bench.prefix);
    for n in 0..=INNOCENT {
        let (id, pause) = if n == BEFORE { ("poison".to_owned(), "55000") } else { (format!("e{n}"), "1") };
        drop(broker.publish(vec![message(&exchange, "sleep", &id, pause)]).await.expect("confirmed"));
    }
    let mut beside = Vec::new();
    loop {
        let daemon = bench.start(ROUTES).await;
        if breaker.ready(&bench, "$P-sleeper.dlq").await > 0 {
            finish(&bench, &broker, daemon, &beside).await;
            break;
        }
        assert!(beside.len() < LIVES_MAX, "the poison is not given up: {beside:?}");
        poisoned(&bench, &daemon).await;
        let before = breaker.ready(&bench, "$P-sleeper").await;
        daemon.signal("KILL");
        let _killed = daemon.ended().await;
        // The broker notices the end at once. Then every delivery is back in the queue, or given up.
        let after = eventually("the consumer has ended", || async {
            let (left, dead) =
                (breaker.ready(&bench, "$P-sleeper").await, breaker.ready(&bench, "$P-sleeper.dlq").await);
            (left > before || dead > 0).then_some(left + dead)
        })
        .await;
        beside.push(after - before - 1);
    }
    assert!(beside.iter().any(|innocent| *innocent > 10), "it stood alone: the test shows nothing: {beside:?}");
    for queue in ["$P-sleeper", "$P-sleeper.dlq"] {
        assert_eq!(drain(&broker, &bench.queue(queue), 0).await.len(), 0, "{queue}");
    }
}

/// Checks the end of a run. `beside` is the number of deliveries beside the poison at each crash.
async fn finish(bench: &Bench, broker: &Broker, daemon: Daemon, beside: &[u32]) {
    let dead = drain(broker, &bench.queue("$P-sleeper.dlq"), 1).await;
    let given_up: BTreeSet<String> = dead.iter().map(id).collect();
    assert_eq!(given_up, BTreeSet::from(["poison".to_owned()]), "and no other event; beside it: {beside:?}");
    let out = taken(bench, broker, "$P-out", INNOCENT, |message| header(message, "trunkline-cause")).await;
    assert!(!causes(&out).contains("poison"));
    let held = of_route(bench, "trunkline_messages_in_flight", "sleeper");
    metric(&daemon, &held, |count| count == 0.0).await;
    assert!(daemon.terminate().await.success());
    println!("killed {} times, beside it: {beside:?}; {} repetitions", beside.len(), out.len() - INNOCENT);
}
