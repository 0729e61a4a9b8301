//! H6 and H9: the disk of the embedded broker fails, or changes its data.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use trunkline_support::{Daemon, eventually};

use super::handled;
use super::keep::{DRAIN, ROUTES, condition, heals, health, is_all_there, keep, raised, session};
use super::strace::Tracer;
use crate::bench::{Bench, binary, drain, metric, settled};

const STORE: &str = "broker/messages.redb";

/// Changes one bit of each place in the file that begins with `text`, in old pages too.
fn damage(file: &Path, text: &str) {
    let mut bytes = std::fs::read(file).expect("a store");
    let text = text.as_bytes();
    let places: Vec<usize> = (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[at + 30] ^= 4);
    std::fs::write(file, &bytes).expect("written");
}

fn body(number: u32) -> String {
    format!("the body of number {number:04}, {}", "x".repeat(500))
}

fn repair(bench: &Bench) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.arg("repair").arg("--config").arg(bench.path("routes.toml")).arg("--state").arg(bench.state());
    let output = command.args(["--broker", "embedded"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code(), text)
}

/// H9: damage is found before any delivery and refused with the remedy. The repair keeps all readable records.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_refused_until_it_is_repaired() {
    let bench = Bench::embedded();
    let daemon = bench.start(ROUTES).await;
    let ids: Vec<String> = (0..100).map(|number| keep(&daemon, &body(number)).expect("kept")).collect();
    let mut confirmed: BTreeSet<String> = ids.iter().cloned().collect();
    assert!(daemon.terminate().await.success());

    let file = bench.state().join(STORE);
    damage(&file, &body(42));
    let bytes = std::fs::read(&file).expect("a store");
    for _ in 0..2 {
        let Err(ended) = bench.try_start(ROUTES).await else { panic!("it starts on a damaged store") };
        assert!(
            ended.stderr.contains("messages.redb is damaged") && ended.stderr.contains("trunkline repair"),
            "{ended:?}"
        );
        assert!(std::fs::read(&file).expect("a store") == bytes, "it was not touched");
    }

    let (code, told) = repair(&bench);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("left out: queue") && told.contains("the new store has 99 messages"), "{told}");
    assert_eq!(repair(&bench).0, Some(0), "now it is whole");
    confirmed.remove(&ids[42]);
    is_all_there(&bench, &confirmed).await;
    let daemon = bench.start(ROUTES).await;
    assert_eq!(repair(&bench).0, Some(65), "not while a daemon has it");
    assert!(daemon.terminate().await.success());
}

/// An empty file was a store before, so it is not taken for a new one.
#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_store_is_refused_and_named() {
    let bench = Bench::embedded();
    let daemon = bench.start(ROUTES).await;
    keep(&daemon, "x").expect("kept");
    assert!(daemon.terminate().await.success());
    let file = bench.state().join(STORE);
    std::fs::write(&file, b"").expect("emptied");
    let Err(ended) = bench.try_start(ROUTES).await else { panic!("it starts on an empty file") };
    assert!(ended.stderr.contains("messages.redb is damaged: the file is empty"), "{ended:?}");
    let (code, told) = repair(&bench);
    assert!(code == Some(65) && told.contains("move the file away"), "{code:?}: {told}");
    std::fs::rename(&file, file.with_extension("aside")).expect("moved");
    let daemon = bench.start(ROUTES).await;
    handled(&daemon, "echo", 1).await;
    assert!(daemon.terminate().await.success());
}

/// Publishes until syncs fail, after which nothing is confirmed; gives the confirmed ids.
async fn publishes_until_syncs_fail(daemon: &Daemon) -> (Tracer, BTreeSet<String>) {
    let mut confirmed: BTreeSet<String> = (0..50).map(|n| keep(daemon, &body(n)).expect("confirmed")).collect();
    let tracer = Tracer::attach(daemon, "fdatasync,fsync", "error=EIO", None).await;
    // strace attaches to one thread after another, so the writer may still confirm for a moment.
    eventually("a failing sync", || {
        let refused = match keep(daemon, "y") {
            Ok(id) => {
                confirmed.insert(id);
                None
            }
            Err(refused) => Some(refused),
        };
        async move { refused }
    })
    .await;
    for _ in 0..5 {
        let refused = keep(daemon, "x").expect_err("nothing is confirmed");
        assert_eq!((refused.status, &refused.problem["code"]), (503, &"TL503".into()), "{refused:?}");
        assert!(refused.retry_after.is_some(), "{refused:?}");
    }
    (tracer, confirmed)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_sync_that_fails_nothing_is_confirmed_until_the_store_was_read_again() {
    let bench = Bench::embedded();
    let daemon = bench.start(ROUTES).await;
    let (tracer, mut confirmed) = publishes_until_syncs_fail(&daemon).await;
    let detail = raised(&daemon, "store-failed").await;
    assert!(detail.contains("Input/output error"), "{detail}");
    eventually("the daemon is not ready", || {
        let gone = daemon.get("/readyz").0 == 503;
        async move { gone.then_some(()) }
    })
    .await;
    assert_eq!(daemon.get("/livez").0, 200);
    daemon.logged("the embedded store failed").await;

    tracer.detach();
    confirmed.insert(heals(&daemon).await);
    assert!(session(&daemon) > 1);
    assert_eq!(condition(&daemon, "store-failed"), None);
    handled(&daemon, "echo", 1).await;
    daemon.signal("KILL");
    let _killed = daemon.ended().await;
    is_all_there(&bench, &confirmed).await;
}

/// The disk does not return the backlog of a queue. The queue waits, and no event is lost or repeated.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_cannot_be_read_for_a_while_is_worked_off_afterwards() {
    // More than the store keeps in memory, and more than the route takes before the disk fails.
    const EVENTS: usize = 120;
    let bench = Bench::embedded();
    let daemon = bench.start(&format!("{ROUTES}{DRAIN}rate = \"10/s\"\n")).await;
    let body = "x".repeat(700_000);
    for _ in 0..EVENTS {
        keep(&daemon, &body).expect("confirmed");
    }
    let before = daemon.metric(&settled(&bench, "drain", "ack"));
    assert!(before < EVENTS as f64 / 2.0, "there is no backlog: {before}");
    let tracer = Tracer::attach(&daemon, "pread64", "error=EIO", Some(&bench.state().join(STORE))).await;
    let detail = raised(&daemon, "store-failed").await;
    assert!(detail.contains("Input/output error"), "{detail}");
    assert!(daemon.metric(&settled(&bench, "drain", "ack")) < EVENTS as f64, "all were in memory: nothing was shown");
    tracer.detach();
    metric(&daemon, &settled(&bench, "drain", "ack"), |count| count >= EVENTS as f64).await;
    assert_eq!(condition(&daemon, "store-failed"), None);
    assert!(session(&daemon) > 1);
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    assert_eq!(drain(&broker, &bench.queue("$P-kept"), 0).await.len(), 0, "each was acknowledged");
    broker.close(trunkline_support::patience()).await;
}

