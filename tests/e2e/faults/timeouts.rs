//! B10: the broker is blocked for longer than its `consumer_timeout`. It closes the channel, and each held delivery is
//! redelivered once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use trunkline_support::eventually;
use trunkline_support::rabbitmq::RabbitmqNode;

use super::{Breaker, fill, header, id, settled, taken};
use crate::bench::{Bench, drain, metric};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "slept"
[routes.$P-sleeper]
from = "sleep"
plugin = "sleeper"
concurrency = 4
"#;
const CONCURRENCY: usize = 4;

/// At 160 a second.
const EVENTS: usize = 4_000;
const BEFORE: f64 = 100.0;
/// Checks every second instead of every minute, with a timeout of ten seconds instead of half an hour.
const IMPATIENT: &str =
    "application:set_env(rabbit, consumer_timeout, 10000), application:set_env(rabbit, channel_tick_interval, 1000).";
/// Longer than a confirm may take without an alarm; that deadline must not run during an alarm.
const BLOCKED: Duration = Duration::from_secs(33);

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_the_broker_closes_during_an_alarm_costs_one_redelivery() {
    let node = RabbitmqNode::start().expect("a private node");
    node.ctl(&["eval", IMPATIENT]).expect("it is set");
    let bench = Bench::on(node.url());
    let (broker, breaker) = (bench.open(ROUTES).await, Breaker::on(&bench).await);
    let daemon = bench.start(ROUTES).await;
    fill(&bench, &broker, "sleep", EVENTS, "25").await;
    let done = settled(&bench, "sleeper", "ack");
    metric(&daemon, &done, |count| count >= BEFORE).await;

    node.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]).expect("the limit is set");
    metric(&daemon, "trunkline_broker_blocked", |blocked| blocked == 1.0).await;
    let blocked = Instant::now();
    // The broker processes the messages in the socket after the alarm. The calls in progress end with one message each.
    let on_their_way = daemon.metric("trunkline_publish_unconfirmed") as usize + CONCURRENCY;
    let ready = breaker.ready(&bench, "$P-sleeper").await;
    let back = eventually("every delivery is back in the queue", || async {
        let now = breaker.ready(&bench, "$P-sleeper").await;
        (now > ready).then_some(now - ready)
    })
    .await;
    let closed = blocked.elapsed();
    // In two parts, each shorter than the patience of the tests.
    for part in [BLOCKED / 2, BLOCKED] {
        eventually("the alarm lasts", || async { (blocked.elapsed() >= part).then_some(()) }).await;
    }
    let before = daemon.metric(&done);
    node.ctl(&["set_vm_memory_high_watermark", "absolute", "4GiB"]).expect("the limit is set");

    let out = taken(&bench, &broker, "$P-out", EVENTS, |message| header(message, "trunkline-cause")).await;
    daemon.logged("timed out").await;
    let mut causes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in &out {
        causes.entry(header(message, "trunkline-cause")).or_default().push(id(message));
    }
    assert_eq!(causes.len(), EVENTS);
    let mut again = 0;
    for (cause, ids) in &causes {
        again += ids.len() - 1;
        assert!(ids.len() <= 2, "{cause} came more than once again: {ids:?}");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 1, "with the same id");
    }
    assert!((1..=on_their_way).contains(&again), "{again} came again, but {on_their_way} messages were on their way");
    assert_eq!(daemon.metric("trunkline_broker_reconnects_total"), 0.0, "it costs the route's channel, no session");
    assert!(daemon.terminate().await.success());
    for queue in ["$P-sleeper", "$P-sleeper.dlq", "$P-out"] {
        assert_eq!(drain(&broker, &bench.queue(queue), 0).await.len(), 0, "{queue}");
    }
    println!(
        "closed after {closed:.1?}, {back} back in the queue; {before} done before, {again} of {on_their_way} done twice"
    );
}
