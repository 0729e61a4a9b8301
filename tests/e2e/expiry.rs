//! W4: a message's own TTL holds through retries and turns of tenants, and its dead letter can be redriven (N5).

use std::time::{Duration, Instant};

use trunkline_broker::Publication;
use trunkline_support::eventually;

use crate::bench::{Bench, drain, message, metric, on_both_brokers, settled};
use crate::redrive::move_back;

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
retry = { max = 5, delay = "1s", multiplier = 2, jitter = false }
[queues.$P-out]
bind = ["managed", "echoed"]
[routes.$P-once]
from = "once"
plugin = "$PLUGIN"
"#;

fn routes(plugin: &str, keys: &str) -> String {
    ROUTES.replace("$PLUGIN", plugin) + keys
}

/// The TTL. The embedded broker gets the messages before the daemon starts, so the TTL is longer than a start.
const TTL_MS: u32 = 12_000;

/// A message with its own TTL.
fn expiring(bench: &Bench, id: &str, body: &'static str) -> Publication {
    let mut expiring = message(&format!("{}-events", bench.prefix), "once", id, body);
    expiring.message_mut().properties.expiration = Some(TTL_MS.to_string());
    expiring
}

/// Publishes before the daemon starts, because the embedded broker has one user at a time.
async fn publish(bench: &Bench, routes: &str, messages: Vec<Publication>) {
    let broker = bench.open(routes).await;
    drop(broker.publish(messages).await.expect("confirmed"));
    broker.close(trunkline_support::patience()).await;
}

/// The counter of dead letters with this reason.
fn dead(bench: &Bench, reason: &str) -> String {
    format!("trunkline_dead_letters_total{{route=\"{}-once\",reason=\"{reason}\"}}", bench.prefix)
}

/// The plugin fails for ever. The route would retry for 31 s.
async fn a_ttl_holds_through_retries(bench: Bench) {
    let retries = routes("retrier", "");
    // The other event succeeds at its third attempt, after 3 s.
    let lasting = message(&format!("{}-events", bench.prefix), "once", "e-2", "3");
    publish(&bench, &retries, vec![expiring(&bench, "e-1", "99"), lasting]).await;
    let daemon = bench.start(&retries).await;
    metric(&daemon, &settled(&bench, "once", "ack"), |count| count == 1.0).await;
    metric(&daemon, &dead(&bench, "expired"), |count| count == 1.0).await;
    assert_eq!(daemon.metric(&dead(&bench, "exhausted")), 0.0);
    assert!(daemon.terminate().await.success());

    // The letter is put back as it is. It has no TTL any more, and its attempts begin anew.
    let works = routes("echo", "");
    assert_eq!(move_back(&bench, &works, 1).await.len(), 1);
    let daemon = bench.start(&works).await;
    metric(&daemon, &settled(&bench, "once", "ack"), |count| count == 1.0).await;
    let redriven = format!("trunkline_redriven_total{{route=\"{}-once\"}}", bench.prefix);
    assert_eq!((daemon.metric(&redriven), daemon.metric(&dead(&bench, "expired"))), (1.0, 0.0));
    assert!(daemon.terminate().await.success());
}

/// The headers of an expired letter give its reason and its TTL.
async fn an_expired_letter_has_its_ttl(bench: Bench) {
    let retries = routes("retrier", "");
    publish(&bench, &retries, vec![expiring(&bench, "e-1", "99")]).await;
    let daemon = bench.start(&retries).await;
    metric(&daemon, &dead(&bench, "expired"), |count| count == 1.0).await;
    assert!(daemon.terminate().await.success());
    let broker = bench.open(&retries).await;
    let letters = drain(&broker, &bench.queue("$P-once.dlq"), 1).await;
    broker.close(trunkline_support::patience()).await;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    let headers = &letter.properties.headers;
    assert_eq!(headers.text("trunkline-reason"), Some("expired"));
    assert_eq!((headers.get("trunkline-expires"), &letter.properties.expiration), (None, &None));
    assert_eq!(headers.text("trunkline-kept-expiration"), Some(&*TTL_MS.to_string()));
    assert!(headers.int("trunkline-attempt").is_some_and(|attempt| attempt > 1), "the first attempt was in time");
    let error = headers.text("trunkline-error").unwrap_or_default();
    assert!(error.contains("the TTL of the message ended before attempt"), "{error}");
}

/// One event a second may begin. The last turns are after the TTL, and no event waits for them.
async fn a_ttl_holds_while_a_tenant_waits(bench: Bench) {
    const EVENTS: u32 = 50;
    let limited = routes("echo", "tenant = { by = \"attributes.org\", rate = \"1/s\" }\n");
    let events = (0..EVENTS).map(|n| {
        let mut event = expiring(&bench, &format!("e-{n}"), "1");
        event.message_mut().properties.headers.set("org", "one");
        event
    });
    publish(&bench, &limited, events.collect()).await;
    let (daemon, begun) = (bench.start(&limited).await, Instant::now());
    let (acknowledged, expired) = (settled(&bench, "once", "ack"), dead(&bench, "expired"));
    eventually("the end of every event", || {
        let ends = daemon.metric(&acknowledged) + daemon.metric(&expired);
        async move { (ends == f64::from(EVENTS)).then_some(()) }
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(40), "an event waited for its turn: {:?}", begun.elapsed());
    let ends = (daemon.metric(&acknowledged), daemon.metric(&expired));
    assert!(ends.0 >= 1.0 && ends.1 >= 10.0, "{} handled, {} expired", ends.0, ends.1);
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    a_ttl_holds_through_retries,
    an_expired_letter_has_its_ttl,
    a_ttl_holds_while_a_tenant_waits,
}