/// Damage is found when the store is read again after a failure: it is reported with the remedy, and the file stays
/// unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn damage_that_comes_with_a_failure_is_named_and_the_file_is_left() {
    let bench = Bench::embedded();
    let daemon = bench.start(ROUTES).await;
    let (tracer, _confirmed) = publishes_until_syncs_fail(&daemon).await;
    let file = bench.state().join(STORE);
    damage(&file, &body(42));
    tracer.detach();
    let detail = eventually("the damage", || {
        let detail = condition(&daemon, "store-failed").filter(|detail| detail.contains("is damaged"));
        async move { detail }
    })
    .await;
    assert!(detail.contains("messages.redb") && detail.contains("trunkline repair"), "{detail}");
    let bytes = std::fs::read(&file).expect("a store");
    assert_eq!(keep(&daemon, "x").expect_err("nothing is confirmed").status, 503);
    assert_eq!((daemon.get("/livez").0, daemon.get("/readyz").0), (200, 503));
    assert!(daemon.terminate().await.success());
    assert!(std::fs::read(&file).expect("a store") == bytes, "it was not touched");
    // The store was open, and its older state is damaged too.
    let (code, told) = repair(&bench);
    assert!(code == Some(65) && told.contains("move the file away"), "{code:?}: {told}");
}

/// F25: the file is shortened at rest after a backlog was worked off, and the store works on.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_was_worked_off_gives_the_disk_its_room_back() {
    const EVENTS: u32 = 120;
    let bench = Bench::embedded();
    let daemon = bench.start(ROUTES).await;
    let large = "x".repeat(200_000);
    (0..EVENTS).for_each(|_| drop(keep(&daemon, &large).expect("kept")));
    let file = bench.state().join(STORE);
    let length = || std::fs::metadata(&file).expect("a store").len();
    let full = length();
    assert!(full > 16 << 20, "{full}");
    bench.write_routes(&(ROUTES.to_owned() + DRAIN));
    assert_eq!(daemon.post("/api/v1/reload", "").0, 200);
    metric(&daemon, &settled(&bench, "drain", "ack"), |count| count >= f64::from(EVENTS)).await;
    let short = eventually("a short file", || {
        let short = Some(length()).filter(|length| *length < full / 8);
        async move { short }
    })
    .await;
    println!("{full} bytes, then {short}");
    handled(&daemon, "echo", 1).await;
    assert_eq!(session(&daemon), 1, "nothing in work was lost for it");
    // The store is opened again, and is whole.
    bench.write_routes(ROUTES);
    assert_eq!(daemon.post("/api/v1/reload", "").0, 200);
    let confirmed = BTreeSet::from([keep(&daemon, "after").expect("kept")]);
    assert!(daemon.terminate().await.success());
    is_all_there(&bench, &confirmed).await;
}

/// F8: consumers read a backlog while it is written, between any two steps of the writer. Each message is delivered
/// once, and the counts are right.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_is_written_and_worked_off_at_once_comes_once() {
    const CLIENTS: u32 = 4;
    const BATCHES: u32 = 50;
    const EVENTS: u32 = 40;
    let bench = Bench::embedded();
    let daemon = bench.start(ROUTES).await;
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..BATCHES {
                    let events = vec![serde_json::json!({ "type": "echo", "data": 1 }); EVENTS as usize];
                    let body = serde_json::json!({ "events": events }).to_string();
                    let (status, answer) = daemon.post("/api/v1/events/batch", &body);
                    assert_eq!(status, 202, "{answer}");
                }
            });
        }
    });
    let all = f64::from(CLIENTS * BATCHES * EVENTS);
    metric(&daemon, &settled(&bench, "echo", "ack"), |count| count >= all).await;
    let count = |queue: &str, state: &str| {
        daemon.metric(&format!(
            "trunkline_queue_messages{{queue=\"{}-{queue}\",state=\"{state}\",role=\"work\"}}",
            bench.prefix
        ))
    };
    assert_eq!((count("echo", "ready"), count("echo", "unacknowledged")), (0.0, 0.0));
    assert_eq!(count("out", "ready"), all, "each was echoed once");
    assert_eq!(health(&daemon)["status"], "ok");
    assert_eq!(daemon.metric(&settled(&bench, "echo", "ack")), all);
    assert!(daemon.terminate().await.success());
}
