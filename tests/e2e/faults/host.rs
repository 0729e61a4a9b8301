//! H3, H14, H15, H16: signals, closed pipes, and a state directory that is in use or cannot be written.
//!
//! H2, SIGTERM under load without a repeat and with exit code 0, is in `ten_thousand.rs`.

use std::time::{Duration, Instant};

use trunkline_support::eventually;

use super::{Mount, handled, of_route, post};
use crate::bench::{Bench, drain, metric, on_both_brokers};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-out]
bind = "echoed"
[routes.$P-echo]
from = "echo"
plugin = "echo"
[routes.$P-sleeper]
from = "sleep"
plugin = "sleeper"
[plugins.sleeper.limits]
timeout = "10m"
"#;
/// "At once" on a busy machine. The event in work would take ten minutes.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn a_second_sigterm_ends_at_once_and_the_event_comes_back(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    let id = post(&daemon, "sleep", 590_000);
    metric(&daemon, &of_route(&bench, "trunkline_messages_in_flight", "sleeper"), |count| count == 1.0).await;
    daemon.signal("TERM");
    eventually("the drain's beginning", || {
        let draining = daemon.get("/health").1.contains("draining");
        async move { draining.then_some(()) }
    })
    .await;
    daemon.signal("TERM");
    let signalled = Instant::now();
    assert_eq!(daemon.ended().await.code(), Some(1), "not the code of an orderly end");
    assert!(signalled.elapsed() <= AT_ONCE, "{:?}", signalled.elapsed());

    let daemon = bench.start(ROUTES).await;
    metric(&daemon, &of_route(&bench, "trunkline_messages_in_flight", "sleeper"), |count| count == 1.0).await;
    daemon.signal("KILL");
    let _killed = daemon.ended().await;
    let broker = bench.open(ROUTES).await;
    let left = drain(&broker, &bench.queue("$P-sleeper"), 1).await;
    assert_eq!(left.iter().map(super::id).collect::<Vec<_>>(), [id], "it was redelivered once");
}

async fn a_second_daemon_on_the_same_state_is_refused_with_the_first_ones_pid(bench: Bench) {
    let first = bench.start(ROUTES).await;
    let ended = bench.try_start(ROUTES).await.err().expect("it does not start");
    assert_eq!(ended.status.code(), Some(1));
    let who = format!("process {} already uses the directory", first.pid());
    assert!(ended.stderr.contains(&who), "{}", ended.stderr);
    handled(&first, "echo", 1).await;
    first.signal("KILL");
    let _killed = first.ended().await;
    let third = bench.start(ROUTES).await;
    handled(&third, "echo", 2).await;
    assert!(third.terminate().await.success(), "the lock ends with its process");
}

async fn a_read_only_state_is_reported_precisely(bench: Bench) {
    // A directory of its own, because the shared one can be written.
    std::fs::create_dir_all(bench.state().join("compiled")).expect("a directory for compiled code");
    let daemon = bench.start(ROUTES).await;
    handled(&daemon, "echo", 1).await;
    assert!(daemon.terminate().await.success());
    let frozen = Mount::read_only(&bench.state());
    let ended = bench.try_start(ROUTES).await.err().expect("it does not start");
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let last = ended.stderr.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default().to_owned();
    let state = bench.state().display().to_string();
    assert!(last.starts_with("error: ") && last.contains(&state), "it names the place: {last}");
    assert!(last.contains("Read-only file system"), "and the reason: {last}");
    println!("{last}");
    drop(frozen);
    let daemon = bench.start(ROUTES).await;
    handled(&daemon, "echo", 2).await;
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_does_not_end_it() {
    let bench = Bench::embedded();
    let daemon = bench.start(ROUTES).await;
    for n in 0..3 {
        daemon.signal("HUP");
        daemon.logged("a reload found no changes").await;
        handled(&daemon, "echo", n).await;
    }
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    a_second_daemon_on_the_same_state_is_refused_with_the_first_ones_pid,
    a_second_sigterm_ends_at_once_and_the_event_comes_back,
    a_read_only_state_is_reported_precisely,
}
