//! https: the certificate has to be from a trusted CA and for the requested host.

use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use trunkline_config::pem;
use trunkline_support::certificates::CertificateAuthority;

use super::answer;
use crate::bench::Bench;

async fn server(dir: &std::path::Path) -> u16 {
    let read = |name: &str| std::fs::read(dir.join(name)).expect("a file");
    let chain = pem::certificates(&read("server.pem")).expect("certificates");
    let key = pem::private_key(&read("server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _head = stream.read(&mut [0; 4096]).await;
            let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecure").await;
            let _closed = stream.shutdown().await;
        }
    });
    // For as long as the test runs.
    tasks.detach_all();
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn own_roots_are_trusted_and_strangers_are_not() {
    let bench = Bench::embedded();
    let dir = bench.path("");
    CertificateAuthority::new(&dir, "ca").issue("server");
    let _unused = CertificateAuthority::new(&dir, "stranger");
    let port = server(&dir).await;
    let routes = format!(
        r#"
        [defaults]
        exchange = {{ name = "$P-events", type = "topic" }}
        [routes.$P-fetch]
        from = "fetch"
        plugin = "fetcher"
        [plugins.fetcher]
        limits = {{ timeout = "5s" }}
        [plugins.fetcher.allow]
        http = ["https://127.0.0.1:{port}", "https://127.0.0.2:{port}"]
        private-networks = ["127.0.0.0/8"]
    "#
    );
    let url = json!({ "url": format!("https://127.0.0.1:{port}/") });
    for (root, wanted) in [("ca.pem", "secure"), ("stranger.pem", "")] {
        let bench = Bench::embedded();
        let root = dir.join(root);
        let daemon = bench.start_with(&routes, &[("SSL_CERT_FILE", root.to_str().expect("a path"))]).await;
        let fetched = answer(&daemon, "fetch", None, &url).await;
        match wanted {
            "" => assert!(fetched["error"].as_str().is_some_and(|error| error.contains("Tls")), "{fetched}"),
            _ => assert_eq!(fetched["body"], wanted, "{fetched}"),
        }
        assert!(daemon.terminate().await.success());
    }
}
