//! P21: requests go only to granted origins, to the checked address, and end within time and size limits.

use serde_json::{Value, json};
use trunkline_support::Daemon;

use super::server::Server;
use super::{answer, publish, refusal};
use crate::bench::Bench;

/// `$O` is the granted origin, `$N` the value of `private-networks`.
const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
retry = { max = 0 }
[routes.$P-fetch]
from = "fetch"
plugin = "fetcher"
[plugins.fetcher]
allow = { http = [$O], private-networks = [$N] }
limits = { timeout = "5s", http-body = "64KiB" }
"#;

fn routes(origins: &[&str], networks: &[&str]) -> String {
    let list = |items: &[&str]| items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ");
    let networks = if networks.is_empty() { "192.0.2.1".to_owned() } else { networks.join("\", \"") };
    ROUTES.replace("$O", &list(origins)).replace("$N", &format!("\"{networks}\""))
}

async fn fetch(daemon: &Daemon, wish: Value) -> Value {
    answer(daemon, "fetch", None, &wish).await
}

fn calls(daemon: &Daemon, outcome: &str) -> f64 {
    let labels = format!("plugin=\"fetcher\",interface=\"http\",outcome=\"{outcome}\"");
    daemon.metric(&format!("trunkline_plugin_host_calls_total{{{labels}}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_origin_answers_and_no_other_is_asked() {
    let (server, other) = (Server::start(), Server::start());
    let bench = Bench::embedded();
    let daemon = bench.start(&routes(&[&server.origin()], &["127.0.0.1"])).await;
    let (origin, port) = (server.origin(), server.address.port());
    let fetched = fetch(&daemon, json!({ "url": format!("{origin}/hello?q=1"), "headers": [["x-own", "1"]] })).await;
    assert_eq!((&fetched["status"], &fetched["body"]), (&json!(200), &json!("/hello")));
    let heads = server.heads();
    assert!(heads[0].starts_with("GET /hello?q=1 HTTP/1.1\r\n"), "{heads:?}");
    assert!(heads[0].to_lowercase().contains(&format!("host: 127.0.0.1:{port}\r\n")), "{heads:?}");

    let refused = [
        other.origin() + "/",
        format!("https://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0x7f000001:{port}/"),
        format!("http://0177.0.0.1:{port}/"),
        format!("http://127.1:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://127.0.0.1.nip.test:{port}/"),
        format!("http://127.0.0.1:{port}@example.com/"),
        format!("http://user@127.0.0.1:{port}/"),
        "http://127.0.0.1/".to_owned(),
    ];
    for url in &refused {
        let fetched = fetch(&daemon, json!({ "url": url })).await;
        assert!(fetched["error"].as_str().is_some_and(|error| error.contains("refused")), "{url}: {fetched}");
    }
    assert!(other.heads().is_empty() && server.heads().len() == 1, "nothing else was asked");
    let forged = fetch(&daemon, json!({ "url": format!("{origin}/"), "headers": [["Host", "evil.test"]] })).await;
    assert!(forged["error"].as_str().is_some_and(|error| error.contains("header Host")), "{forged}");
    let tunnel = fetch(&daemon, json!({ "url": format!("{origin}/"), "method": "CONNECT" })).await;
    assert!(tunnel["error"].is_string(), "{tunnel}");
    assert_eq!(calls(&daemon, "ok"), 1.0);
    assert!(calls(&daemon, "refused") >= 10.0, "{}", daemon.get("/metrics").1);
    daemon.logged("the daemon refused an HTTP request of a plugin").await;
    assert!(!daemon.log().contains("q=1"), "paths and queries are not logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_inside_is_refused_unless_its_network_is_listed() {
    let server = Server::start();
    let port = server.address.port();
    let origins = [format!("http://localhost:{port}")];
    let origins = origins.iter().map(String::as_str).collect::<Vec<_>>();
    let url = json!({ "url": format!("http://localhost:{port}/") });
    let bench = Bench::embedded();
    let daemon = bench.start(&routes(&origins, &[])).await;
    let fetched = fetch(&daemon, url.clone()).await;
    assert!(fetched["error"].as_str().is_some_and(|error| error.contains("not public")), "{fetched}");
    assert!(server.heads().is_empty(), "it was not even connected to");
    daemon.logged("not in `allow.private-networks`").await;
    assert!(daemon.terminate().await.success());

    let daemon = Bench::embedded().start(&routes(&origins, &["127.0.0.0/8", "::1"])).await;
    assert_eq!(fetch(&daemon, url).await["status"], 200);
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_the_plugins_and_pass_the_same_gate() {
    let (server, inside) = (Server::start(), Server::start());
    let daemon = Bench::embedded().start(&routes(&[&server.origin()], &["127.0.0.1"])).await;
    let to = |target: &str| format!("{}/redirect?{target}", server.origin());
    let seen = fetch(&daemon, json!({ "url": to(&inside.origin()) })).await;
    assert_eq!(seen["status"], 302, "the host follows nothing");
    let followed = fetch(&daemon, json!({ "url": to(&format!("{}/there", server.origin())), "follow": 1 })).await;
    assert_eq!((&followed["status"], &followed["body"]), (&json!(200), &json!("/there")));
    let refused = fetch(&daemon, json!({ "url": to(&inside.origin()), "follow": 1 })).await;
    assert!(refused["error"].as_str().is_some_and(|error| error.contains("not granted")), "{refused}");
    assert!(inside.heads().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_endless_servers_end_in_time_and_size() {
    let server = Server::start();
    let daemon = Bench::embedded().start(&routes(&[&server.origin()], &["127.0.0.1"])).await;
    let url = |path: &str| format!("{}{path}", server.origin());
    let cases = [
        (json!({ "url": url("/silent"), "timeout_ms": 300 }), "no answer in time"),
        (json!({ "url": url("/stops"), "timeout_ms": 300 }), "no answer in time"),
        (json!({ "url": url("/endless") }), "larger than limits.http-body"),
        (json!({ "url": url("/large") }), "larger than limits.http-body"),
        (json!({ "url": url("/x"), "method": "POST", "upload_bytes": 200_000 }), "larger than limits.http-body"),
        (json!({ "url": url("/headers") }), "failed"),
    ];
    for (wish, wanted) in cases {
        let started = std::time::Instant::now();
        let fetched = fetch(&daemon, wish.clone()).await;
        assert!(fetched["error"].as_str().is_some_and(|error| error.contains(wanted)), "{wish}: {fetched}");
        assert!(started.elapsed().as_secs() < 4, "{wish}: well before the call's end");
    }
    let fits = fetch(&daemon, json!({ "url": url("/x"), "method": "POST", "upload_bytes": 60_000 })).await;
    assert_eq!(fits["status"], 200, "{fits}");
    let burst = fetch(&daemon, json!({ "url": server.origin(), "burst": 12 })).await;
    assert_eq!(burst["burst"], json!([8, 4]), "eight at a time");
    // A wait of the plugin is bounded by the call, and the plugin gets the error before the call ends.
    for path in ["/silent", "/drips"] {
        let begun = std::time::Instant::now();
        let fetched = fetch(&daemon, json!({ "url": url(path) })).await;
        assert_eq!(fetched["error"], "no answer in time", "{path}: {fetched}");
        assert!((4..7).contains(&begun.elapsed().as_secs()), "{path}: {:?}", begun.elapsed());
    }
    assert!(calls(&daemon, "limited") >= 3.0 && calls(&daemon, "timeout") >= 3.0, "{}", daemon.get("/metrics").1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_the_network_is_retried_and_a_refusal_is_not() {
    let (server, gone) = (Server::start(), Server::start());
    let closed = trunkline_support::rabbitmq::free_port().expect("a port");
    let closed = format!("http://127.0.0.1:{closed}");
    let text = routes(&[&server.origin(), &closed], &["127.0.0.1"]);
    let daemon = Bench::embedded().start(&text.replace("max = 0", "max = 1, delay = \"50ms\"")).await;
    for (url, reason) in [(closed.clone(), "exhausted"), (gone.origin(), "rejected")] {
        let id = publish(&daemon, "fetch", None, &json!({ "url": url, "fail": true }));
        let settled = daemon.settled(&id).await;
        assert_eq!((&settled["outcome"], &settled["reason"]), (&json!("dead_letter"), &json!(reason)), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_without_a_grant_is_refused_by_name_and_key() {
    let text = r#"
        [defaults]
        exchange = { name = "$P-events", type = "topic" }
        [routes]
        fetch = { from = "fetch", plugin = "fetcher" }
        keep = { from = "keep", plugin = "keeper" }
        echo = { from = "echo", plugin = "echo" }
        [plugins]
        fetcher = { allow = { kv = true } }
        keeper = { allow = { http = ["https://a.example"] } }
    "#;
    let daemon = Bench::embedded().start(text).await;
    for (route, import, key) in [
        ("fetch", "wasi:http/outgoing-handler@0.2", "write `allow.http = [\"https://HOST\"]`"),
        ("keep", "wasi:keyvalue/store@0.2.0-draft2", "write `allow.kv = true`"),
    ] {
        let error = refusal(&daemon, route);
        assert!(error.contains(import) && error.contains(key), "{error}");
    }
    assert_eq!(refusal(&daemon, "echo"), "", "the others run");
    let id = publish(&daemon, "echo", None, &json!("x"));
    assert_eq!(daemon.settled(&id).await["outcome"], "ack");
}
