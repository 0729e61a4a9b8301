//! F6: the broker takes back deliveries that a route holds and does not start, because its `rate` is used up or its
//! circuit is open.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use trunkline_support::eventually;
use trunkline_support::rabbitmq::RabbitmqNode;

use super::{causes, fill, header, settled, taken};
use crate::bench::{Bench, drain, metric};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "echoed"
[routes.$P-rated]
from = "in"
plugin = "echo"
rate = "30/m"
"#;

/// Half of them start at once, and then one every two seconds.
const EVENTS: usize = 50;
/// Checks every second instead of every minute, with a timeout of ten seconds instead of half an hour.
const IMPATIENT: &str =
    "application:set_env(rabbit, consumer_timeout, 10000), application:set_env(rabbit, channel_tick_interval, 1000).";

#[tokio::test(flavor = "multi_thread")]
async fn events_that_wait_for_their_turn_are_taken_back_and_handled_once() {
    let node = RabbitmqNode::start().expect("a private node");
    node.ctl(&["eval", IMPATIENT]).expect("it is set");
    let bench = Bench::on(node.url());
    let broker = bench.open(ROUTES).await;
    let daemon = bench.start(ROUTES).await;
    fill(&bench, &broker, "in", EVENTS, "x").await;
    let out = taken(&bench, &broker, "$P-out", EVENTS, |message| header(message, "trunkline-cause")).await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for message in &out {
        *counts.entry(header(message, "trunkline-cause")).or_default() += 1;
    }
    assert_eq!(causes(&out).len(), EVENTS);
    // RabbitMQ closes the channel, or from version 4.3 on cancels the consumer.
    daemon.logged("timed out").await;
    // A repeat would come after the events, at the rate.
    let rest = Instant::now();
    eventually("nothing comes any more", || async { (rest.elapsed() >= Duration::from_secs(10)).then_some(()) }).await;
    for message in drain(&broker, &bench.queue("$P-out"), 0).await {
        *counts.entry(header(&message, "trunkline-cause")).or_default() += 1;
    }
    let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    // Work in progress when the channel is closed is done twice. At this rate that is at most one event.
    let closed = daemon.log().lines().filter(|line| line.contains("timed out")).count();
    assert!(doubled.len() <= closed, "{} of {EVENTS} came more than once, {closed} closed: {doubled:?}", doubled.len());
    println!("{} of {EVENTS} twice, at {closed} channels that the broker closed", doubled.len());
    metric(&daemon, &settled(&bench, "rated", "ack"), |count| count >= EVENTS as f64).await;
    assert_eq!(daemon.metric("trunkline_broker_reconnects_total"), 0.0, "it costs the route's channel, no session");
    assert!(daemon.terminate().await.success());
}

const BROKEN: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[routes.$P-storm]
from = "in"
plugin = "retrier"
retry = { max = 0 }
circuit = { failures = 2, window = "5m", pause = "25s" }
concurrency = 4
"#;

#[tokio::test(flavor = "multi_thread")]
async fn events_behind_an_open_circuit_are_taken_back_and_handled_once() {
    const EACH: usize = 20;
    let node = RabbitmqNode::start().expect("a private node");
    node.ctl(&["eval", IMPATIENT]).expect("it is set");
    let bench = Bench::on(node.url());
    let broker = bench.open(BROKEN).await;
    let daemon = bench.start(BROKEN).await;
    // Failing events open the circuit, and good events wait behind them.
    fill(&bench, &broker, "in", 4, "99").await;
    metric(&daemon, "trunkline_circuit_state{route=\"$P-storm\"}".replace("$P", &bench.prefix).as_str(), |open| {
        open == 1.0
    })
    .await;
    let exchange = format!("{}-events", bench.prefix);
    let batch = (0..EACH).map(|n| crate::bench::message(&exchange, "in", &format!("good{n}"), "1"));
    drop(broker.publish(batch.collect::<Vec<_>>()).await.expect("confirmed"));
    metric(&daemon, &settled(&bench, "storm", "ack"), |count| count >= EACH as f64).await;
    assert_eq!(daemon.metric(&settled(&bench, "storm", "ack")), EACH as f64, "each once");
    assert_eq!(daemon.metric(&settled(&bench, "storm", "dead_letter")), 4.0);
    assert!(daemon.terminate().await.success());
    assert_eq!(drain(&broker, &bench.queue("$P-storm"), 0).await.len(), 0);
}
