//! TLS to the broker: never plain TCP by accident, a reason for each refusal, and client certificates that are renewed.

use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use trunkline_support::certificates::CertificateAuthority;
use trunkline_support::rabbitmq::{RabbitmqNode, free_port};
use trunkline_support::{Daemon, eventually};

use crate::bench::{Bench, ECHO, drain, message};

/// A node with `server.pem` that speaks TLS on the port. It accepts client certificates from `ca.pem`.
fn node(dir: &Path, port: u16, wants_certificate: bool) -> RabbitmqNode {
    let dir = dir.display();
    let lines = format!(
        "listeners.ssl.default = 127.0.0.1:{port}\n\
         ssl_options.cacertfile = {dir}/ca.pem\n\
         ssl_options.certfile = {dir}/server.pem\n\
         ssl_options.keyfile = {dir}/server.key\n\
         ssl_options.verify = verify_peer\n\
         ssl_options.fail_if_no_peer_cert = {wants_certificate}\n"
    );
    RabbitmqNode::start_with(&lines).expect("a node with TLS")
}

fn routes(tls: &str) -> String {
    format!("[broker]\ntls = {tls}\n{ECHO}")
}

/// Waits until the daemon gives the reason in its status and in its log. The daemon runs on meanwhile.
async fn refused(daemon: &Daemon, reason: &str) {
    eventually(reason, || {
        let (status, text) = daemon.get("/health/rabbitmq");
        let health: Value = serde_json::from_str(&text).expect("JSON");
        let told = status == 503 && health["error"].as_str().is_some_and(|error| error.contains(reason));
        async move { told.then_some(()) }
    })
    .await;
    daemon.logged(reason).await;
    assert_eq!(daemon.get("/readyz").0, 503);
    assert_eq!(daemon.get("/livez").0, 200);
    assert_eq!(daemon.metric("trunkline_broker_reconnects_total"), 0.0);
}

