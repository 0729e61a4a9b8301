//! Archive routes over a kill of the daemon, and `trunkline replay`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trunkline_support::{Daemon, eventually};

use crate::bench::{Bench, binary, metric, on_both_brokers, settled};
use crate::foreign::modules_with;

const ROUTES: &str = r##"
    [defaults]
    exchange = { name = "$P-events", type = "topic" }
    [queues.$P-all]
    bind = "#"
    [routes.$P-history]
    queue = "$P-all"
    archive = { dir = "archive", max-file = "64KiB" }
    [routes.$P-echo]
    from = "in.#"
    plugin = "echo"
"##;

/// Posts events `first..end`; gives the ids of the confirmed ones.
fn post(daemon: &Daemon, numbers: std::ops::Range<u32>) -> Vec<String> {
    let event = |number: u32| {
        let key = if number.is_multiple_of(2) { "in.even" } else { "in.odd" };
        json!({ "id": format!("e-{number}"), "type": "made", "routing_key": key, "organizationId": "org-1",
                "attributes": { "place": number.to_string() }, "data": { "number": number, "text": "ä \u{1f600}" } })
    };
    let mut confirmed = Vec::new();
    for number in numbers {
        let (status, answer) = daemon.post("/api/v1/events", &event(number).to_string());
        assert_eq!(status, 202, "{answer}");
        confirmed.push(format!("e-{number}"));
    }
    confirmed
}

