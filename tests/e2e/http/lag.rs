//! The amount that a stream keeps for its client: sent events that the client may not have seen, and events that arrive
//! while the client is away.

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

/// The body of an event that counts as one MiB of the lag.
const BIG_BYTES: usize = (1 << 20) - 2_000;
/// The events after the oldest kept one.
const KEPT: usize = 40;
/// The largest number of events that wait for an absent client.
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

/// A sent event is kept until 40 MiB were sent after it. A client whose last event is older gets a gap.
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
    // The oldest kept event, and the one before it.
    let within = &seen[EVENTS - 1 - KEPT].id;
    let client = Client::open(&daemon, PATH, Some(within)).becomes_ready().await;
    client.has(KEPT).await;
    assert_eq!((client.ids(), client.of("gap")), (numbered(EVENTS - KEPT..EVENTS), vec![]));
    client.cut();
    // A client without an event, or with an old one, gets a gap and then all kept events.
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

/// A client that reads nothing fills the sockets and the daemon's buffers with large events. All of them are sent
/// again.
async fn a_connection_holds_no_more_than_is_kept(bench: Bench) {
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
    // As many as fit.
    metric(&daemon, "trunkline_stream_events_total", |sent| sent >= 3.0).await;
    drop(stalled);
    let client = Client::open(&daemon, PATH, Some(&begin)).becomes_ready().await;
    client.has(EVENTS).await;
    assert_eq!((client.ids(), client.of("gap")), (numbered(0..EVENTS), vec![]));
    assert!(daemon.terminate().await.success());
}

/// More events arrive than are kept for an absent client. The oldest are dropped, and the client gets a gap when it
/// returns.
async fn dropped_events_leave_a_gap(bench: Bench) {
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
    // In a request of its own, so that it is the last.
    let newest = WAITING_MAX + MORE + 1;
    publish(&daemon, newest..newest + 1, "");
    let client = Client::open(&daemon, PATH, Some(&last)).becomes_ready().await;
    let gap = has_gap(&client, "overflow").await;
    assert!(gap.data["detail"].as_str().is_some_and(|detail| detail.contains("more events arrived")), "{gap:?}");
    client.has_come_to(&format!("e{newest}")).await;
    let ids: BTreeSet<String> = client.ids().into_iter().collect();
    assert_eq!(ids.len(), client.ids().len(), "none comes twice");
    // The embedded broker drops a thousand at a time.
    let lost = newest - ids.len();
    assert!((MORE / 4..=MORE + 5).contains(&lost), "{lost}");
    // The oldest are missing, and no event after them. The events of a batch are published side by side.
    assert!(numbered(MORE + BATCH + 2..newest).iter().all(|id| ids.contains(id)));
    // The client may get another gap for the same loss, because its last seen id is missing too.
    let others = client.of("gap").into_iter().filter(|gap| gap.data["reason"] != "overflow");
    assert!(others.clone().all(|gap| gap.data["reason"] == json!("passed")), "{:?}", others.collect::<Vec<_>>());
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    forty_mib_that_were_sent_are_kept,
    a_connection_holds_no_more_than_is_kept,
    dropped_events_leave_a_gap,
}