async fn becomes_ready(daemon: &Daemon) {
    eventually("readiness", || {
        let is_ready = daemon.get("/readyz").0 == 200;
        async move { is_ready.then_some(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn amqps_to_a_port_of_plain_amqp_fails() {
    let node = RabbitmqNode::start().expect("a node without TLS");
    let dir = tempfile::tempdir().expect("a directory");
    let _ca = CertificateAuthority::new(dir.path(), "ca");
    let bench = Bench::on(node.url().replacen("amqp://", "amqps://", 1));
    let daemon = bench.start(&routes(&format!("{{ ca = \"{}/ca.pem\" }}", dir.path().display()))).await;
    refused(&daemon, "does not speak TLS").await;
    let (status, problem) = daemon.post("/api/v1/events", r#"{"type":"in","data":{}}"#);
    assert_eq!((status, &problem["code"]), (503, &"TL503".into()), "{problem}");
    let exchanges = node.ctl(&["list_exchanges", "name"]).expect("a list");
    assert!(!exchanges.contains(&bench.prefix), "nothing is declared: {exchanges}");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_ca_is_trusted_and_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ca, _other) = (CertificateAuthority::new(dir.path(), "ca"), CertificateAuthority::new(dir.path(), "other"));
    ca.issue("server");
    let port = free_port().expect("a port");
    let node = node(dir.path(), port, false);
    let by = |name: &str| routes(&format!("{{ ca = \"{}/{name}.pem\" }}", dir.path().display()));

    for (host, routes) in [("localhost", by("other")), ("127.0.0.1", format!("[broker]\n{ECHO}"))] {
        let stranger = Bench::on(format!("amqps://guest:guest@{host}:{port}/%2f"));
        let daemon = stranger.start(&routes).await;
        refused(&daemon, "from a CA that the daemon does not trust").await;
        assert!(daemon.terminate().await.success());
    }
    assert_eq!(node.ctl(&["list_exchanges", "name"]).expect("a list").matches("-events").count(), 0);

    for host in ["localhost", "127.0.0.1"] {
        let bench = Bench::on(format!("amqps://guest:guest@{host}:{port}/%2f"));
        let daemon = bench.start(&by("ca")).await;
        becomes_ready(&daemon).await;
        let (status, accepted) = daemon.post("/api/v1/events", r#"{"type":"in","data":{"a":1}}"#);
        assert_eq!(status, 202, "{accepted}");
        let id = accepted["id"].as_str().expect("an id");
        assert_eq!(daemon.settled(id).await["outcome"], "ack");
        let expiry = daemon.metric("trunkline_broker_certificate_expiry_timestamp_seconds");
        let left = expiry - std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs_f64();
        assert!(left > 86_400.0 && left < 3.0 * 86_400.0, "the certificate is valid for two days: {left} s");
        let connections = node.ctl(&["list_connections", "ssl"]).expect("a list");
        assert!(connections.contains("true") && !connections.contains("false"), "{connections}");
        let broker = bench.open(&by("ca")).await;
        let echoed = drain(&broker, &bench.queue("$P-out"), 1).await;
        assert_eq!(echoed[0].properties.headers.text("trunkline-cause"), Some(id));
        broker.close(trunkline_support::patience()).await;
        assert!(daemon.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_wants_a_certificate_gets_the_one_that_is_there_now() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ca, other) = (CertificateAuthority::new(dir.path(), "ca"), CertificateAuthority::new(dir.path(), "other"));
    ca.issue("server");
    let port = free_port().expect("a port");
    let node = node(dir.path(), port, true);
    let at = dir.path().display();
    let bench = Bench::on(format!("amqps://guest:guest@localhost:{port}/%2f"));

    let without = bench.start(&routes(&format!("{{ ca = \"{at}/ca.pem\" }}"))).await;
    refused(&without, "requires a client certificate").await;
    assert!(without.terminate().await.success());

    // First from a CA that the broker does not know, then renewed while the daemon runs, and used without a restart.
    other.issue("client");
    let with = routes(&format!("{{ ca = \"{at}/ca.pem\", cert = \"{at}/client.pem\", key = \"{at}/client.key\" }}"));
    let daemon = bench.start(&with).await;
    refused(&daemon, "does not trust the CA of the client certificate").await;
    let secret = std::fs::read_to_string(dir.path().join("client.key")).expect("a key");
    ca.issue("client");
    becomes_ready(&daemon).await;

    let broker = bench.open(&with).await;
    let publication = message(&format!("{}-events", bench.prefix), "in", "one", "x");
    drop(broker.publish(vec![publication]).await.expect("confirmed"));
    assert_eq!(daemon.settled("one").await["outcome"], "ack");
    assert_eq!(drain(&broker, &bench.queue("$P-out"), 1).await.len(), 1);
    broker.close(trunkline_support::patience()).await;
    assert!(node.ctl(&["list_connections", "peer_cert_subject"]).expect("a list").contains("CN=client"));
    for line in secret.lines().filter(|line| !line.starts_with("-----")) {
        assert!(!daemon.log().contains(line), "the key shows in the log");
    }
    assert!(!daemon.log().contains("guest"), "the credentials show in the log");
    assert!(daemon.terminate().await.success());
}

/// A listener that answers everything as web servers answer requests that they cannot read.
async fn web_server() -> (std::net::SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, mut serving) = (listener.local_addr().expect("an address"), JoinSet::new());
    serving.spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let _some = client.read(&mut [0; 8]).await;
            let _gone = client.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
        }
    });
    (address, serving)
}

/// B22: certificates that are out of date or for another host, and listeners of other protocols. Each has its own
/// reason, and nothing is sent over a connection that does not fit the URL.
#[tokio::test(flavor = "multi_thread")]
async fn every_other_reason_is_reported_and_none_leads_to_plain_amqp() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = CertificateAuthority::new(dir.path(), "ca");
    ca.issue("server");
    let port = free_port().expect("a port");
    let node = node(dir.path(), port, false);
    let tls = routes(&format!("{{ ca = \"{}/ca.pem\" }}", dir.path().display()));
    let over_tls = format!("amqps://guest:guest@localhost:{port}/%2f");
    let becomes = async |certificate: &dyn Fn()| {
        certificate();
        let reload = "ssl:clear_pem_cache().";
        node.ctl(&["eval", reload]).expect("the broker reads its certificate again");
    };

    let expired = || ca.issue_for("server", "DNS:localhost", -1);
    let elsewhere = || ca.issue_for("server", "DNS:broker.test", 2);
    for (certificate, reason) in [
        (&expired as &dyn Fn(), "has expired"),
        (&elsewhere as &dyn Fn(), "does not name the host of the broker's URL"),
    ] {
        becomes(certificate).await;
        let bench = Bench::on(over_tls.clone());
        let daemon = bench.start(&tls).await;
        refused(&daemon, reason).await;
        becomes(&|| ca.issue("server")).await;
        becomes_ready(&daemon).await;
        assert!(daemon.terminate().await.success());
    }

    // The reverse of `amqps_to_a_port_of_plain_amqp_fails`, and a port of another protocol.
    let to_tls = Bench::on(format!("amqp://guest:guest@localhost:{port}/%2f"));
    let daemon = to_tls.start(ECHO).await;
    refused(&daemon, "the peer speaks TLS").await;
    assert!(daemon.terminate().await.success());
    let (http, _serving) = web_server().await;
    for (scheme, routes, reason) in
        [("amqp", ECHO, "the peer is an HTTP server"), ("amqps", &tls, "does not speak TLS")]
    {
        let to_http = Bench::on(format!("{scheme}://guest:guest@{http}/%2f"));
        let daemon = to_http.start(routes).await;
        refused(&daemon, reason).await;
        assert!(daemon.terminate().await.success());
    }
}
