//! A hundred swaps a second under load: none fails, no event is lost, and all emissions of an event have one digest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use trunkline_broker::{Confirmed, Publication};
use trunkline_event::{ExchangeName, Message, Properties, RoutingKey};

use super::{Plugins, number, start};
use crate::bench::{Bench, drain, metric, on_both_brokers, settled};

const ROUTES: &str = r#"
plugin-dir = "$D"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = ["echoed"]
[routes.$P-in]
from = "in"
plugin = "echo"
concurrency = 8
"#;

/// The duration in seconds. Published figures have `TRUNKLINE_SWAP_SECONDS=60`.
fn seconds() -> u64 {
    std::env::var("TRUNKLINE_SWAP_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

const EVENTS_PER_SECOND: u64 = 2000;
const SWAPS_PER_SECOND: u64 = 100;
const EMISSIONS: usize = 3;

fn event(bench: &Bench, number: u64) -> Publication {
    let mut properties =
        Properties { message_id: Some(format!("e-{number}")), kind: Some("in".into()), ..Properties::default() };
    properties.headers.set("emit", EMISSIONS.to_string());
    let message = Message {
        exchange: ExchangeName::new(format!("{}-events", bench.prefix)).expect("a name"),
        routing_key: RoutingKey::new("in").expect("a key"),
        properties,
        body: bytes::Bytes::from_static(b"body"),
    };
    Publication::now(message)
}

/// Every event has all its emissions.
fn check(out: &[Message], events: usize) {
    let mut by_cause: BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for message in out {
        let headers = &message.properties.headers;
        let cause = headers.text("trunkline-cause").expect("a cause");
        let digest = headers.text("trunkline-plugin-digest").expect("a digest");
        let id = message.properties.message_id.as_deref().expect("an id");
        by_cause.entry(cause).or_default().entry(digest).or_default().insert(id);
    }
    let digests: BTreeSet<&str> = by_cause.values().flat_map(BTreeMap::keys).copied().collect();
    assert_eq!(digests.len(), 2, "both versions ran: {digests:?}");
    let mixed = by_cause.values().filter(|digests| digests.len() != 1).count();
    let partial = by_cause.values().flat_map(BTreeMap::values).filter(|ids| ids.len() != EMISSIONS).count();
    assert_eq!((by_cause.len(), mixed, partial, out.len()), (events, 0, 0, events * EMISSIONS));
}

async fn a_hundred_swaps_a_second_fail_nothing_and_mix_nothing(bench: Bench) {
    let plugins = Plugins::new(&bench);
    plugins.put("echo", "picky", "a");
    let daemon = start(&bench, ROUTES).await;
    let versions = [super::marked("picky", "a"), super::marked("picky", "b")];
    let (seconds, url) = (seconds(), daemon.url("/api/v1/reload"));
    let swapping = std::thread::spawn(move || {
        let (began, mut swapped, mut count) = (Instant::now(), 0_u64, 0_u64);
        let agent = ureq::Agent::new_with_defaults();
        while began.elapsed() < Duration::from_secs(seconds) {
            plugins.put_bytes("echo", &versions[usize::try_from(count % 2).expect("0 or 1")]);
            let mut answer = agent.post(&url).send_empty().expect("no swap is refused");
            swapped += u64::from(answer.body_mut().read_to_string().expect("a text").contains("swapped"));
            count += 1;
            // At fixed times, so that the swaps after a slow one are faster.
            trunkline_telemetry::wait::block(
                (began + Duration::from_millis(count * 1000 / SWAPS_PER_SECOND))
                    .saturating_duration_since(Instant::now()),
            );
        }
        (swapped, began.elapsed())
    });
    let sent = send(&bench, &daemon, seconds).await;
    let (swapped, took) = swapping.join().expect("no swap failed");
    // Any time with progress.
    let mut done = 0.0;
    while done < sent as f64 {
        done = metric(&daemon, &settled(&bench, "in", "ack"), |count| count > done).await;
    }
    let rate = swapped as f64 / took.as_secs_f64();
    let (events, generation) = (sent as f64 / took.as_secs_f64(), number(&daemon));
    println!(
        "{}: {swapped} swaps in {took:?} ({rate:.0}/s), {sent} events ({events:.0}/s), generation {generation}",
        bench.broker
    );
    for outcome in ["retry", "dead_letter"] {
        assert_eq!(daemon.metric(&settled(&bench, "in", outcome)), 0.0, "{outcome}");
    }
    assert_eq!(daemon.metric("trunkline_config_reloads_total{result=\"refused\"}"), 0.0);
    assert!(daemon.terminate().await.success());
    let broker = bench.open(&super::text(&bench, ROUTES)).await;
    let sent = usize::try_from(sent).expect("fits");
    let out = drain(&broker, &bench.queue("$P-out"), sent * EMISSIONS).await;
    broker.close(trunkline_support::patience()).await;
    check(&out, sent);
    assert!(rate >= SWAPS_PER_SECOND as f64 / 2.0, "{rate:.0} swaps a second");
}

/// Publishes at the rate: on RabbitMQ with a client of its own, on the embedded broker over HTTP.
async fn send(bench: &Bench, daemon: &trunkline_support::Daemon, seconds: u64) -> u64 {
    let began = Instant::now();
    let mut sent = 0;
    if bench.is_embedded() {
        return send_by_http(daemon, seconds).await;
    }
    let broker = bench.open(&super::text(bench, ROUTES)).await;
    while began.elapsed() < Duration::from_secs(seconds) {
        let batch = (0..EVENTS_PER_SECOND / 20).map(|more| event(bench, sent + more)).collect::<Vec<_>>();
        sent += batch.len() as u64;
        let receipt = broker.publish(batch).await.expect("published");
        assert!(receipt.confirmed().iter().all(|fate| *fate == Confirmed::Routed));
        trunkline_telemetry::wait::until(began + Duration::from_millis(sent * 1000 / EVENTS_PER_SECOND)).await;
    }
    broker.close(trunkline_support::patience()).await;
    sent
}

/// Sixteen clients with one connection each.
async fn send_by_http(daemon: &trunkline_support::Daemon, seconds: u64) -> u64 {
    const CLIENTS: u64 = 16;
    let url = daemon.url("/api/v1/events");
    let clients = (0..CLIENTS).map(|client| {
        let url = url.clone();
        tokio::task::spawn_blocking(move || {
            let agent = ureq::Agent::new_with_defaults();
            let (began, mut sent) = (Instant::now(), 0_u64);
            while began.elapsed() < Duration::from_secs(seconds) {
                let body = serde_json::json!({
                    "type": "in", "id": format!("e-{client}-{sent}"), "data": 1,
                    "attributes": { "emit": EMISSIONS.to_string() },
                });
                let answer = agent.post(&url).header("content-type", "application/json").send(body.to_string());
                assert_eq!(answer.expect("taken").status(), 202);
                sent += 1;
                let due = began + Duration::from_millis(sent * 1000 * CLIENTS / EVENTS_PER_SECOND);
                trunkline_telemetry::wait::block(due.saturating_duration_since(Instant::now()));
            }
            sent
        })
    });
    let mut all = 0;
    for client in clients.collect::<Vec<_>>() {
        all += client.await.expect("every publish is taken");
    }
    all
}

on_both_brokers! {
    a_hundred_swaps_a_second_fail_nothing_and_mix_nothing,
}
