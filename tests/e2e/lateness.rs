//! How late delayed events are: at most 1 % of the delay or 100 ms, whichever is more, on an idle machine.
//!
//! The machine of a test is hardly ever idle, so the best of several counts, and the others are printed.

use std::time::Duration;

use serde_json::{Value, json};
use trunkline_support::Daemon;

use crate::bench::{Bench, on_both_brokers};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[routes.$P-delays]
from = "in"
plugin = "delayer"
[routes.$P-takes]
from = "later"
plugin = "echo"
"#;

/// Milliseconds; the levels of RabbitMQ have 25 ms, and eight of their bits count.
const DELAYS: [u64; 6] = [500, 1_000, 1_700, 2_600, 5_100, 10_000];

fn bound(delay: Duration) -> Duration {
    (delay / 100).max(Duration::from_millis(100))
}

fn at(line: &Value) -> jiff::Timestamp {
    line["timestamp"].as_str().and_then(|text| text.parse().ok()).expect("every line has its time")
}

/// From the moment at which the emission was with the broker to the moment at which the next plugin had run on it, less
/// the delay. An early one is an error.
async fn lateness(daemon: &Daemon, id: &str, sent: jiff::Timestamp, delay: Duration) -> Duration {
    let emitting = daemon.settled(id).await;
    let emitted: Value = serde_json::from_str(emitting["emitted"].as_str().expect("a list")).expect("JSON");
    let taking = daemon.settled(emitted[0]["id"].as_str().expect("an id")).await;
    let took = at(&taking).duration_since(at(&emitting)).unsigned_abs();
    // The log tells the emission some time after it was published, on a busy machine a long time. So what is early is
    // measured from before its event was sent.
    let since = at(&taking).duration_since(sent).unsigned_abs();
    assert!(since >= delay, "{id} came after {since:?}, before its time");
    took.saturating_sub(delay)
}

async fn delayed_events_are_hardly_late(bench: Bench) {
    const ROUNDS: usize = 6;
    let daemon = bench.start(ROUTES).await;
    // On RabbitMQ the first delayed event makes the levels.
    let send = |id: &str, ms: u64| {
        let body = json!({ "type": "in", "id": id, "data": ms }).to_string();
        let sent = jiff::Timestamp::now();
        assert_eq!(daemon.post("/api/v1/events", &body).0, 202);
        sent
    };
    let _sent = send("warm", 1);
    daemon.settled("warm").await;
    let mut best = [Duration::MAX; DELAYS.len()];
    for round in 0..ROUNDS {
        let name = |ms: u64| format!("{round}-{ms}");
        let sent = DELAYS.map(|ms| send(&name(ms), ms));
        let mut all = Vec::new();
        for ((ms, sent), best) in DELAYS.iter().zip(sent).zip(&mut best) {
            let late = lateness(&daemon, &name(*ms), sent, Duration::from_millis(*ms)).await;
            *best = late.min(*best);
            all.push(late);
        }
        println!("{}: late after {DELAYS:?} ms: {all:?}", bench.broker);
        if DELAYS.iter().zip(best).all(|(ms, best)| best <= bound(Duration::from_millis(*ms))) {
            assert!(daemon.terminate().await.success());
            return;
        }
    }
    panic!("best of {ROUNDS} after {DELAYS:?} ms: {best:?} late");
}

on_both_brokers! {
    delayed_events_are_hardly_late,
}
