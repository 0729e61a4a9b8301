//! Sessions that end too often are reported, although each one is healthy. One refused message ends no session, and neither
//! do delay queues that cannot be made. A queue that does not answer ends one session only.

use serde_json::{Value, json};
use trunkline_support::eventually;
use trunkline_support::rabbitmq::RabbitmqNode;

use super::condition;
use super::relay::Relay;
use crate::bench::{Bench, ECHO, becomes_ready, metric};

const FLAPS: &str = "trunkline_condition{condition=\"session-flapping\",subject=\"\"}";
const JAMMED: &str = "trunkline_condition{condition=\"delay-relay-jammed\",subject=\"\"}";

fn session(daemon: &trunkline_support::Daemon) -> u64 {
    let health: Value = serde_json::from_str(&daemon.get("/health/rabbitmq").1).expect("JSON");
    health["session"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_three_sessions_that_end_in_a_minute_are_reported() {
    let relay = Relay::start(&trunkline_support::rabbitmq::url()).await;
    let bench = Bench::on(relay.url("guest:guest", "%2f"));
    let daemon = bench.start(ECHO).await;
    becomes_ready(&daemon, true).await;
    for ended in 1..=4 {
        assert_eq!(condition(&daemon, "session-flapping"), None, "after {} sessions", ended - 1);
        relay.cut();
        eventually("the next session", || {
            let is_there = session(&daemon) > ended && daemon.get("/readyz").0 == 200;
            async move { is_there.then_some(()) }
        })
        .await;
    }
    let detail = condition(&daemon, "session-flapping").expect("four sessions ended");
    assert!(detail.starts_with("more than 3 sessions with the broker ended within a minute"), "{detail}");
    assert_eq!((daemon.get("/readyz").0, daemon.get("/health").0), (200, 503), "connected, and not well");
    metric(&daemon, FLAPS, |raised| raised == 1.0).await;
    assert!(daemon.terminate().await.success());
}

/// F11: the broker closes the channel of a refused message. Frames that lapin queued for that channel must not reach
/// the broker, which would answer them with an error of the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_among_many_ends_no_session() {
    const ROUNDS: usize = 5;
    let node = RabbitmqNode::start().expect("a private node");
    node.ctl(&["add_user", "worker", "worker"]).expect("a user");
    node.ctl(&["set_permissions", "worker", ".*", ".*", ".*"]).expect("permissions");
    let bench = Bench::on(node.url().replacen("guest:guest", "worker:worker", 1));
    let daemon = bench.start(ECHO).await;
    becomes_ready(&daemon, true).await;
    let exchange = format!("{}-events", bench.prefix);
    let allowed = "^(in|echoed)$";
    node.ctl(&["set_topic_permissions", "worker", &exchange, allowed, ".*"]).expect("topic permissions");
    for round in 0..ROUNDS {
        // The key is different each time, because a key that was refused before is published alone.
        let events = (0..100).map(|n| {
            let kind = if n == 50 { format!("forbidden-{round}") } else { "in".to_owned() };
            json!({ "type": kind, "id": format!("{round}-{n}"), "data": n })
        });
        let (_, answer) =
            daemon.post("/api/v1/events/batch", &json!({ "events": events.collect::<Vec<_>>() }).to_string());
        let results = answer["results"].as_array().expect("results").clone();
        assert_eq!(results.len(), 100, "{answer}");
        for (n, result) in results.iter().enumerate() {
            assert_eq!(result["status"], if n == 50 { 403 } else { 202 }, "{round}-{n}: {result}");
        }
    }
    assert_eq!((session(&daemon), daemon.metric("trunkline_broker_reconnects_total")), (1, 0.0));
    assert!(daemon.terminate().await.success());
}

/// F12: while most nodes of a cluster are down, RabbitMQ ends the connection that declares a new quorum queue, such as a delay
/// queue. The relay ends the connection here. Routes go on, and the daemon makes the delay queues as soon as it can.
#[tokio::test(flavor = "multi_thread")]
async fn delay_queues_that_cannot_be_made_end_no_session() {
    const TRIES: usize = 3;
    let host = trunkline_support::rabbitmq::virtual_host();
    let (_, vhost) = host.rsplit_once('/').expect("a virtual host");
    let relay = Relay::start(&host).await;
    // A daemon takes this lock before it makes a delay queue.
    relay.refuse(&["trunkline.delay.lock"]);
    let bench = Bench::on(relay.url("guest:guest", vhost));
    let daemon = bench.start(ECHO).await;
    becomes_ready(&daemon, true).await;
    eventually("some tries", || {
        let has_tried = relay.refused() >= TRIES;
        async move { has_tried.then_some(()) }
    })
    .await;
    let (status, accepted) = daemon.post("/api/v1/events", r#"{"type":"in","id":"beside","data":1}"#);
    assert_eq!(status, 202, "{accepted}");
    assert_eq!(daemon.settled("beside").await["outcome"], "ack");
    daemon.logged("the daemon cannot consume delayed messages that are due").await;
    metric(&daemon, JAMMED, |raised| raised == 1.0).await;
    relay.refuse(&[]);
    metric(&daemon, JAMMED, |raised| raised == 0.0).await;
    assert_eq!((session(&daemon), daemon.metric("trunkline_broker_reconnects_total")), (1, 0.0));
    assert!(daemon.terminate().await.success());
}

/// While most nodes of a cluster are down, RabbitMQ 3.10 ends each connection that begins to consume a quorum queue or gets a
/// message of it. The relay ends the connections here. One session ends, because the daemon cannot know the state of the queue.
/// The next session goes on, and the daemon asks the queue on separate connections.
#[tokio::test(flavor = "multi_thread")]
async fn due_messages_that_cannot_be_consumed_end_one_session() {
    const TRIES: usize = 4;
    // The methods `basic.consume` and `basic.get` with the queue of due messages.
    const CONSUME: &str = "\0<\0\x14\0\0\x13trunkline.delay.due";
    const GET: &str = "\0<\0F\0\0\x13trunkline.delay.due";
    let host = trunkline_support::rabbitmq::virtual_host();
    let (_, vhost) = host.rsplit_once('/').expect("a virtual host");
    let relay = Relay::start(&host).await;
    relay.refuse(&[CONSUME, GET]);
    let bench = Bench::on(relay.url("guest:guest", vhost));
    let daemon = bench.start(ECHO).await;
    eventually("some tries", || {
        let has_tried = relay.refused() >= TRIES;
        async move { has_tried.then_some(()) }
    })
    .await;
    becomes_ready(&daemon, true).await;
    let (status, accepted) = daemon.post("/api/v1/events", r#"{"type":"in","id":"beside","data":1}"#);
    assert_eq!(status, 202, "{accepted}");
    assert_eq!(daemon.settled("beside").await["outcome"], "ack");
    daemon.logged("queue trunkline.delay.due: the queue does not answer").await;
    metric(&daemon, JAMMED, |raised| raised == 1.0).await;
    relay.refuse(&[]);
    metric(&daemon, JAMMED, |raised| raised == 0.0).await;
    assert_eq!((session(&daemon), daemon.metric("trunkline_broker_reconnects_total")), (2, 1.0));
    assert!(daemon.terminate().await.success());
}

/// A session ends while the relay publishes a retry that is due. RabbitMQ delivers the retry to the next session, so the daemon
/// neither postpones the retry nor reports it as refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_postpones_no_retry() {
    const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-out]
bind = "managed"
[routes.$P-again]
from = "again"
plugin = "retrier"
retry = { max = 4, delay = "100ms", jitter = false }
"#;
    const ENDS: usize = 3;
    let host = trunkline_support::rabbitmq::virtual_host();
    let (_, vhost) = host.rsplit_once('/').expect("a virtual host");
    let relay = Relay::start(&host).await;
    let bench = Bench::on(relay.url("guest:guest", vhost));
    let queue = bench.queue("$P-again");
    // The method `basic.publish` with the default exchange and the queue. Only the relay of the daemon publishes to the queue.
    let length = char::from(u8::try_from(queue.as_str().len()).expect("a short name"));
    let publish = format!("\0<\0(\0\0\0{length}{queue}");
    let daemon = bench.start(ROUTES).await;
    becomes_ready(&daemon, true).await;
    relay.refuse(&[&publish]);
    let (status, accepted) = daemon.post("/api/v1/events", r#"{"type":"again","id":"e-1","data":2}"#);
    assert_eq!(status, 202, "{accepted}");
    eventually("sessions that end", || {
        let have_ended = relay.refused() >= ENDS;
        async move { have_ended.then_some(()) }
    })
    .await;
    relay.refuse(&[]);
    assert_eq!(daemon.settled("e-1").await["outcome"], "ack");
    let log = daemon.log();
    assert!(!log.contains("the broker did not accept a delayed message that is due"), "{log}");
    metric(&daemon, JAMMED, |raised| raised == 0.0).await;
    assert!(daemon.terminate().await.success());
}

const WITH_FATAL: &str = r#"
[queues.fatal]
bind = "fatal-key"
"#;

fn refused(daemon: &trunkline_support::Daemon) -> Vec<String> {
    let health: Value = serde_json::from_str(&daemon.get("/health/rabbitmq").1).expect("JSON");
    let refused = health["refused"].as_array().expect("a list").iter();
    refused.map(|text| text.as_str().expect("a text").to_owned()).collect()
}

/// A broker may end the connection of a declaration instead of refusing it. One session ends for it. The next session counts the
/// part as refused, and the routes run.
#[tokio::test(flavor = "multi_thread")]
async fn a_binding_whose_declaration_ends_the_connection_ends_one_session() {
    let host = trunkline_support::rabbitmq::virtual_host();
    let (_, vhost) = host.rsplit_once('/').expect("a virtual host");
    let relay = Relay::start(&host).await;
    relay.refuse(&["fatal-key"]);
    let bench = Bench::on(relay.url("guest:guest", vhost));
    let daemon = bench.start(&format!("{ECHO}{WITH_FATAL}")).await;
    becomes_ready(&daemon, true).await;
    let told = refused(&daemon);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("queue fatal, binding") && told[0].contains("ended the connection"), "{told:?}");
    assert_eq!((session(&daemon), relay.refused()), (2, 2));
    let (status, accepted) = daemon.post("/api/v1/events", r#"{"type":"in","id":"beside","data":1}"#);
    assert_eq!(status, 202, "{accepted}");
    assert_eq!(daemon.settled("beside").await["outcome"], "ack");

    // The next session makes the binding.
    relay.refuse(&[]);
    relay.cut();
    eventually("the binding", || {
        let is_made = session(&daemon) == 3 && refused(&daemon).is_empty();
        async move { is_made.then_some(()) }
    })
    .await;
    assert!(daemon.terminate().await.success());
}
