//! More connections than places: probes are answered, other clients get 503, and the daemon keeps the descriptors that
//! it needs. The threads of a burst end.

use std::collections::HashSet;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use trunkline_support::{Daemon, eventually};

use super::raw::{begun, connect, exchange, read};
use super::sse::Client;
use super::stream::PATH;
use crate::bench::{Bench, ECHO, metric, on_both_brokers, settled};

const DESCRIPTORS: usize = 1024;
const CLIENTS: usize = 5000;
/// The limit for a probe. Kubernetes gives up after a second, and this machine may be busy.
const PROBED_WITHIN: Duration = Duration::from_secs(3);
const PROBES: [&str; 7] =
    ["/livez", "/readyz", "/health", "/health/live", "/health/ready", "/health/rabbitmq", "/metrics"];

/// This process has both ends of the connections.
fn room_for_clients() {
    let limits = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(4 * CLIENTS).expect("few");
    if limits.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: limits.maximum.map_or(Some(wanted), |most| Some(most.min(wanted))), ..limits };
        setrlimit(Resource::Nofile, raised).expect("up to the hard limit it may be raised");
    }
    let current = getrlimit(Resource::Nofile).current;
    assert!(current.is_none_or(|current| current > 2 * CLIENTS as u64), "raise ulimit -n to {wanted}: {current:?}");
}

/// The number of a daemon's open descriptors.
fn descriptors(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("it runs").count()
}

