//! H5, H6 and H9: the disk of the embedded broker is full, does not do what it is told, or changes what it has.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use trunkline_support::{Daemon, eventually};

use super::{Mount, handled, id};
use crate::bench::{Bench, binary, drain};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-kept]
bind = "keep"
[queues.$P-out]
bind = "echoed"
[routes.$P-echo]
from = "echo"
plugin = "echo"
"#;

/// Publishes into the queue that nobody consumes; gives the id when it was confirmed, else the problem.
fn keep(daemon: &Daemon, data: &str) -> Result<String, (u16, Value)> {
    let body = serde_json::json!({ "type": "keep", "data": data }).to_string();
    match daemon.post("/api/v1/events", &body) {
        (202, accepted) => Ok(accepted["id"].as_str().expect("an id").to_owned()),
        refused => Err(refused),
    }
}

/// After a write that failed: nothing is confirmed again, and that is told everywhere.
async fn refuses(daemon: &Daemon, reason: &str) {
    for _ in 0..5 {
        let (status, problem) = keep(daemon, "x").expect_err("nothing is confirmed");
        assert_eq!((status, &problem["code"]), (503, &"TL503".into()), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(reason)), "{problem}");
    }
    eventually("readiness is gone", || {
        let gone = daemon.get("/readyz").0 == 503;
        async move { gone.then_some(()) }
    })
    .await;
    let (status, text) = daemon.get("/health");
    let health: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, &health["broker"]["connected"]), (503, &Value::Bool(false)), "{text}");
    assert!(health["broker"]["error"].as_str().is_some_and(|error| error.contains(reason)), "{text}");
    assert_eq!(daemon.get("/livez").0, 200);
    daemon.logged(reason).await;
}

/// Everything that was confirmed is in the store, which is whole and takes more.
async fn is_all_there(bench: &Bench, confirmed: &BTreeSet<String>) {
    let daemon = bench.start(ROUTES).await;
    handled(&daemon, "echo", 1).await;
    let more = keep(&daemon, "more").expect("it is confirmed");
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    let mut found = BTreeSet::new();
    while !found.contains(&more) {
        found.extend(drain(&broker, &bench.queue("$P-kept"), 1).await.iter().map(id));
    }
    let lost: Vec<&String> = confirmed.difference(&found).collect();
    assert!(lost.is_empty(), "confirmed and lost: {lost:?}");
    println!("{} confirmed, all there", confirmed.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_keeps_what_was_confirmed() {
    let bench = Bench::embedded();
    let disk = bench.state().join("broker");
    let _mounted = Mount::small(&disk, 8);
    // Something that can be deleted afterwards, as an operator would.
    std::fs::write(disk.join("ballast"), vec![0_u8; 2 << 20]).expect("there is room");
    let daemon = bench.start(ROUTES).await;
    let (body, mut confirmed) = ("x".repeat(20_000), BTreeSet::new());
    let (status, problem) = loop {
        match keep(&daemon, &body) {
            Ok(id) => confirmed.insert(id),
            Err(refused) => break refused,
        };
        assert!(confirmed.len() < 10_000, "200 MB do not fit into 8");
    };
    assert!(matches!(status, 503 | 507), "{status}: {problem}");
    assert!(confirmed.len() > 10, "{}", confirmed.len());
    refuses(&daemon, "No space left on device").await;
    std::fs::remove_file(disk.join("ballast")).expect("it was there");
    assert_eq!(daemon.terminate().await.code(), Some(0), "there is nothing in work");
    is_all_there(&bench, &confirmed).await;
}

/// H9: found before anything is delivered, refused with what to do, and repaired but for what is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_refused_until_it_is_repaired() {
    let bench = Bench::embedded();
    let daemon = bench.start(ROUTES).await;
    let mut confirmed = BTreeSet::new();
    let body = |number: u32| format!("the body of number {number:04}, {}", "x".repeat(500));
    let ids: Vec<String> = (0..100).map(|number| keep(&daemon, &body(number)).expect("kept")).collect();
    confirmed.extend(ids.iter().cloned());
    assert!(daemon.terminate().await.success());

    // Wherever it is, in old pages too.
    let file = bench.state().join("broker/messages.redb");
    let mut bytes = std::fs::read(&file).expect("a store");
    let damaged = body(42).into_bytes();
    let places: Vec<usize> = (0..bytes.len() - damaged.len()).filter(|at| bytes[*at..].starts_with(&damaged)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[at + 30] ^= 4);
    std::fs::write(&file, &bytes).expect("written");
    for _ in 0..2 {
        let Err(ended) = bench.try_start(ROUTES).await else { panic!("it starts on a damaged store") };
        assert!(
            ended.stderr.contains("messages.redb is damaged") && ended.stderr.contains("trunkline repair"),
            "{ended:?}"
        );
        assert!(std::fs::read(&file).expect("a store") == bytes, "it was not touched");
    }

    let repair = || {
        let mut command = Command::new(binary());
        command.arg("repair").arg("--config").arg(bench.path("routes.toml")).arg("--state").arg(bench.state());
        let output = command.args(["--broker", "embedded"]).output().expect("it runs");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), text)
    };
    let (code, told) = repair();
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("left out: queue") && told.contains("99 messages are in the new store"), "{told}");
    assert_eq!(repair().0, Some(0), "now it is whole");
    confirmed.remove(&ids[42]);
    is_all_there(&bench, &confirmed).await;
    let daemon = bench.start(ROUTES).await;
    assert_eq!(repair().0, Some(65), "not while a daemon has it");
    assert!(daemon.terminate().await.success());
}

