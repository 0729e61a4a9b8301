//! Clients that read or send almost nothing, on both brokers. They run at the same time, because each takes half a
//! minute.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;
use trunkline_support::{Daemon, eventually, patience};

use super::sse::{Client, ask};
use super::stream::PATH;
use crate::bench::{Bench, metric};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[hooks.$P-hook]
"#;

/// The size of an event, and the number of events: more than twice what a stream may hold.
const BIG_BYTES: usize = 900_000;
const EVENTS: usize = 400;
/// The limit for the memory of a client that reads nothing: RabbitMQ's deliveries ahead, the frames, and the
/// allocator's reserve.
const MEMORY_MAX: u64 = 160 << 20;
/// The listener's limit, and the extra time for two busy cores.
const PROMISED: Duration = Duration::from_secs(30);
const SLACK: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_answered_or_disconnected() {
    let (embedded, amqp) = (Bench::embedded(), Bench::amqp());
    let (one, other) = (Arc::new(embedded.start(ROUTES).await), Arc::new(amqp.start(ROUTES).await));
    let quiet = Client::open(&one, &format!("{PATH}?pattern=quiet"), None).becomes_ready().await;
    let mut clients = JoinSet::new();
    for path in ["/api/v1/events", "/api/v1/events/batch", &format!("/hooks/{}-hook", embedded.prefix)] {
        let (daemon, path) = (one.clone(), path.to_owned());
        clients.spawn_blocking(move || a_body_that_trickles_is_refused(&daemon, &path));
    }
    for (daemon, others) in [(one.clone(), 1.0), (other.clone(), 0.0)] {
        clients.spawn(async move { a_client_that_reads_nothing_is_disconnected(&daemon, others).await });
    }
    a_quiet_stream_is_kept_alive(&quiet).await;
    clients.join_all().await;
    drop(quiet);
    for daemon in [one, other] {
        // Another client, whose connection is full when the daemon stops.
        let stalled = ask(&daemon, &format!("{PATH}?pattern=big"), None);
        metric(&daemon, "trunkline_streams_open", |open| open == 1.0).await;
        publish(&daemon, 30);
        let daemon = Arc::into_inner(daemon).expect("all else has ended");
        let began = Instant::now();
        assert_eq!(daemon.terminate().await.code(), Some(0), "nothing is overdue");
        assert!(began.elapsed() < SLACK, "{:?}", began.elapsed());
        drop(stalled);
    }
}

/// A comment after each 15 s without an event.
async fn a_quiet_stream_is_kept_alive(client: &Client) {
    for count in [1, 2] {
        eventually("a comment", || {
            let came = (client.comments().len() >= count).then_some(());
            async move { came }
        })
        .await;
    }
    let (first, last) = (Duration::from_secs(14), Duration::from_secs(15) + SLACK);
    let comments = client.comments();
    assert!(comments.iter().all(|quiet| (first..last).contains(quiet)), "{comments:?}");
    assert!(client.events().is_empty() && client.of("gap").is_empty());
}

/// A body that arrives a byte at a time is refused.
fn a_body_that_trickles_is_refused(daemon: &Daemon, path: &str) {
    let address = daemon.url("").trim_start_matches("http://").to_owned();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n{{"
    );
    let (answer, took) = trickle(&address, &head);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let problem: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(problem["code"], "TL408", "{problem}");
    assert!((PROMISED..PROMISED + SLACK).contains(&took), "{took:?}");
}

/// Sends a space every half second until the connection ends; gives the answer and the time.
fn trickle(address: &str, head: &str) -> (String, Duration) {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_millis(500))).expect("set");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    while began.elapsed() < PROMISED + 2 * SLACK {
        let mut part = [0; 4096];
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(bytes) => answer.extend_from_slice(&part[..bytes]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let _broken = stream.write_all(b" ");
            }
            Err(_reset) => break,
        }
    }
    (String::from_utf8(answer).expect("a text"), began.elapsed())
}

async fn a_client_that_reads_nothing_is_disconnected(daemon: &Daemon, others: f64) {
    metric(daemon, "trunkline_streams_open", |open| open == others).await;
    let mut stalled = ask(daemon, &format!("{PATH}?pattern=big"), None);
    metric(daemon, "trunkline_streams_open", |open| open > others).await;
    let resting = resident_bytes(daemon);
    let mut held = 0;
    tokio::task::block_in_place(|| {
        for _ in 0..EVENTS / 40 {
            publish(daemon, 40);
            held = held.max(resident_bytes(daemon).saturating_sub(resting));
        }
    });
    println!("{} MiB for {EVENTS} events", held >> 20);
    assert!(held < MEMORY_MAX, "a client that takes nothing holds {} MiB", held >> 20);
    metric(daemon, "trunkline_streams_open", |open| open == others).await;
    // The connection is cut: neither ended in order nor kept open.
    stalled.set_read_timeout(Some(patience())).expect("set");
    let mut rest = Vec::new();
    let ended = tokio::task::block_in_place(|| stalled.read_to_end(&mut rest));
    assert!(!ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "the connection is still there");
    assert!(!rest.ends_with(b"\r\n0\r\n\r\n"), "it was ended as if all had been taken");
}

fn publish(daemon: &Daemon, count: usize) {
    let data = "x".repeat(BIG_BYTES);
    for _ in 0..count {
        let (status, answer) = daemon.post("/api/v1/events", &format!("{{\"type\":\"big\",\"data\":\"{data}\"}}"));
        assert_eq!(status, 202, "{answer}");
    }
}

fn resident_bytes(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}