fn probes_are_answered(daemon: &Daemon) {
    for path in PROBES {
        let began = Instant::now();
        let answer = exchange(daemon, &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"));
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(began.elapsed() < PROBED_WITHIN, "{path}: {:?}", began.elapsed());
    }
}

/// One client of each kind in turn: it sends nothing, never ends its request line, its headers or its body, or is
/// answered and keeps its connection.
fn hostile(daemon: &Daemon, number: usize) -> TcpStream {
    let text = match number % 5 {
        0 => "",
        1 => "GET /api/v1/gen",
        2 => "GET /api/v1/generation HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        3 => "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n{",
        _ => "GET /api/v1/generation HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    begun(daemon, text)
}

async fn probes_are_answered_among_thousands_of_clients(bench: Bench) {
    room_for_clients();
    let daemon = bench.start_by(&format!("ulimit -n {DESCRIPTORS}"), ECHO, &[]).await;
    daemon.runs().await;
    let before = descriptors(&daemon);
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(Client::open(&daemon, &format!("{PATH}?pattern=echoed"), None).becomes_ready().await);
    }
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(hostile(&daemon, number));
        if number % 500 == 499 {
            probes_are_answered(&daemon);
        }
    }
    let began = Instant::now();
    for _ in 0..10 {
        probes_are_answered(&daemon);
    }
    println!("{} probes among {CLIENTS} clients took {:?} in all", 10 * PROBES.len(), began.elapsed());
    let held = descriptors(&daemon);
    assert!(held <= before + DESCRIPTORS / 2, "{held} descriptors, {before} before");
    assert!(daemon.metric("trunkline_http_connections_turned_away_total") > 1000.0);
    // Existing streams and the broker's connection are not affected.
    assert!(streams.iter().all(|stream| stream.of("gap").is_empty()));
    assert_eq!(daemon.metric("trunkline_streams_open"), 20.0);
    assert_eq!(daemon.metric("trunkline_broker_reconnects_total"), 0.0);
    drop(clients);
    let event = json!({ "type": "in", "id": "after", "data": 1 }).to_string();
    eventually("a publish", || {
        let published = daemon.post("/api/v1/events", &event).0 == 202;
        async move { published.then_some(()) }
    })
    .await;
    metric(&daemon, &settled(&bench, "echo", "ack"), |count| count == 1.0).await;
    for stream in &streams {
        stream.has(1).await;
    }
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    probes_are_answered_among_thousands_of_clients,
}

/// Takes every place with bodies that never arrive.
fn take_every_place(daemon: &Daemon) -> Vec<TcpStream> {
    let slow = "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n{";
    (0..DESCRIPTORS).map(|_| begun(daemon, slow)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_a_place_get_503_and_silent_ones_are_disconnected() {
    room_for_clients();
    let bench = Bench::embedded();
    let daemon = bench.start_by(&format!("ulimit -n {DESCRIPTORS}"), ECHO, &[]).await;
    let slow = take_every_place(&daemon);
    probes_are_answered(&daemon);
    for text in ["GET /api/v1/generation HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /livez HTTP/1.1", "", "\r\n\r\n"] {
        let answer = read(begun(&daemon, text));
        assert_eq!((answer.status, &answer.problem()["code"]), (503, &json!("TL503")), "{text:?}: {answer:?}");
        let head = answer.head.to_lowercase();
        assert!(head.contains("retry-after: 1") && head.contains("connection: close"), "{answer:?}");
        assert!(answer.took < Duration::from_secs(4), "{text:?}: {:?}", answer.took);
    }
    // Only the request line makes a probe, and its connection is served once.
    for text in [
        "GET /livez HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.test\r\n\r\n",
    ] {
        assert_eq!(read(begun(&daemon, text)).status, 403, "{text:?}");
    }
    let twice =
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api/v1/generation HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = read(begun(&daemon, twice));
    assert_eq!((answer.status, answer.body.matches("HTTP/1.1").count()), (200, 0), "{answer:?}");
    let answer = read(begun(&daemon, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: "));
    assert!(answer.took < Duration::from_secs(4), "a slow probe is disconnected: {answer:?}");
    assert!(daemon.log().contains("the daemon refused an HTTP connection with the status 503"));
    drop(slow);
    assert!(daemon.terminate().await.success());
}

/// Connections that wait for their client's next request make room for clients with a request.
#[tokio::test(flavor = "multi_thread")]
async fn resting_connections_make_room() {
    room_for_clients();
    let bench = Bench::embedded();
    let daemon = bench.start_by(&format!("ulimit -n {DESCRIPTORS}"), ECHO, &[]).await;
    let request = "GET /api/v1/generation HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut resting = Vec::new();
    for number in 0..2 * DESCRIPTORS {
        let stream = begun(&daemon, request);
        let mut first = [0; 12];
        std::io::Read::read_exact(&mut &stream, &mut first).expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200", "client {number}");
        resting.push(stream);
    }
    assert_eq!(daemon.metric("trunkline_http_connections_turned_away_total"), 0.0);
    assert!(daemon.terminate().await.success());
}

/// Processor time of a process, in seconds.
fn processor_seconds(daemon: &Daemon) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks: f64 = fields.split(' ').skip(12).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum();
    ticks / 100.0
}

/// The descriptor limit that leaves a daemon a few free ones. Numbers between the open ones are free.
fn with_few_free(daemon: &Daemon) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("it runs");
    let open: HashSet<usize> = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    (0..).filter(|number| !open.contains(number)).nth(8).expect("some are free")
}

fn limit(daemon: &Daemon, descriptors: usize) {
    let pid = i32::try_from(daemon.pid()).expect("a pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    let current = Some(u64::try_from(descriptors).expect("few"));
    let limits = rustix::process::prlimit(Some(pid), Resource::Nofile, Rlimit { current, maximum: Some(4096) });
    limits.expect("the limit of a child is set");
}

/// No descriptor is left for a connection.
#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_probes_are_answered_and_nothing_spins() {
    const QUIET: Duration = Duration::from_secs(5);
    let bench = Bench::embedded();
    let daemon = bench.start_by("ulimit -n 4096", ECHO, &[]).await;
    daemon.runs().await;
    assert_eq!(daemon.get("/livez").0, 200);
    limit(&daemon, with_few_free(&daemon));
    let idle: Vec<TcpStream> = (0..50).map(|_| connect(&daemon)).collect();
    let condition = "trunkline_condition{condition=\"listener-failed\",subject=\"\"}";
    metric(&daemon, condition, |raised| raised == 1.0).await;
    let (before, began) = (processor_seconds(&daemon), Instant::now());
    let (mut probed, mut every) = (0, trunkline_telemetry::wait::every(Duration::from_millis(100)));
    while began.elapsed() < QUIET {
        let asked = Instant::now();
        assert_eq!(daemon.get("/livez").0, 200);
        assert!(asked.elapsed() < PROBED_WITHIN, "{:?}", asked.elapsed());
        probed += 1;
        every.tick().await;
    }
    let taken = processor_seconds(&daemon) - before;
    assert!(taken < QUIET.as_secs_f64() / 4.0, "{taken} s of processor time for {probed} probes");
    drop(idle);
    limit(&daemon, 4096);
    metric(&daemon, condition, |raised| raised == 0.0).await;
    assert!(daemon.terminate().await.success());
}

const SENDERS: usize = 32;
/// Threads of the pool that may stay, for work that comes every second.
const THREADS_AT_REST: usize = 6;

/// The number of the runtime's threads, its pool of blocking threads included.
fn runtime_threads(daemon: &Daemon) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("tokio-rt")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_threads_of_a_burst_end() {
    let bench = Bench::embedded();
    // Dedupe records are read in the pool of blocking threads.
    let daemon = bench.start(&format!("{ECHO}dedupe = \"10m\"\n")).await;
    daemon.runs().await;
    let most = std::thread::scope(|scope| {
        let send = |sender: usize| {
            let daemon = &daemon;
            scope.spawn(move || {
                for number in 0..20 {
                    let event = json!({ "type": "in", "id": format!("{sender}-{number}"), "data": 1 }).to_string();
                    assert_eq!(daemon.post("/api/v1/events", &event).0, 202);
                }
                runtime_threads(daemon)
            })
        };
        let senders: Vec<_> = (0..SENDERS).map(send).collect();
        senders.into_iter().map(|sender| sender.join().expect("it ends")).max()
    });
    let allowed = std::thread::available_parallelism().map_or(1, usize::from) + THREADS_AT_REST;
    println!("{most:?} threads during the burst; {allowed} may stay");
    eventually("the threads of the burst end", || {
        let threads = runtime_threads(&daemon);
        async move { (threads <= allowed).then_some(()) }
    })
    .await;
    assert!(daemon.terminate().await.success());
}
