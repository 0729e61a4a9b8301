//! H5 and F30: the disk of the embedded broker is full, fills up during a batch, and has room again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use trunkline_support::eventually;

use super::keep::{
    DRAIN, ROUTES, Refused, condition, heals, health, is_all_there, keep, keep_until_refused, raised, session,
};
use super::strace::Tracer;
use super::{Mount, handled};
use crate::bench::{Bench, metric, settled};

const MEGABYTES: u32 = 8;
/// The size of one event's body.
const BODY_BYTES: usize = 20_000;

/// Mounts a small disk for the directory of the store.
fn small(bench: &Bench) -> (std::path::PathBuf, Mount) {
    let disk = bench.state().join("broker");
    let mounted = Mount::small(&disk, MEGABYTES);
    (disk, mounted)
}

/// Fills the disk with a file that an operator could delete.
fn fill(disk: &Path) {
    let mut file = File::create(disk.join("ballast")).expect("a file");
    for part in [1 << 16, 1 << 12, 1 << 9] {
        while file.write_all(&vec![0_u8; part]).is_ok() {}
    }
}

fn empty(disk: &Path) {
    std::fs::remove_file(disk.join("ballast")).expect("it was there");
}

fn is_told(refused: &Refused) {
    let told = (refused.status, &refused.problem["code"], refused.retry_after.is_some());
    assert_eq!(told, (507, &"TL507".into(), true), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_takes_again_when_there_is_room() {
    let bench = Bench::embedded();
    let (disk, _mounted) = small(&bench);
    std::fs::write(disk.join("ballast"), vec![0_u8; 2 << 20]).expect("there is room");
    let daemon = bench.start(ROUTES).await;
    let body = "x".repeat(BODY_BYTES);
    let (mut confirmed, refused) = keep_until_refused(&daemon, &body);
    assert!(confirmed.len() > 10, "{}", confirmed.len());
    is_told(&refused);
    for _ in 0..5 {
        is_told(&keep(&daemon, &body).expect_err("there is no room"));
    }
    let detail = raised(&daemon, "store-full").await;
    assert!(detail.contains(&disk.display().to_string()), "{detail}");
    assert_eq!(health(&daemon)["status"], "degraded");
    assert_eq!(daemon.get("/livez").0, 200);
    assert_eq!(daemon.metric("trunkline_condition{condition=\"store-full\",subject=\"\"}"), 1.0);

    empty(&disk);
    confirmed.insert(heals(&daemon).await);
    confirmed.insert(keep(&daemon, &body).expect("there is room"));
    assert_eq!(condition(&daemon, "store-full"), None);
    assert_eq!(session(&daemon), 1, "nothing that was in work is lost");
    assert!(daemon.terminate().await.success());
    is_all_there(&bench, &confirmed).await;
}

/// Several clients, while another program takes the rest of the disk and frees it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_while_events_are_written_loses_and_doubts_nothing() {
    const ROUNDS: u32 = 3;
    let bench = Bench::embedded();
    let (disk, _mounted) = small(&bench);
    let daemon = bench.start(ROUTES).await;
    let stop = AtomicBool::new(false);
    let (mut confirmed, mut refused) = (BTreeSet::new(), Vec::new());
    std::thread::scope(|scope| {
        let client = || {
            let (mut confirmed, mut refused) = (BTreeSet::new(), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                match keep(&daemon, &"x".repeat(2_000)) {
                    Ok(id) => drop(confirmed.insert(id)),
                    Err(problem) => refused.push(*problem),
                }
            }
            (confirmed, refused)
        };
        let clients: Vec<_> = (0..6).map(|_| scope.spawn(client)).collect();
        for _ in 0..ROUNDS {
            fill(&disk);
            while keep(&daemon, &"x".repeat(2_000)).is_ok() {}
            empty(&disk);
            while keep(&daemon, "small").is_err() {}
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            let (taken, not_taken) = client.join().expect("a client");
            confirmed.extend(taken);
            refused.extend(not_taken);
        }
    });
    assert!(!refused.is_empty() && confirmed.len() > 10, "{} and {}", refused.len(), confirmed.len());
    confirmed.insert(heals(&daemon).await);
    println!("{} refused, {} sessions", refused.len(), session(&daemon));
    assert!(daemon.terminate().await.success());
    let found = is_all_there(&bench, &confirmed).await;
    let certain = refused.iter().filter(|refused| refused.status == 507);
    let taken: Vec<_> = certain.filter(|refused| found.contains(&refused.id)).collect();
    assert!(taken.is_empty(), "refused for want of room, and there all the same: {taken:?}");
}

/// The kernel reports a full disk in the middle of a transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_finds_no_room_confirms_nothing_of_its_batch() {
    let bench = Bench::embedded();
    let daemon = bench.start(ROUTES).await;
    let mut confirmed: BTreeSet<String> = (0..50).map(|n| keep(&daemon, &n.to_string()).expect("confirmed")).collect();
    let store = bench.state().join("broker/messages.redb");
    let tracer = Tracer::attach(&daemon, "pwrite64", "error=ENOSPC", Some(&store)).await;
    let mut refused = Vec::new();
    eventually("refusals", || {
        match keep(&daemon, "y") {
            Ok(id) => drop(confirmed.insert(id)),
            Err(problem) => refused.push(*problem),
        }
        let is_enough = refused.len() >= 20;
        async move { is_enough.then_some(()) }
    })
    .await;
    is_told(&refused[0]);
    tracer.detach();
    confirmed.insert(heals(&daemon).await);
    assert!(session(&daemon) > 1, "redb was opened again");
    handled(&daemon, "echo", 1).await;
    daemon.signal("KILL");
    let _killed = daemon.ended().await;
    let found = is_all_there(&bench, &confirmed).await;
    let certain = refused.iter().filter(|refused| refused.status == 507);
    assert!(certain.clone().count() > 0);
    let taken: Vec<_> = certain.filter(|refused| found.contains(&refused.id)).collect();
    assert!(taken.is_empty(), "refused for want of room, and there all the same: {taken:?}");
}

/// Acknowledgements can be written on a disk without room, and they make room for new events.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_worked_off_on_a_full_disk() {
    let bench = Bench::embedded();
    let (disk, _mounted) = small(&bench);
    let daemon = bench.start(ROUTES).await;
    let body = "x".repeat(BODY_BYTES);
    let (confirmed, refused) = keep_until_refused(&daemon, &body);
    is_told(&refused);
    // No room is left.
    fill(&disk);
    bench.write_routes(&(ROUTES.to_owned() + DRAIN));
    assert_eq!(daemon.post("/api/v1/reload", "").0, 200);
    #[expect(clippy::cast_precision_loss, reason = "hundreds")]
    let all = confirmed.len() as f64;
    metric(&daemon, &settled(&bench, "drain", "ack"), |count| count >= all).await;
    // The file has room inside, although the disk has none.
    let taken = eventually("an event is taken", || {
        let taken = keep(&daemon, &"x".repeat(5_000)).ok();
        async move { taken }
    })
    .await;
    metric(&daemon, &settled(&bench, "drain", "ack"), |count| count > all).await;
    empty(&disk);
    heals(&daemon).await;
    println!("{} worked off, then {taken}, {} sessions", confirmed.len(), session(&daemon));
    assert!(daemon.terminate().await.success());
}
