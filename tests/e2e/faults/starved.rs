//! H13: almost no processor time. Work is late, and the daemon takes nothing for broken because of that.

use std::time::{Duration, Instant};

use trunkline_support::patience;

use super::cgroup::Group;
use super::{causes, handled, settled};
use crate::bench::{Bench, becomes_ready, drain, on_both_brokers};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
retry = { max = 0 }
[queues.$P-out]
bind = "echoed"
[routes.$P-echo]
from = "in"
plugin = "echo"
"#;

/// The share of one processor.
const PERCENT: u32 = 5;
/// After two silent heartbeats the broker closes the connection, and so does the daemon.
const HEARTBEAT_S: u64 = 6;
const FOR: Duration = Duration::from_secs(5 * HEARTBEAT_S);
const EVENTS_PER_PROBE: u32 = 10;
/// The limit for a probe: ten times the default of Kubernetes.
const PROBE_WITHIN: Duration = Duration::from_secs(10);

async fn hardly_any_processor_time_makes_late_and_nothing_else(mut bench: Bench) {
    if !bench.is_embedded() {
        bench.broker = format!("{}?heartbeat={HEARTBEAT_S}", bench.broker);
    }
    let group = Group::processors();
    let daemon = group.start(&bench, ROUTES).await.unwrap_or_else(|ended| panic!("{ended:?}"));
    becomes_ready(&daemon, true).await;
    handled(&daemon, "in", "before").await;
    group.starve(PERCENT);

    // As many events as the daemon accepts.
    let (began, mut sent, mut probed) = (Instant::now(), 0_u32, Duration::ZERO);
    while began.elapsed() < FOR {
        let body = serde_json::json!({ "type": "in", "id": format!("e{sent}"), "data": sent }).to_string();
        assert_eq!(daemon.post("/api/v1/events", &body).0, 202);
        sent += 1;
        if sent.is_multiple_of(EVENTS_PER_PROBE) {
            let asked = Instant::now();
            assert_eq!(daemon.get("/livez").0, 200);
            probed = probed.max(asked.elapsed());
        }
    }
    let throttled = group.starved();
    daemon.settled(&format!("e{}", sent - 1)).await;
    let late = began.elapsed().saturating_sub(FOR);
    println!(
        "{}: {sent} events on {PERCENT} % of a processor, out of its share {throttled} times; the last was settled \
         {late:.1?} after the end; a probe waited for at most {probed:.1?}",
        bench.broker
    );
    assert!(throttled > 20, "it was not starved: the test shows nothing");
    assert!(probed < PROBE_WITHIN, "{probed:?}");
    group.set("cpu.cfs_quota_us", "-1");
    for outcome in ["retry", "dead_letter"] {
        assert_eq!(daemon.metric(&settled(&bench, "echo", outcome)), 0.0, "{outcome}");
    }
    assert_eq!(daemon.metric("trunkline_broker_reconnects_total"), 0.0, "{}", daemon.log());
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    let all = usize::try_from(sent).expect("fits") + 1;
    let out = drain(&broker, &bench.queue("$P-out"), all).await;
    assert_eq!((out.len(), causes(&out).len()), (all, all), "each once");
    broker.close(patience()).await;
}

on_both_brokers! {
    hardly_any_processor_time_makes_late_and_nothing_else,
}