/// Runs `trunkline replay` of the archive; gives its exit code and its counts.
fn replay(bench: &Bench, daemon: &Daemon, more: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(binary());
    command.args(["replay", &format!("{}-history", bench.prefix), "--format", "json", "--url", &daemon.url("")]);
    command.arg("--config").arg(bench.path("routes.toml")).args(more);
    let output = command.output().expect("runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let done = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    (output.status.code(), done)
}

async fn confirmed_events_are_archived_and_replayed(bench: Bench) {
    const EVENTS: u32 = 400;
    let mut daemon = bench.start(ROUTES).await;
    let mut ids = post(&daemon, 0..EVENTS / 2);
    // The daemon is killed while it writes and acknowledges.
    daemon.signal("KILL");
    assert!(!daemon.ended().await.success());
    daemon = bench.start(ROUTES).await;
    ids.extend(post(&daemon, EVENTS / 2..EVENTS));
    for route in ["history", "echo"] {
        metric(&daemon, &settled(&bench, route, "ack"), |count| count >= f64::from(EVENTS / 2)).await;
    }
    // All inputs and all echoes. An event that was archived twice has one id.
    let all = eventually("everything in the archive", || {
        let (code, done) = replay(&bench, &daemon, &["--dry-run"]);
        assert_eq!(code, Some(0), "{done}");
        let is_whole = done["published"] == 2 * EVENTS;
        async move { is_whole.then_some(done) }
    })
    .await;
    assert_eq!(all["refused"], 0, "{all}");
    let (_, odd) = replay(&bench, &daemon, &["--dry-run", "--key", "in.odd"]);
    assert_eq!(odd["published"], EVENTS / 2);
    let (_, none) = replay(&bench, &daemon, &["--dry-run", "--until", "2020-01-01T00:00:00Z"]);
    assert_eq!((&none["published"], none["skipped"].as_u64() >= Some(u64::from(EVENTS))), (&json!(0), true));

    let echoed = daemon.metric(&settled(&bench, "echo", "ack"));
    let (code, done) = replay(&bench, &daemon, &["--key", "in.even", "--new-ids", "again", "--rate", "1000/s"]);
    assert_eq!((code, &done["published"]), (Some(0), &json!(EVENTS / 2)), "{done}");
    metric(&daemon, &settled(&bench, "echo", "ack"), |count| count >= echoed + f64::from(EVENTS / 2)).await;
    let files = files(&bench.path("archive"));
    assert!(files.iter().all(|file| file.to_string_lossy().ends_with(".jsonl.gz")), "{files:?}");
    // Any tool can read the files.
    let text = Command::new("zcat").args(&files).output().expect("zcat runs");
    let lines = String::from_utf8_lossy(&text.stdout).into_owned();
    let first = lines.lines().find(|line| line.contains("\"id\":\"e-7\"")).expect("it is there");
    let line: Value = serde_json::from_str(first).expect("JSON");
    assert_eq!(line["data"], json!({ "number": 7, "text": "ä \u{1f600}" }));
    assert_eq!((&line["routing_key"], &line["organizationId"]), (&json!("in.odd"), &json!("org-1")));
    assert_eq!(line["attributes"]["place"], "7");
    assert!(ids.iter().all(|id| lines.contains(&format!("\"id\":\"{id}\""))));
    assert!(daemon.terminate().await.success());
}

/// An event that was addressed to a queue is replayed there only where clients may name queues; a dry run says so too.
async fn events_addressed_to_a_queue_need_a_key_for_replay(bench: Bench) {
    const OPEN: &str = "[http]\nreserved = true\n";
    let mut daemon = bench.start(&format!("{OPEN}{ROUTES}")).await;
    let queue = bench.queue("$P-all");
    // The data `null` is not the same as no data.
    let event =
        json!({ "id": "straight", "type": "made", "exchange": "", "routing_key": queue.as_str(), "data": null });
    let (status, answer) = daemon.post("/api/v1/events", &event.to_string());
    assert_eq!((status, &answer["routed"]), (202, &json!(true)), "{answer}");
    metric(&daemon, &settled(&bench, "history", "ack"), |count| count >= 1.0).await;
    for (routes, code, published, refused) in
        [(ROUTES.to_owned(), Some(1), 0, 1), (format!("{OPEN}{ROUTES}"), Some(0), 1, 0)]
    {
        // A change of `[http]` needs a restart.
        assert!(daemon.terminate().await.success());
        daemon = bench.start(&routes).await;
        for more in [&["--dry-run"][..], &["--new-ids", "again"]] {
            let (ended, done) = replay(&bench, &daemon, more);
            let found = (ended, &done["published"], &done["refused"]);
            assert_eq!(found, (code, &json!(published), &json!(refused)), "{more:?}: {done}");
        }
    }
    metric(&daemon, &settled(&bench, "history", "ack"), |count| count >= 1.0).await;
    assert!(daemon.terminate().await.success());
}

/// F19: a queue has no room. The events wait for room, and none is skipped.
async fn events_wait_until_a_full_queue_has_room(bench: Bench) {
    const EVENTS: u32 = 10;
    const FULL: &str = r##"
        [defaults]
        exchange = { name = "$P-events", type = "topic" }
        [queues.$P-all]
        bind = "in.#"
        [queues.$P-full]
        bind = "in.#"
        type = "classic"
        max-length = 10
        overflow = "reject-publish"
        [routes.$P-history]
        queue = "$P-all"
        archive = { dir = "archive", max-file = "64KiB" }
    "##;
    const DRAIN: &str = r#"
        [routes.$P-drain]
        queue = "$P-full"
        plugin = "echo"
        emit = { key = "unbound" }
    "#;
    let daemon = bench.start(FULL).await;
    post(&daemon, 0..EVENTS);
    metric(&daemon, &settled(&bench, "history", "ack"), |count| count >= f64::from(EVENTS)).await;
    let log = bench.path("replay.log");
    let mut command = Command::new(binary());
    command.args(["replay", &format!("{}-history", bench.prefix), "--format", "json", "--new-ids", "again"]);
    command.args(["--url", &daemon.url("")]).arg("--config").arg(bench.path("routes.toml"));
    command.stdout(Stdio::piped()).stderr(std::fs::File::create(&log).expect("a file"));
    let mut running = command.spawn().expect("runs");
    let told = || std::fs::read_to_string(&log).expect("a text");
    eventually("it waits, or gave up", || {
        let has_met_it = !told().is_empty() || running.try_wait().expect("it can be asked").is_some();
        async move { has_met_it.then_some(()) }
    })
    .await;
    bench.write_routes(&(FULL.to_owned() + DRAIN));
    assert_eq!(daemon.post("/api/v1/reload", "").0, 200);
    let output = tokio::task::spawn_blocking(move || running.wait_with_output()).await.expect("waited").expect("ends");
    let done: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let counts = (output.status.code(), &done["published"], &done["refused"]);
    assert_eq!(counts, (Some(0), &json!(EVENTS), &json!(0)), "{}", told());
    assert!(told().contains("waiting:"), "{}", told());
    metric(&daemon, &settled(&bench, "drain", "ack"), |count| count >= f64::from(2 * EVENTS)).await;
    assert!(daemon.terminate().await.success());
}

/// While the folder cannot be written, no event is acknowledged, lost or dead-lettered.
async fn a_folder_that_is_in_the_way_holds_the_route(bench: Bench) {
    std::fs::write(bench.path("archive"), "in the way").expect("a file");
    let daemon = bench.start(ROUTES).await;
    post(&daemon, 0..20);
    metric(&daemon, "trunkline_archive_failures_total", |_| true).await;
    let failures = format!("trunkline_archive_failures_total{{route=\"{}-history\"}}", bench.prefix);
    metric(&daemon, &failures, |count| count >= 3.0).await;
    let lines = daemon.log().matches("the archive cannot be written").count();
    assert_eq!(lines, 1, "one line a minute: {}", daemon.log());
    assert!(daemon.metric(&settled(&bench, "history", "ack")) < 0.5);
    std::fs::remove_file(bench.path("archive")).expect("removable");
    metric(&daemon, &settled(&bench, "history", "ack"), |count| count >= 40.0).await;
    assert!(daemon.metric(&settled(&bench, "history", "dead_letter")) < 0.5);
    assert!(daemon.terminate().await.success());
}

/// A reload with another folder does not wait for the folder that cannot be written. The waiting events go back to the
/// broker untried, and the route starts again.
async fn a_reload_with_another_folder_repairs_a_route_at_once(bench: Bench) {
    std::fs::write(bench.path("archive"), "in the way").expect("a file");
    let daemon = bench.start(ROUTES).await;
    post(&daemon, 0..20);
    let failures = format!("trunkline_archive_failures_total{{route=\"{}-history\"}}", bench.prefix);
    metric(&daemon, &failures, |count| count >= 2.0).await;
    bench.write_routes(&ROUTES.replace("dir = \"archive\"", "dir = \"elsewhere\""));
    let began = Instant::now();
    let (status, answer) = daemon.post("/api/v1/reload", "");
    assert_eq!(status, 200, "{answer}");
    metric(&daemon, &settled(&bench, "history", "ack"), |count| count >= 40.0).await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}: it waited for the old folder", began.elapsed());
    for outcome in ["retry", "dead_letter"] {
        assert!(daemon.metric(&settled(&bench, "history", outcome)) < 0.5, "{outcome}");
    }
    let (code, done) = replay(&bench, &daemon, &["--dry-run"]);
    assert_eq!((code, &done["published"]), (Some(0), &json!(40)), "{done}");

    // The end of the daemon does not wait for the grace either.
    std::fs::write(bench.path("third"), "in the way").expect("a file");
    bench.write_routes(&ROUTES.replace("dir = \"archive\"", "dir = \"third\""));
    let (status, answer) = daemon.post("/api/v1/reload", "");
    assert_eq!(status, 200, "{answer}");
    let failed = daemon.metric(&failures);
    let (status, answer) = daemon.post("/api/v1/events", r#"{ "type": "made", "routing_key": "no", "data": 1 }"#);
    assert_eq!(status, 202, "{answer}");
    metric(&daemon, &failures, |count| count > failed).await;
    let began = Instant::now();
    assert_eq!(daemon.terminate().await.code(), Some(0), "nothing is overdue");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

/// Neither the end of the daemon nor its next run with another place waits for an answer that never comes.
async fn an_object_store_that_never_answers_holds_the_route_and_no_end(bench: Bench) {
    // The kernel accepts the connections, and no process reads from them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    silent.set_nonblocking(true).expect("a mode of the socket");
    std::fs::write(bench.path("key"), "k\n").expect("a file");
    let place = format!(
        "{{ url = \"s3://history/trunkline\", endpoint = \"http://{}\", region = \"us-east-1\", wait = \"200ms\", \
         access-key = {{ file = \"key\" }}, secret-key = {{ file = \"key\" }} }}",
        silent.local_addr().expect("bound")
    );
    let daemon = bench.start(&ROUTES.replace("{ dir = \"archive\", max-file = \"64KiB\" }", &place)).await;
    post(&daemon, 0..20);
    metric(&daemon, &settled(&bench, "echo", "ack"), |count| count >= 20.0).await;
    let (connection, _) = eventually("that it is asked", || {
        let taken = silent.accept().ok();
        async move { taken }
    })
    .await;
    assert!(daemon.metric(&settled(&bench, "history", "ack")) < 0.5);
    let began = Instant::now();
    assert_eq!(daemon.terminate().await.code(), Some(0), "nothing is overdue");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    drop(connection);

    let daemon = bench.start(ROUTES).await;
    metric(&daemon, &settled(&bench, "history", "ack"), |count| count >= 40.0).await;
    let (code, done) = replay(&bench, &daemon, &["--dry-run"]);
    assert_eq!((code, &done["published"]), (Some(0), &json!(40)), "{done}");
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    confirmed_events_are_archived_and_replayed,
    events_addressed_to_a_queue_need_a_key_for_replay,
    a_folder_that_is_in_the_way_holds_the_route,
    events_wait_until_a_full_queue_has_room,
    a_reload_with_another_folder_repairs_a_route_at_once,
    an_object_store_that_never_answers_holds_the_route_and_no_end,
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A server of S3's protocol, which checks signatures. It ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// s3rver from npm.
async fn s3(bench: &Bench) -> (Server, u16) {
    let program = modules_with("s3rver", "3.7.1").join("s3rver/bin/s3rver.js");
    let port = trunkline_support::rabbitmq::free_port().expect("a port");
    let mut server = Command::new("node");
    server.arg(program).args(["--address", "127.0.0.1", "--port", &port.to_string(), "--silent"]);
    server.arg("--directory").arg(bench.path("s3")).args(["--configure-bucket", "history"]);
    let server = Server(server.stdout(Stdio::null()).spawn().expect("node runs"));
    eventually("the object store", || async move { std::net::TcpStream::connect(("127.0.0.1", port)).ok() }).await;
    (server, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn object_storage_keeps_the_same_as_a_folder() {
    let bench = Bench::embedded();
    let (_server, port) = s3(&bench).await;
    std::fs::write(bench.path("key"), "S3RVER\n").expect("a file");
    let place = format!(
        "{{ url = \"s3://history/trunkline\", endpoint = \"http://127.0.0.1:{port}\", region = \"us-east-1\", \
         wait = \"200ms\", access-key = {{ file = \"key\" }}, secret-key = {{ file = \"key\" }} }}"
    );
    let routes = ROUTES.replace("{ dir = \"archive\", max-file = \"64KiB\" }", &place);
    let daemon = bench.start(&routes).await;
    post(&daemon, 0..60);
    metric(&daemon, &settled(&bench, "history", "ack"), |count| count >= 120.0).await;
    let (code, done) = replay(&bench, &daemon, &["--dry-run"]);
    assert_eq!((code, &done["published"], &done["torn"]), (Some(0), &json!(120), &json!(0)), "{done}");
    let (code, done) = replay(&bench, &daemon, &["--key", "in.even", "--new-ids", "again"]);
    assert_eq!((code, &done["published"]), (Some(0), &json!(30)), "{done}");
    metric(&daemon, &settled(&bench, "echo", "ack"), |count| count >= 90.0).await;

    // A wrong key is reported, and no event is lost.
    std::fs::write(bench.path("key"), "wrong\n").expect("a file");
    let (status, answer) = daemon.post("/api/v1/reload", "");
    assert_eq!(status, 200, "{answer}");
    post(&daemon, 60..61);
    let failures = format!("trunkline_archive_failures_total{{route=\"{}-history\"}}", bench.prefix);
    metric(&daemon, &failures, |count| count >= 1.0).await;
    daemon.signal("KILL");
    assert!(!daemon.ended().await.success());
    std::fs::write(bench.path("key"), "S3RVER\n").expect("a file");
    let daemon = bench.start(&routes).await;
    // The event and its echo.
    metric(&daemon, &settled(&bench, "history", "ack"), |count| count >= 2.0).await;
    assert!(daemon.terminate().await.success());
}
