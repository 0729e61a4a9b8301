//! F21, B7: a peer that accepts connections and sends nothing, and a name server that does not answer. Each attempt
//! ends without leaving a thread or a socket behind.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use trunkline_support::rabbitmq::RabbitmqNode;
use trunkline_support::{Daemon, eventually};

use super::{held, told};
use crate::bench::{Bench, ECHO, becomes_ready, binary, drain};

/// The normal variation of a daemon's threads and files.
const SLACK: usize = 3;
/// Enough attempts to see one thread or file that each leaves behind.
const ATTEMPTS: usize = 12;

/// Log level of a daemon whose attempts are counted. The log then has one line for each attempt after the first.
const EVERY_ATTEMPT: [(&str, &str); 1] =
    [("LOG_LEVEL", "info,trunkline::trace=debug,trunkline_broker::amqp::client=debug")];

/// Waits for this many further connection attempts.
async fn attempts(daemon: &Daemon, wanted: usize) {
    let count = || daemon.log().matches("the daemon still has no session with the broker").count();
    let before = count();
    eventually(&format!("{wanted} attempts"), || {
        let done = count() - before >= wanted;
        async move { done.then_some(()) }
    })
    .await;
}

fn assert_flat(before: (usize, usize), after: (usize, usize)) {
    let is_flat = after.0 <= before.0 + SLACK && after.1 <= before.1 + SLACK;
    assert!(is_flat, "threads and files: {before:?} before {ATTEMPTS} attempts, {after:?} after them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_nothing_leaves_nothing_behind() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (accepted, mut peer) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    let counted = accepted.clone();
    peer.spawn(async move {
        let mut silent = Vec::new();
        loop {
            silent.push(listener.accept().await.expect("a client"));
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let bench = Bench::on(format!("amqp://guest:guest@127.0.0.1:{port}/%2f?connection_timeout=100"));
    let daemon = bench.start_with(ECHO, &EVERY_ATTEMPT).await;
    told(&daemon, "the broker did not answer within").await;
    attempts(&daemon, 2).await;
    let before = held(&daemon);
    attempts(&daemon, ATTEMPTS).await;
    assert_flat(before, held(&daemon));
    assert!(accepted.load(Ordering::Relaxed) > ATTEMPTS, "every attempt reached the peer");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_frozen_is_left_and_found_again() {
    let node = RabbitmqNode::start().expect("a private node");
    let bench = Bench::on(format!("{}?heartbeat=1&connection_timeout=200", node.url()));
    let daemon = bench.start_with(ECHO, &EVERY_ATTEMPT).await;
    becomes_ready(&daemon, true).await;
    let before = held(&daemon);
    let signal = |name: &str| {
        let pid = node.pid().expect("it runs").to_string();
        let sent = Command::new("kill").args([name, &pid]).status().expect("kill can be run");
        assert!(sent.success(), "{name}");
    };
    for round in 0..2 {
        signal("-STOP");
        becomes_ready(&daemon, false).await;
        attempts(&daemon, ATTEMPTS / 2).await;
        let frozen = held(&daemon);
        signal("-CONT");
        assert_flat(before, frozen);
        becomes_ready(&daemon, true).await;
        let id = format!("after-{round}");
        let (status, accepted) = daemon.post("/api/v1/events", &format!(r#"{{"type":"in","id":"{id}","data":1}}"#));
        assert_eq!(status, 202, "{accepted}");
        assert_eq!(daemon.settled(&id).await["outcome"], "ack");
    }
    assert_flat(before, held(&daemon));
    let broker = bench.open(ECHO).await;
    assert_eq!(drain(&broker, &bench.queue("$P-out"), 2).await.len(), 2);
    broker.close(trunkline_support::patience()).await;
    assert!(daemon.terminate().await.success());
}

/// Runs in a mount namespace whose only name server accepts queries and answers none.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_hangs_costs_one_thread() {
    const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 9);
    let _silent = UdpSocket::bind((NAME_SERVER, 53)).expect("the port of name servers");
    let bench = Bench::on("amqp://guest:guest@broker.test/%2f?connection_timeout=100".to_owned());
    let resolver = bench.path("resolv.conf");
    std::fs::write(&resolver, format!("nameserver {NAME_SERVER}\noptions timeout:30 attempts:5\n")).expect("a file");
    let wrapper = bench.path("elsewhere");
    let script = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {} /etc/resolv.conf && exec {} \"$@\"' sh \"$@\"\n",
        resolver.display(),
        binary()
    );
    std::fs::write(&wrapper, script).expect("a file");
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let file = bench.write_routes(ECHO);
    let wrapper = wrapper.display().to_string();
    let started = Daemon::start_with(&wrapper, &file, &bench.state(), &bench.broker, &EVERY_ATTEMPT).await;
    let daemon = started.unwrap_or_else(|ended| panic!("{ended:?}"));
    told(&daemon, "`broker.test` of the broker's URL: no name server answers").await;
    attempts(&daemon, 2).await;
    let before = held(&daemon);
    attempts(&daemon, ATTEMPTS / 2).await;
    assert_flat(before, held(&daemon));
    assert_eq!(daemon.get("/livez").0, 200);
    assert!(daemon.terminate().await.success(), "no request waits for the name server");
}
