//! H4 and H11: the kernel kills for lack of memory, or refuses threads.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use serde_json::Value;
use trunkline_support::{Daemon, Ended, eventually};

use super::cgroup::Group;
use super::frames::{Mode, Proxy};
use super::{causes, fill, handled, header, id, is_up, post, settled, taken};
use crate::bench::{Bench, becomes_ready, drain, message, metric, on_both_brokers};

const HOG: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "echoed"
[queues.$P-hog]
bind = "hog"
delivery-limit = 1
[routes.$P-hog]
queue = "$P-hog"
plugin = "hog"
[routes.$P-echo]
from = "in"
plugin = "echo"
[plugins.hog.limits]
memory = "1GiB"
timeout = "10m"
"#;

/// The limit of the fault catalogue. The daemon itself uses half of it.
const MEMORY_MAX_BYTES: u64 = 128 << 20;
const EVENTS: usize = 1_000;
/// RabbitMQ gives the event up after the second crash, the embedded broker after the third.
const DEATHS_MAX: usize = 3;
const SIGKILL: i32 = 9;

/// Ready messages of a queue; none when the daemon has ended.
fn ready(daemon: &Daemon, queue: &str) -> Option<u64> {
    let mut answer = ureq::get(daemon.url("/api/v1/events/queues")).call().ok()?;
    let told: Value = serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()?;
    told["queues"].as_array()?.iter().find(|found| found["name"] == queue)?["ready"].as_u64()
}

/// Tells whether a process is a zombie.
fn is_gone(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(") ").next().unwrap_or_default().starts_with('Z')
}

async fn the_oom_killer_loses_nothing_and_the_hog_is_given_up(bench: Bench) {
    // The plugins are compiled before, because the compiler's memory would count too.
    let daemon = bench.start(HOG).await;
    let exchange = format!("{}-events", bench.prefix);
    assert!(daemon.terminate().await.success());
    let broker = bench.open(HOG).await;
    drop(broker.publish(vec![message(&exchange, "hog", "hog", "x")]).await.expect("confirmed"));
    fill(&bench, &broker, "in", EVENTS, "x").await;
    broker.close(trunkline_support::patience()).await;
    drop(broker);

    let group = Group::memory(MEMORY_MAX_BYTES);
    let (mut deaths, dead_letters) = (0, bench.queue("$P-hog.dlq"));
    let daemon = loop {
        let status = match group.start(&bench, HOG).await {
            Ok(daemon) => {
                let lives = eventually("the hog ends the daemon, or is given up", || {
                    let is_given_up = ready(&daemon, dead_letters.as_str()) == Some(1);
                    let end = if is_gone(daemon.pid()) { Some(false) } else { is_given_up.then_some(true) };
                    async move { end }
                })
                .await;
                if lives {
                    break daemon;
                }
                daemon.ended().await
            }
            Err(ended) => ended.status,
        };
        assert_eq!(status.signal(), Some(SIGKILL), "{status}");
        deaths += 1;
        assert!(deaths <= DEATHS_MAX, "the hog is not given up");
    };
    assert!(deaths > 0, "there was enough memory: the test shows nothing");
    assert_eq!(group.kills(), deaths, "each death is the kernel's");

    let series = settled(&bench, "echo", "ack");
    handled(&daemon, "in", "last").await;
    metric(&daemon, &super::of_route(&bench, "trunkline_messages_in_flight", "echo"), |count| count == 0.0).await;
    let last = daemon.metric(&series);
    assert!(daemon.terminate().await.success());
    let broker = bench.open(HOG).await;
    let out = taken(&bench, &broker, "$P-out", EVENTS + 1, |message| header(message, "trunkline-cause")).await;
    let lost: Vec<usize> = (0..EVENTS).filter(|n| !causes(&out).contains(&format!("e{n}"))).collect();
    assert!(lost.is_empty(), "confirmed and lost: {lost:?}");
    let ids: BTreeSet<String> = out.iter().map(id).collect();
    assert_eq!(ids.len(), EVENTS + 1, "a repetition has the same id");
    let dead = drain(&broker, &dead_letters, 1).await;
    assert_eq!(dead.iter().map(id).collect::<Vec<_>>(), ["hog"]);
    for queue in ["$P-hog", "$P-echo", "$P-echo.dlq"] {
        assert_eq!(drain(&broker, &bench.queue(queue), 0).await.len(), 0, "{queue}");
    }
    let again = out.len() - EVENTS - 1;
    println!("{}: killed {deaths} times; {last} settled in the last life, {again} twice", bench.broker);
}