/// strace, ended when it is dropped, which lets the daemon go on undisturbed.
struct Tracer(Child);

impl Tracer {
    /// Every sync fails from now on; returns when a first one has.
    async fn fail_syncs(daemon: &Daemon, log: &std::path::Path) -> Self {
        let child = Command::new("strace")
            .args(["-f", "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO", "-o"])
            .arg(log)
            .args(["-p", &daemon.pid().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace can be run");
        let status = format!("/proc/{}/status", daemon.pid());
        eventually("strace is attached", || {
            let text = std::fs::read_to_string(&status).expect("the daemon is there");
            let tracer = text.lines().find_map(|line| line.strip_prefix("TracerPid:"));
            let attached = tracer.is_some_and(|pid| pid.trim() != "0");
            async move { attached.then_some(()) }
        })
        .await;
        Self(child)
    }

    fn detach(mut self) {
        let asked = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        assert!(asked.expect("kill can be run").success());
        self.0.wait().expect("it ends");
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_sync_that_fails_nothing_is_confirmed() {
    let bench = Bench::embedded();
    let daemon = bench.start(ROUTES).await;
    let mut confirmed: BTreeSet<String> = (0..50).map(|n| keep(&daemon, &n.to_string()).expect("confirmed")).collect();
    let log = bench.path("strace");
    let tracer = Tracer::fail_syncs(&daemon, &log).await;
    // Threads are attached one after the other: the one that writes may still confirm truthfully for a moment.
    eventually("a failing sync", || {
        let refused = match keep(&daemon, "y") {
            Ok(id) => {
                confirmed.insert(id);
                None
            }
            Err(refused) => Some(refused),
        };
        async move { refused }
    })
    .await;
    let failed = std::fs::read_to_string(&log).expect("a log");
    assert!(failed.contains("EIO"), "{failed}");
    assert!(!failed.contains("= 0\n"), "no sync succeeded that was seen: {failed}");
    refuses(&daemon, "Input/output error").await;
    tracer.detach();
    refuses(&daemon, "Input/output error").await;
    daemon.signal("KILL");
    let _killed = daemon.ended().await;
    is_all_there(&bench, &confirmed).await;
}
