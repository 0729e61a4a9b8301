//! Ten thousand events, with the daemon stopped or killed in the middle: every event has exactly one outcome.

use std::collections::{BTreeMap, BTreeSet};

use trunkline_broker::Broker;
use trunkline_event::Message;

use crate::bench::{Bench, drain, message, metric, on_both_brokers};

const EVENTS: usize = 10_000;
/// The event at which the daemon is stopped: late enough for full speed, early enough to leave work.
const STOP_AFTER: f64 = 1_500.0;

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }

[queues.$P-out]
owned = true
bind = "echoed"

# So that it is in the middle for a while.
[routes.$P-echo]
from = "in"
plugin = "echo"
rate = "2000/s"
"#;

async fn fill(bench: &Bench) {
    let broker = bench.open(ROUTES).await;
    let exchange = format!("{}-events", bench.prefix);
    for chunk in (0..EVENTS).collect::<Vec<_>>().chunks(500) {
        let batch = chunk.iter().map(|n| message(&exchange, "in", &format!("e{n}"), format!("{{\"n\":{n}}}")));
        drop(broker.publish(batch.collect::<Vec<_>>()).await.expect("confirmed"));
    }
    broker.close(trunkline_support::patience()).await;
}

/// Handles all events, with one stop of the daemon in the middle; gives the emissions.
async fn run(bench: &Bench, signal: &str) -> Vec<Message> {
    fill(bench).await;
    let settled = format!("trunkline_messages_settled_total{{route=\"{}-echo\",outcome=\"ack\"}}", bench.prefix);
    let first = bench.start(ROUTES).await;
    let before = metric(&first, &settled, |count| count >= STOP_AFTER).await;
    first.signal(signal);
    let status = first.ended().await;
    assert_eq!(status.code(), (signal == "TERM").then_some(0), "SIGTERM drains and exits 0");
    #[expect(clippy::cast_precision_loss, reason = "ten thousand")]
    let all = EVENTS as f64;
    assert!(before < all, "the daemon was done before it was stopped: the test shows nothing");

    let second = bench.start(ROUTES).await;
    let broker = if bench.is_embedded() {
        let waiting = |state| {
            format!("trunkline_queue_messages{{queue=\"{}-echo\",state=\"{state}\",role=\"work\"}}", bench.prefix)
        };
        metric(&second, &waiting("ready"), |count| count == 0.0).await;
        metric(&second, &waiting("unacknowledged"), |count| count == 0.0).await;
        assert!(second.terminate().await.success());
        bench.open(ROUTES).await
    } else {
        let broker = bench.open(ROUTES).await;
        return finish(bench, broker, Some(second)).await;
    };
    finish(bench, broker, None).await
}

async fn finish(bench: &Bench, broker: Broker, daemon: Option<trunkline_support::Daemon>) -> Vec<Message> {
    let mut out = drain(&broker, &bench.queue("$P-out"), EVENTS).await;
    if let Some(daemon) = daemon {
        // After a kill some emissions came twice.
        while by_cause(&out).len() < EVENTS {
            out.extend(drain(&broker, &bench.queue("$P-out"), 1).await);
        }
        assert!(daemon.terminate().await.success());
        out.extend(drain(&broker, &bench.queue("$P-out"), 0).await);
    }
    assert_eq!(drain(&broker, &bench.queue("$P-echo"), 0).await.len(), 0, "nothing is left in the input");
    assert_eq!(drain(&broker, &bench.queue("$P-echo.dlq"), 0).await.len(), 0, "nothing is dead");
    broker.close(trunkline_support::patience()).await;
    out
}

/// Emission ids by the id of the event that they follow from.
fn by_cause(out: &[Message]) -> BTreeMap<String, BTreeSet<String>> {
    let mut causes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for message in out {
        let properties = &message.properties;
        let cause = properties.headers.text("trunkline-cause").expect("a cause").to_owned();
        causes.entry(cause).or_default().insert(properties.message_id.clone().expect("an id"));
    }
    causes
}

async fn sigterm(bench: Bench) {
    let out = run(&bench, "TERM").await;
    assert_eq!(out.len(), EVENTS, "each event has one outcome, none twice");
    assert_eq!(by_cause(&out).len(), EVENTS);
}

async fn sigkill(bench: Bench) {
    let out = run(&bench, "KILL").await;
    let causes = by_cause(&out);
    assert_eq!(causes.len(), EVENTS, "none is lost");
    assert!(causes.values().all(|ids| ids.len() == 1), "a repetition has the same id");
    println!("{} repetitions after SIGKILL", out.len() - EVENTS);
}

on_both_brokers! {
    sigterm,
    sigkill,
}
