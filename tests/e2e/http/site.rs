//! Requests that are addressed to another name, or that a web page of another site made, are refused.

use serde_json::json;
use trunkline_support::Daemon;

use super::raw::{begun, exchange, read};
use crate::bench::Bench;

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[hooks.plain]
[hooks.guarded]
token = { env = "HOOK_TOKEN" }
"#;
const TOKEN: &str = "a-token-of-the-test";

/// The status of an answer to a request without a body, from its header lines.
fn status(daemon: &Daemon, lines: &[&str]) -> u16 {
    exchange(daemon, &(lines.join("\r\n") + "\r\nConnection: close\r\n\r\n")).status
}

/// Every path of the listener, with its method.
const PATHS: [&str; 14] = [
    "POST /api/v1/reload",
    "POST /api/v1/events",
    "POST /api/v1/events/batch",
    "GET /api/v1/events/stream",
    "GET /api/v1/events/queues",
    "GET /api/v1/generation",
    "POST /hooks/plain",
    "POST /hooks/guarded",
    "GET /health",
    "GET /livez",
    "GET /metrics",
    "GET /docs/",
    "GET /openapi.json",
    "GET /nothing",
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_reached_by_another_name_or_from_another_site() {
    let bench = Bench::embedded();
    let daemon = bench.start_with(ROUTES, &[("HOOK_TOKEN", TOKEN)]).await;
    let elsewhere = [
        &["Host: evil.test"][..],
        &["Host: evil.test:8000"],
        &["Host: localhost.evil.test"],
        &["host:127.0.0.1.evil.test"],
        &["Host: 192.0.2.7"],
        &["Host: localhost", "Origin: http://evil.test"],
        &["Host: localhost", "Origin: null"],
        &["Host: localhost", "Origin: http://localhost.evil.test"],
        &["Host: localhost", "Origin: https://localhost@evil.test"],
        &["Host: localhost", "Origin: http://localhost", "Origin: http://evil.test"],
        &["Host: localhost", "Sec-Fetch-Site: cross-site"],
        &["Host: localhost", "Sec-Fetch-Site: same-site", "Origin: http://localhost:1"],
    ];
    for path in PATHS {
        for headers in elsewhere {
            let line = format!("{path} HTTP/1.1");
            let request = [&[line.as_str(), "Content-Length: 0"], headers].concat();
            let answer = exchange(&daemon, &(request.join("\r\n") + "\r\nConnection: close\r\n\r\n"));
            assert_eq!((answer.status, &answer.problem()["code"]), (403, &json!("TL403")), "{request:?}: {answer:?}");
        }
    }
    // One spelling of each is enough.
    for (lines, expected) in [
        (&["GET /livez HTTP/1.1"][..], 400),
        (&["GET /livez HTTP/1.1", "Host: localhost", "Host: localhost"], 400),
        (&["GET /livez HTTP/1.1", "Host: localhost", "Host: evil.test"], 400),
        (&["GET /livez HTTP/1.1", "Host:"], 400),
        (&["GET /livez HTTP/1.1", "Host: a b"], 400),
        (&["GET /livez HTTP/1.1", "Host: \u{e9}vil.test"], 400),
        (&["GET http://evil.test/livez HTTP/1.1", "Host: localhost"], 403),
        (&["GET http://localhost/livez HTTP/1.1", "Host: evil.test"], 403),
        (&["GET http://localhost/livez HTTP/1.1", "Host: localhost"], 200),
        (&["GET http://evil.test/livez HTTP/1.0"], 403),
        (&["GET /livez HTTP/1.0"], 200),
        (&["GET /livez HTTP/1.0", "Host: evil.test"], 403),
        (&["GET /livez HTTP/1.1", "Host: LOCALHOST.:1"], 200),
        (&["GET /livez HTTP/1.1", "Host: [::1]:8000"], 200),
        (&["GET /livez HTTP/1.1", "Host: [::ffff:127.0.0.1]"], 200),
        (&["GET /livez HTTP/1.1", "Host: 127.0.0.2"], 200),
        (&["POST /api/v1/reload HTTP/1.1", "Host: localhost", "Content-Length: 0", "Origin: http://localhost"], 200),
        (&["POST /api/v1/reload HTTP/1.1", "Host: localhost", "Content-Length: 0", "Sec-Fetch-Site: same-origin"], 200),
        (
            &[
                "GET /docs/ HTTP/1.1",
                "Host: localhost",
                "Sec-Fetch-Site: cross-site",
                "Sec-Fetch-Mode: navigate",
                "Sec-Fetch-Dest: document",
            ],
            200,
        ),
    ] {
        assert_eq!(status(&daemon, lines), expected, "{lines:?}");
    }
    assert!(daemon.metric("trunkline_streams_open") < 0.5, "no stream was opened");
    daemon.logged("the daemon refused an HTTP request because of its Host").await;
    assert!(daemon.terminate().await.success());
}

/// Requests that a page may send without a preflight: plain text, forms, and beacons.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_publishes_nothing() {
    let bench = Bench::embedded();
    let daemon = bench.start_with(ROUTES, &[("HOOK_TOKEN", TOKEN)]).await;
    let body = r#"{"type":"t","data":1}"#;
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"]
    {
        for path in ["/api/v1/events", "/api/v1/events/batch", "/hooks/plain", "/hooks/guarded"] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nOrigin: http://evil.test\r\nX-Hook-Token: {TOKEN}\r\n\
                 Content-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let answer = exchange(&daemon, &request);
            assert_eq!(answer.status, 403, "{path} {kind}: {answer:?}");
        }
    }
    // The preflight of a browser gets no permission.
    let asked = "OPTIONS /api/v1/events HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.test\r\n\
                 Access-Control-Request-Method: POST\r\nConnection: close\r\n\r\n";
    let answer = exchange(&daemon, asked);
    assert_eq!(answer.status, 403);
    assert!(!answer.head.to_lowercase().contains("access-control"), "{answer:?}");
    assert!(daemon.sum("trunkline_events_published_total") < 0.5, "nothing was published");
    // The header alone refuses the request, without a wait for the body.
    let slow = begun(
        &daemon,
        "POST /hooks/plain HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 9\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(read(slow).status, 403);
    assert!(daemon.terminate().await.success());
}

