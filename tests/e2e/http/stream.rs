//! `GET /api/v1/events/stream` on both brokers: matching events, resumption, and slow clients.

use serde_json::json;
use trunkline_support::{Daemon, eventually};

use super::sse::{Client, ask};
use crate::bench::{Bench, becomes_ready, binary, metric, on_both_brokers};

const ROUTES: &str = r##"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[exchanges]
$P-direct = { type = "direct" }
[queues.$P-all]
bind = "#"
"##;

pub const PATH: &str = "/api/v1/events/stream";

fn publish(daemon: &Daemon, kind: &str, id: &str) {
    publish_data(daemon, kind, id, "{\"n\": 1,\n\"t\": \"é\"}");
}

fn publish_data(daemon: &Daemon, kind: &str, id: &str, data: &str) {
    let body = format!("{{\"type\":\"{kind}\",\"id\":\"{id}\",\"organizationId\":\"org-1\",\"data\":{data}}}");
    let (status, answer) = daemon.post("/api/v1/events", &body);
    assert_eq!(status, 202, "{answer}");
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("e{n}")).collect()
}

async fn matching_events_are_streamed_and_no_consumer_loses_one(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    let narrow = Client::open(&daemon, &format!("{PATH}?pattern=a.*,b.%23&pattern=c"), None).becomes_ready().await;
    let all = Client::open(&daemon, PATH, None).becomes_ready().await;
    for (kind, id) in [("a.x", "1"), ("a.x.y", "2"), ("b", "3"), ("b.q.r", "4"), ("c", "5"), ("d", "6")] {
        publish(&daemon, kind, id);
    }
    all.has(6).await;
    narrow.has(4).await;
    assert_eq!(all.ids(), ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(narrow.ids(), ["1", "3", "4", "5"]);
    let first = &all.events()[0].data;
    assert_eq!(first["data"], json!({ "n": 1, "t": "é" }));
    let exchange = format!("{}-events", bench.prefix);
    assert_eq!((&first["type"], &first["routing_key"]), (&json!("a.x"), &json!("a.x")));
    assert_eq!((&first["tenant"], &first["exchange"]), (&json!("org-1"), &json!(exchange)));
    assert_eq!((&first["content_type"], &first["attributes"]), (&json!("application/json"), &json!({})));
    assert_eq!(metric(&daemon, "trunkline_streams_open", |open| open == 2.0).await, 2.0);
    narrow.cut();
    metric(&daemon, "trunkline_streams_open", |open| open == 1.0).await;
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    assert_eq!(crate::bench::drain(&broker, &bench.queue("$P-all"), 6).await.len(), 6);
}

async fn a_client_that_comes_back_goes_on_where_it_was(bench: Bench) {
    const EVENTS: usize = 400;
    let daemon = bench.start(ROUTES).await;
    let mut client = Client::open(&daemon, &format!("{PATH}?pattern=n"), None).becomes_ready().await;
    let mut seen = Vec::new();
    let mut published = 0;
    while published < EVENTS {
        for n in published..published + 40 {
            publish(&daemon, "n", &format!("e{n}"));
        }
        published += 40;
        // Some events have arrived, perhaps not all: the rest is lost with the connection.
        client.has(published.min(20)).await;
        let events = client.events();
        let last = events.last().expect("some").id.clone();
        seen.extend(events.iter().map(|event| event.data["id"].as_str().expect("an id").to_owned()));
        // Events that arrive in between count as unread.
        let known = seen.len();
        client.cut();
        publish(&daemon, "other", "x");
        client = Client::open(&daemon, &format!("{PATH}?pattern=n"), Some(&last)).becomes_ready().await;
        assert_eq!(client.of("ready")[0].data["resumed"], true);
        client.has(published - known).await;
    }
    seen.extend(client.ids());
    assert_eq!(client.of("gap"), []);
    assert_eq!(seen, numbered(0..EVENTS), "in order, none lost, and none twice where the last id is known");
    assert!(daemon.terminate().await.success());
}

async fn a_stream_outlives_the_daemon(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    let client = Client::open(&daemon, PATH, None).becomes_ready().await;
    for n in 0..20 {
        publish(&daemon, "n", &format!("e{n}"));
    }
    client.has(20).await;
    let after_ten = client.events()[9].id.clone();
    assert!(daemon.terminate().await.success());
    client.has_ended().await;

    // An orderly end, and then a kill. Events are published before the client returns.
    let daemon = bench.start(ROUTES).await;
    for n in 20..30 {
        publish(&daemon, "n", &format!("e{n}"));
    }
    let client = Client::open(&daemon, &format!("{PATH}?last-event-id={after_ten}"), None).becomes_ready().await;
    client.has(20).await;
    assert_eq!(client.ids(), numbered(10..30));
    let last = client.last_id();
    daemon.signal("KILL");
    let _killed = daemon.ended().await;
    client.has_ended().await;

    let daemon = bench.start(ROUTES).await;
    publish(&daemon, "n", "e30");
    let client = Client::open(&daemon, PATH, Some(&last)).becomes_ready().await;
    client.has(1).await;
    assert_eq!(client.ids(), ["e30"]);
    assert_eq!(client.of("gap"), []);
    assert!(daemon.terminate().await.success());
}

/// The client reads nothing: the buffers of its socket and of the daemon fill, and the rest waits in its queue.
async fn a_slow_reader_loses_nothing_and_delays_no_other(bench: Bench) {
    const EVENTS: usize = 3_000;
    let daemon = bench.start(ROUTES).await;
    let quick = Client::open(&daemon, PATH, None).becomes_ready().await;
    let first = Client::open(&daemon, PATH, None).becomes_ready().await;
    let begin = first.last_id();
    first.cut();
    let slow = ask(&daemon, PATH, Some(&begin));
    metric(&daemon, "trunkline_streams_open", |open| open == 2.0).await;
    let data = format!("\"{}\"", "x".repeat(2_000));
    let mut work = tokio::task::JoinSet::new();
    let daemon = std::sync::Arc::new(daemon);
    for worker in 0..4 {
        let (daemon, data) = (daemon.clone(), data.clone());
        work.spawn_blocking(move || {
            for n in (worker..EVENTS).step_by(4) {
                publish_data(&daemon, "n", &format!("e{n}"), &data);
            }
        });
    }
    work.join_all().await;
    quick.has(EVENTS).await;
    drop(slow);
    let again = Client::open(&daemon, PATH, Some(&begin)).becomes_ready().await;
    again.has(EVENTS).await;
    assert_eq!(again.ids(), quick.ids(), "both in the order of the broker");
    assert_eq!(again.of("gap"), []);
}

async fn invalid_stream_requests_are_refused(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    let client = Client::open(&daemon, &format!("{PATH}?pattern=a"), None).becomes_ready().await;
    let last = client.last_id();
    for (query, words) in [
        ("?patern=a", "the query parameter \"patern\" does not exist"),
        ("?exchange=nowhere", "no exchange \"nowhere\""),
        ("?pattern=", "`pattern` is empty"),
        ("?last-event-id=x", "is not an id of a Trunkline stream"),
        (&format!("?pattern=b&last-event-id={last}"), "other patterns"),
        (&format!("?exchange={}-direct", bench.prefix), "has the type direct"),
    ] {
        let (status, problem) = Client::open(&daemon, &format!("{PATH}{query}"), None).refused().await;
        assert_eq!((status, &problem["code"]), (400, &json!("TL400")), "{query}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{query}: {problem}");
    }
    // A stream that has expired is reported as a gap, and starts again.
    let gone = format!("{}{}", "0".repeat(32), &last[32..]);
    let again = Client::open(&daemon, &format!("{PATH}?pattern=a"), Some(&gone)).becomes_ready().await;
    eventually("the gap", || {
        let found = again.of("gap").first().cloned();
        async move { found.filter(|gap| gap.data["reason"] == "expired") }
    })
    .await;
    assert_eq!(again.of("ready")[0].data["resumed"], false);

    let mut open = vec![client, again];
    while open.len() < 64 {
        open.push(Client::open(&daemon, PATH, None).becomes_ready().await);
    }
    let (status, problem) = Client::open(&daemon, PATH, None).refused().await;
    assert_eq!((status, &problem["code"]), (503, &json!("TL503")), "{problem}");
    open.pop().expect("one").cut();
    metric(&daemon, "trunkline_streams_open", |open| open == 63.0).await;
    open.push(Client::open(&daemon, PATH, None).becomes_ready().await);
    assert_eq!(daemon.terminate().await.code(), Some(0), "64 open streams hold no shutdown");
}

on_both_brokers! {
    matching_events_are_streamed_and_no_consumer_loses_one,
    a_client_that_comes_back_goes_on_where_it_was,
    a_stream_outlives_the_daemon,
    a_slow_reader_loses_nothing_and_delays_no_other,
    invalid_stream_requests_are_refused,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_at_another_daemon_while_its_old_connection_hangs() {
    let bench = Bench::amqp();
    let one = bench.start(ROUTES).await;
    let file = bench.write_routes(ROUTES);
    let other = Daemon::start(binary(), &file, &bench.path("other"), &bench.broker).await.expect("it starts");
    becomes_ready(&other, true).await;
    let old = Client::open(&one, PATH, None).becomes_ready().await;
    for n in 0..10 {
        publish(&one, "n", &format!("e{n}"));
    }
    old.has(10).await;
    let after_five = old.events()[4].id.clone();
    let new = Client::open(&other, PATH, Some(&after_five)).becomes_ready().await;
    new.has(5).await;
    for n in 10..20 {
        publish(&one, "n", &format!("e{n}"));
    }
    new.has(15).await;
    assert_eq!(new.ids(), numbered(5..20));
    old.has_ended().await;
    assert_eq!(old.ids(), numbered(0..10), "the old connection took nothing more");
    assert!(one.terminate().await.success());
    assert!(other.terminate().await.success());
}

/// The broker goes away and returns. The client keeps its connection, and no confirmed event is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlives_a_session_with_the_broker() {
    let node = trunkline_support::rabbitmq::RabbitmqNode::start().expect("a private node");
    let bench = Bench::on(node.url());
    let daemon = bench.start(ROUTES).await;
    becomes_ready(&daemon, true).await;
    let client = Client::open(&daemon, PATH, None).becomes_ready().await;
    for n in 0..10 {
        publish(&daemon, "n", &format!("e{n}"));
    }
    client.has(10).await;
    node.ctl(&["close_all_connections", "test"]).expect("they close");
    for n in 10..20 {
        let body = format!("{{\"type\":\"n\",\"id\":\"e{n}\",\"data\":1}}");
        eventually("a confirm", || {
            let confirmed = (daemon.post("/api/v1/events", &body).0 == 202).then_some(());
            async move { confirmed }
        })
        .await;
    }
    client.has_come_to("e19").await;
    let mut ids = client.ids();
    ids.dedup();
    assert_eq!(ids, numbered(0..20));
    assert_eq!(client.of("gap"), []);
    assert!(daemon.terminate().await.success());
}

/// N2: the queue of a stream is temporary, so an event that only a stream gets is not routed. RabbitMQ does not say which queue got
/// an event.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_only_a_stream_gets_is_not_routed() {
    let bench = Bench::embedded();
    let daemon = bench.start(&ROUTES.replace("bind = \"#\"", "bind = \"kept.#\"")).await;
    let routed = |kind: &str| {
        let (status, answer) = daemon.post("/api/v1/events", &json!({ "type": kind, "data": 1 }).to_string());
        assert_eq!(status, 202, "{answer}");
        answer["routed"] == true
    };
    let client = Client::open(&daemon, PATH, None).becomes_ready().await;
    assert_eq!((routed("heard"), routed("kept.x")), (false, true));
    client.has(2).await;
    client.cut();
    metric(&daemon, "trunkline_streams_open", |open| open == 0.0).await;
    assert!(!routed("heard"), "the queue of the stream stays for a while");
    let series = |result: &str| {
        let exchange = format!("{}-events", bench.prefix);
        format!("trunkline_events_published_total{{route=\"api\",exchange=\"{exchange}\",result=\"{result}\"}}")
    };
    assert_eq!((daemon.metric(&series("unroutable")), daemon.metric(&series("confirmed"))), (2.0, 1.0));
    assert!(daemon.terminate().await.success());
}