on_both_brokers! {
    the_oom_killer_loses_nothing_and_the_hog_is_given_up,
}

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
retry = { max = 0 }
[queues.$P-out]
bind = "echoed"
[routes.$P-echo]
from = "echo"
plugin = "echo"
[routes.$P-trapper]
from = "trap"
plugin = "trapper"
"#;

/// Threads for blocking work end after ten idle seconds.
const IDLE_MAX: Duration = Duration::from_secs(13);

#[tokio::test(flavor = "multi_thread")]
async fn too_few_threads_are_reported_before_the_start() {
    let bench = Bench::embedded();
    // The compiled code is kept, because a compiler has threads of its own.
    let daemon = bench.start(ROUTES).await;
    assert!(daemon.terminate().await.success());
    let processors = std::thread::available_parallelism().expect("a number").get();
    let enough = 64 + 4 * processors;
    let (mut refused, mut started) = (Vec::new(), Vec::new());
    for threads in [1, 2, 3, 5, 8, 13, 21, 34, enough] {
        let group = Group::threads(threads);
        match group.start(&bench, ROUTES).await {
            Ok(daemon) => {
                handled(&daemon, "echo", 1).await;
                assert!(daemon.terminate().await.success());
                started.push(threads);
            }
            Err(Ended { status, stderr }) => {
                assert_eq!(status.code(), Some(1), "{threads} threads: {status}\n{stderr}");
                assert!(!stderr.contains("panicked"), "{threads} threads: {stderr}");
                let last = stderr.lines().last().unwrap_or_default();
                let parts = ["error: ", "threads", "Resource temporarily unavailable", "ulimit -u"];
                assert!(parts.iter().all(|part| last.contains(part)), "{threads} threads: {stderr}");
                refused.push(threads);
            }
        }
    }
    println!("refused with {refused:?} threads, started with {started:?}");
    assert!(refused.len() >= 3 && started.contains(&enough), "{refused:?} {started:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_threads_run_out_goes_on_and_recovers_by_itself() {
    let mut bench = Bench::amqp();
    let broker = bench.open(ROUTES).await;
    let (proxy, url) = Proxy::start(&bench.broker, Mode::Pass, 1).await;
    // By name, because the look-up of a name needs a thread.
    bench.broker = url.replace("127.0.0.1", "localhost");
    let group = Group::threads(1_000);
    let daemon = group.start(&bench, ROUTES).await.unwrap_or_else(|ended| panic!("{ended:?}"));
    becomes_ready(&daemon, true).await;
    handled(&daemon, "echo", "before").await;
    is_up(&bench, &daemon, "echo", true).await;

    // Existing threads may stay, and no thread can be added.
    let threads = group.threads_now();
    group.set("pids.max", "1");
    for n in 0..20 {
        handled(&daemon, "echo", n).await;
    }
    let idle = Instant::now();
    eventually("threads without work end", || async { (idle.elapsed() >= IDLE_MAX).then_some(()) }).await;
    let trap = post(&daemon, "trap", 1);
    assert_eq!(daemon.settled(&trap).await["outcome"], "dead_letter", "a trap has its outcome nevertheless");
    proxy.cut();
    daemon
        .logged("the daemon has no session with the broker, so no route consumes events; the daemon connects again")
        .await;
    metric(&daemon, "trunkline_broker_connected", |connected| connected == 0.0).await;
    assert_eq!((daemon.get("/livez").0, daemon.get("/readyz").0), (200, 503));
    daemon.signal("HUP");
    let exchange = format!("{}-events", bench.prefix);
    drop(broker.publish(vec![message(&exchange, "echo", "meanwhile", "x")]).await.expect("confirmed"));

    group.set("pids.max", "max");
    assert_eq!(daemon.settled("meanwhile").await["outcome"], "ack");
    handled(&daemon, "echo", "after").await;
    daemon.logged("a reload found no changes").await;
    let trap = post(&daemon, "trap", 2);
    assert_eq!(daemon.settled(&trap).await["outcome"], "dead_letter");
    // Panics of plugins are in log lines.
    assert!(!daemon.log().lines().any(|line| line.starts_with("thread '")), "{}", daemon.log());
    assert!(daemon.terminate().await.success());
    let out = drain(&broker, &bench.queue("$P-out"), 23).await;
    assert_eq!(causes(&out).len(), 23);
    // The acknowledgement of the first one may have been lost.
    let dead = taken(&bench, &broker, "$P-trapper.dlq", 2, id).await;
    assert_eq!(dead.iter().map(id).collect::<BTreeSet<_>>().len(), 2);
    println!("{threads} threads when no more were given; {} emissions", out.len());
}
