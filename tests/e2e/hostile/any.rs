//! Every message can be dead-lettered: events and outcomes with every part at and beyond its limit. Each has exactly
//! one outcome within ten seconds, and a good event beside them is not late.

mod events;
mod outcomes;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fastrand::Rng;
use trunkline_event::Message;

use super::{Producer, a_good_one_goes_on, is_well};
use crate::bench::{Bench, drain, metric, on_both_brokers, settled};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
retry = { max = 0 }
[queues.$P-echoed]
bind = "echoed"
[queues.$P-seen]
bind = "seen"
[routes.$P-good]
from = "good"
plugin = "echo"
emit = { key = "{type}", unroutable = "accept" }
[routes.$P-echo]
from = "echo.#"
plugin = "echo"
[routes.$P-witness]
from = "witness.#"
plugin = "witness"
[routes.$P-rejecter]
from = "rejecter.#"
plugin = "rejecter"
[routes.$P-trapper]
from = "trapper.#"
plugin = "trapper"
[routes.$P-performer]
from = "performer.#"
plugin = "performer"
emit = { key = "performed", unroutable = "accept" }
"#;
/// Routes whose events have any form. Only the performer's events have any outcome.
const ANY_EVENT: [&str; 4] = ["echo", "witness", "rejecter", "trapper"];
const EVENTS_EACH: usize = 40;
const OUTCOMES: usize = 80;
const SEED: u64 = 13;
/// The limit for the outcome of each message.
const SOON: Duration = Duration::from_secs(10);
const REASONS: [&str; 8] = ["rejected", "invalid", "trap", "timeout", "memory", "exhausted", "unroutable", "too-large"];

/// A message for one of the routes. The last word of its key is unique.
struct Case {
    route: &'static str,
    message: Message,
}

fn cases(bench: &Bench, seed: u64) -> Vec<Case> {
    let exchange = format!("{}-events", bench.prefix);
    // A foreign client sends all its headers in one frame; the daemon's own client sends less.
    let headers_max = if bench.is_embedded() { 60_000 } else { 100_000 };
    let mut random = Rng::with_seed(seed);
    let mut cases = Vec::new();
    for route in ANY_EVENT {
        cases.extend(
            (0..EVENTS_EACH).map(|_| Case { route, message: events::any(&exchange, route, headers_max, &mut random) }),
        );
    }
    let outcomes = (0..OUTCOMES).map(|_| outcomes::any(&exchange, "performer", &mut random));
    cases.extend(outcomes.map(|message| Case { route: "performer", message }));
    random.shuffle(&mut cases);
    cases
}

async fn every_message_has_one_end(bench: Bench) {
    // Each run has the same messages, unless a seed is given.
    let given = std::env::var("TRUNKLINE_TEST_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    println!("seed {seed}");
    let cases = cases(&bench, seed);
    let broker = bench.open(ROUTES).await;
    if bench.is_embedded() {
        for case in &cases {
            let publication = trunkline_broker::Publication::now(case.message.copy());
            let published = broker.publish(vec![publication]).await;
            drop(published.unwrap_or_else(|error| panic!("{error}: {:?}", case.message.properties)));
        }
    } else {
        let producer = Producer::on(&bench).await;
        for case in &cases {
            let (properties, body) = events::on_the_wire(&case.message);
            producer.publish(case.message.routing_key.as_str(), properties, &body).await;
        }
    }
    broker.close(trunkline_support::patience()).await;
    drop(broker);

    let daemon = bench.start(ROUTES).await;
    let begun = Instant::now();
    let ends = |route: &str| {
        ["ack", "dead_letter"].map(|outcome| daemon.metric(&settled(&bench, route, outcome))).iter().sum::<f64>()
    };
    for route in ANY_EVENT.into_iter().chain(["performer"]) {
        a_good_one_goes_on(&daemon, "good").await;
        let count = cases.iter().filter(|case| case.route == route).count();
        let ended = trunkline_support::eventually(route, || {
            let found = Some(ends(route)).filter(|ended| *ended >= count as f64);
            async move { found }
        });
        assert_eq!(ended.await, count as f64, "{route}: each has one end");
    }
    assert!(begun.elapsed() < SOON, "within ten seconds: {:?}", begun.elapsed());
    metric(&daemon, &settled(&bench, "good", "ack"), |count| count == ANY_EVENT.len() as f64 + 1.0).await;
    for route in ANY_EVENT.into_iter().chain(["performer"]) {
        assert_eq!(daemon.metric(&settled(&bench, route, "retry")), 0.0, "{route}: nothing is tried again");
    }
    let acked = ["echo", "witness"].map(|route| daemon.metric(&settled(&bench, route, "ack")) as usize);
    let dead = |route| daemon.metric(&settled(&bench, route, "dead_letter")) as usize;
    let dead: Vec<(&str, usize)> =
        ANY_EVENT.into_iter().chain(["performer"]).map(|route| (route, dead(route))).collect();
    is_well(&daemon);
    assert!(daemon.terminate().await.success());

    let broker = bench.open(ROUTES).await;
    for (route, count) in dead {
        let letters = drain(&broker, &bench.queue(&format!("$P-{route}.dlq")), count).await;
        assert_eq!(letters.len(), count, "{route}: each letter once");
        let keys: BTreeSet<_> =
            letters.iter().filter_map(|dead| dead.properties.headers.text("trunkline-source-key")).collect();
        assert_eq!(keys.len(), count, "{route}: each dead letter has its original key");
        for letter in &letters {
            let reason = letter.properties.headers.text("trunkline-reason").unwrap_or_default();
            assert!(REASONS.contains(&reason), "{reason}");
        }
        assert!(drain(&broker, &bench.queue(&format!("$P-{route}")), 0).await.is_empty(), "{route}: nothing is left");
    }
    for (queue, count) in [("$P-echoed", acked[0]), ("$P-seen", acked[1])] {
        let emitted = drain(&broker, &bench.queue(queue), count).await;
        let least = if queue == "$P-seen" { emitted.len() == count } else { emitted.len() >= count };
        assert!(least, "{queue}: {} for {count} events", emitted.len());
    }
    broker.close(trunkline_support::patience()).await;
}

on_both_brokers!(every_message_has_one_end);