/// Beyond loopback: probes and scrapers use an address, people use a listed name.
#[tokio::test(flavor = "multi_thread")]
async fn listed_names_and_addresses_are_answered() {
    let bench = Bench::embedded();
    let routes = format!(
        "[http]\nhosts = [\"trunkline.example.com\", \"*.tunnel.example\"]\ntokens = [\"${{TOKEN}}\"]\n{ROUTES}"
    );
    let everywhere = "set -- $(echo \"$@\" | sed 's/127.0.0.1:0/0.0.0.0:0/')";
    let environment = [("HOOK_TOKEN", TOKEN), ("TOKEN", TOKEN)];
    let daemon = bench.start_by(everywhere, &routes.replace("[hooks.plain]\n", ""), &environment).await;
    let asks = |more: &[&str]| status(&daemon, &[&["GET /readyz HTTP/1.1"], more].concat());
    for (headers, expected) in [
        (&["Host: 10.42.0.17:8000"][..], 200),
        (&["Host: 203.0.113.9"], 200),
        (&["Host: [fd00::17]:8000"], 200),
        (&["Host: localhost:8000"], 200),
        (&["Host: trunkline.example.com"], 200),
        (&["Host: Trunkline.Example.com.:443", "Origin: https://trunkline.example.com"], 200),
        (&["Host: a.tunnel.example"], 200),
        (&["Host: tunnel.example"], 403),
        (&["Host: trunkline"], 403),
        (&["Host: evil.test"], 403),
        (&["Host: trunkline.example.com.evil.test"], 403),
        (&["Host: 10.42.0.17:8000", "Origin: http://10.42.0.17:8000"], 200),
        (&["Host: 10.42.0.17:8000", "Origin: http://10.42.0.18:8000"], 403),
        (&["Host: 10.42.0.17:8000", "Origin: http://10.42.0.17:9000"], 403),
        (&["Host: 10.42.0.17:8000", "Origin: https://trunkline.example.com"], 200),
        (&["Host: 10.42.0.17:8000", "Origin: http://localhost:8000"], 403),
    ] {
        assert_eq!(asks(headers), expected, "{headers:?}");
    }
    // The name is checked first, so a client with another name does not learn whether its token is right.
    for (host, token, expected) in [
        ("evil.test", TOKEN, 403),
        ("evil.test", "another", 403),
        ("trunkline.example.com", "another", 401),
        ("trunkline.example.com", TOKEN, 200),
    ] {
        let authorization = format!("Authorization: Bearer {token}");
        let lines = ["GET /api/v1/generation HTTP/1.1", &format!("Host: {host}"), &authorization];
        assert_eq!(status(&daemon, &lines), expected, "{host} {token}");
    }
    assert!(daemon.terminate().await.success());
}
