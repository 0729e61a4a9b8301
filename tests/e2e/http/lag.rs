//! How much a stream keeps for its client: what is sent and may not have been seen, and what waits while it is away.

use std::collections::BTreeSet;

use serde_json::json;
use trunkline_support::{Daemon, eventually};

use super::sse::{Client, Sse, ask};
use super::stream::PATH;
use crate::bench::{Bench, metric, on_both_brokers};

const ROUTES: &str = r#"
[http]
max-body = "2MiB"
[defaults]
exchange = { name = "$P-events", type = "topic" }
"#;

/// One event that counts as a MiB of the lag, with what is around it.
const BIG_BYTES: usize = (1 << 20) - 2_000;
/// What was sent after the oldest that is kept.
const KEPT: usize = 40;
/// What waits for a client that is away.
const WAITING_MAX: usize = 50_000;
/// Events of one request.
const BATCH: usize = 200;

fn publish(daemon: &Daemon, events: std::ops::Range<usize>, data: &str) {
    let event = |n: usize| format!("{{\"type\":\"n\",\"id\":\"e{n}\",\"data\":\"{data}\"}}");
    let all: Vec<String> = events.map(event).collect();
    let (status, answer) = daemon.post("/api/v1/events/batch", &format!("{{\"events\":[{}]}}", all.join(",")));
    assert_eq!(status, 202, "{answer}");
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("e{n}")).collect()
}

async fn has_gap(client: &Client, reason: &str) -> Sse {
    eventually(&format!("the gap {reason:?}"), || {
        let found = client.of("gap").into_iter().find(|gap| gap.data["reason"] == reason);
        async move { found }
    })
    .await
}

/// What was sent is kept until 40 MiB were sent after it; who saw an older one last is told that something is missing.
async fn forty_mib_that_were_sent_are_kept(bench: Bench) {
    const EVENTS: usize = 60;
    let daemon = bench.start(ROUTES).await;
    let client = Client::open(&daemon, PATH, None).becomes_ready().await;
    let begin = client.last_id();
    for n in 0..EVENTS {
        publish(&daemon, n..n + 1, &"x".repeat(BIG_BYTES));
    }
    client.has(EVENTS).await;
    let seen = client.events();
    client.cut();
    // The oldest that is kept, and the one before it.
    let within = &seen[EVENTS - 1 - KEPT].id;
    let client = Client::open(&daemon, PATH, Some(within)).becomes_ready().await;
    client.has(KEPT).await;
    assert_eq!((client.ids(), client.of("gap")), (numbered(EVENTS - KEPT..EVENTS), vec![]));
    client.cut();
    // No event was seen, or one of long ago: all that is kept comes, after the notice.
    for too_old in [&begin, &seen[0].id, &seen[EVENTS - 3 - KEPT].id] {
        let client = Client::open(&daemon, PATH, Some(too_old)).becomes_ready().await;
        has_gap(&client, "passed").await;
        client.has_come_to(&format!("e{}", EVENTS - 1)).await;
        assert_eq!(client.of("ready")[0].data["resumed"], true);
        assert_eq!(client.ids(), numbered(EVENTS - 1 - KEPT..EVENTS), "{too_old}");
        assert_eq!(client.of("gap").len(), 1);
        client.cut();
    }
    assert!(daemon.terminate().await.success());
}

/// A client that takes nothing of large events has its sockets full of them, and the daemon some; all of it comes again.
async fn what_a_connection_holds_is_no_more_than_is_kept(bench: Bench) {
    const EVENTS: usize = 50;
    let daemon = bench.start(ROUTES).await;
    let client = Client::open(&daemon, PATH, None).becomes_ready().await;
    let begin = client.last_id();
    client.cut();
    let stalled = ask(&daemon, PATH, Some(&begin));
    metric(&daemon, "trunkline_streams_open", |open| open == 1.0).await;
    for n in 0..EVENTS {
        publish(&daemon, n..n + 1, &"x".repeat(BIG_BYTES));
    }
    // As many as there is room for.
    metric(&daemon, "trunkline_stream_events_total", |sent| sent >= 3.0).await;
    drop(stalled);
    let client = Client::open(&daemon, PATH, Some(&begin)).becomes_ready().await;
    client.has(EVENTS).await;
    assert_eq!((client.ids(), client.of("gap")), (numbered(0..EVENTS), vec![]));
    assert!(daemon.terminate().await.success());
}

/// More comes than is kept for a client that is away: the oldest go, and it is told when it comes back.
async fn what_does_not_fit_leaves_a_notice(bench: Bench) {
    const MORE: usize = 2_000;
    let daemon = bench.start(ROUTES).await;
    let client = Client::open(&daemon, PATH, None).becomes_ready().await;
    publish(&daemon, 0..1, "");
    client.has(1).await;
    let last = client.last_id();
    client.cut();
    metric(&daemon, "trunkline_streams_open", |open| open == 0.0).await;
    for first in (1..=WAITING_MAX + MORE).step_by(BATCH) {
        publish(&daemon, first..first + BATCH, "");
    }
    // By itself, so that it is the last.
    let newest = WAITING_MAX + MORE + 1;
    publish(&daemon, newest..newest + 1, "");
    let client = Client::open(&daemon, PATH, Some(&last)).becomes_ready().await;
    let gap = has_gap(&client, "overflow").await;
    assert!(gap.data["detail"].as_str().is_some_and(|detail| detail.contains("more events came")), "{gap:?}");
    client.has_come_to(&format!("e{newest}")).await;
    let ids: BTreeSet<String> = client.ids().into_iter().collect();
    assert_eq!(ids.len(), client.ids().len(), "none comes twice");
    // The embedded broker takes away a thousand at a time.
    let lost = newest - ids.len();
    assert!((MORE / 4..=MORE + 5).contains(&lost), "{lost}");
    // The oldest are gone, and behind them there is no hole. A batch is published side by side.
    assert!(numbered(MORE + BATCH + 2..newest).iter().all(|id| ids.contains(id)));
    // The other gap that the client may be told of is the same one: the last id that it has seen is gone too.
    let others = client.of("gap").into_iter().filter(|gap| gap.data["reason"] != "overflow");
    assert!(others.clone().all(|gap| gap.data["reason"] == json!("passed")), "{:?}", others.collect::<Vec<_>>());
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    forty_mib_that_were_sent_are_kept,
    what_a_connection_holds_is_no_more_than_is_kept,
    what_does_not_fit_leaves_a_notice,
}
