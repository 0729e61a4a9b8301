//! W5: bodies with a `content-encoding`, over the broker and over HTTP.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use trunkline_broker::Publication;
use trunkline_event::Message;
use trunkline_support::compressed::{bare_deflate, gzip, zlib};
use trunkline_support::{Daemon, eventually, patience};

use super::put;
use crate::bench::{Bench, drain, message, metric, on_both_brokers, settled};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
retry = { max = 2, delay = "100ms" }
[queues.$P-out]
bind = ["echoed", "managed"]
[routes.$P-echo]
from = "echo"
plugin = "echo"
max-body = "64KiB"
[routes.$P-again]
from = "again"
plugin = "retrier"
[queues.$P-kept]
bind = "echo"
[routes.$P-history]
queue = "$P-kept"
archive = { dir = "archive" }
[hooks.plain]
[hooks.signed]
signature = { header = "X-Signature", secret = { env = "HOOK_SECRET" } }
[queues.$P-hooks]
bind = ["plain", "signed", "posted"]
"#;
const BODY_MAX: usize = 64 << 10;
const JSON: &[u8] = r#"{"order":7,"text":"ä"}"#.as_bytes();

fn coded(bench: &Bench, key: &str, id: &str, encoding: &str, body: Vec<u8>) -> Publication {
    let mut publication = message(&format!("{}-events", bench.prefix), key, id, body);
    let properties = &mut publication.message_mut().properties;
    properties.content_type = Some("application/json".to_owned());
    properties.content_encoding = Some(encoding.to_owned());
    publication
}

fn id(message: &Message) -> &str {
    message.properties.message_id.as_deref().unwrap_or_default()
}

/// Encoding and body. For a refused event, also the reason of the dead letter and a part of the error.
type CodingCase = (&'static str, Vec<u8>, Option<(&'static str, &'static str)>);

fn cases() -> Vec<CodingCase> {
    let bomb = gzip(&vec![b' '; BODY_MAX + 1]);
    assert!(bomb.len() < 1000, "a bomb is small");
    vec![
        ("gzip", gzip(JSON), None),
        ("GZIP", gzip(JSON), None),
        ("x-gzip", gzip(JSON), None),
        ("deflate", zlib(JSON), None),
        ("deflate", bare_deflate(JSON), None),
        ("gzip, deflate", zlib(&gzip(JSON)), None),
        ("deflate, gzip", gzip(&zlib(JSON)), None),
        ("utf-8", JSON.to_vec(), None),
        ("identity", JSON.to_vec(), None),
        ("", JSON.to_vec(), None),
        ("gzip", bomb, Some(("too-large", "more than 65536 bytes"))),
        ("gzip, gzip", gzip(&gzip(&vec![b' '; 64 << 20])), Some(("too-large", "more than 65536 bytes"))),
        ("gzip", JSON.to_vec(), Some(("invalid", "gzip"))),
        ("gzip", gzip(JSON)[..20].to_vec(), Some(("invalid", "gzip"))),
        ("deflate", JSON.to_vec(), Some(("invalid", "deflate"))),
        ("br", JSON.to_vec(), Some(("invalid", "\"br\" is not supported: use gzip or deflate"))),
        ("zstd", JSON.to_vec(), Some(("invalid", "\"zstd\" is not supported"))),
        ("gzip", gzip(b"no json"), Some(("invalid", "not valid JSON"))),
    ]
}

async fn bodies_are_decoded_and_dead_letters_keep_theirs(bench: Bench) {
    let cases = cases();
    let broker = bench.open_with(ROUTES, &ENVIRONMENT).await;
    for (number, (encoding, body, _)) in cases.iter().enumerate() {
        put(&broker, coded(&bench, "echo", &format!("e-{number}"), encoding, body.clone())).await;
    }
    broker.close(patience()).await;
    drop(broker);
    let daemon = start(&bench).await;
    let dead = cases.iter().filter(|(_, _, refused)| refused.is_some()).count();
    let good = cases.len() - dead;
    metric(&daemon, &settled(&bench, "echo", "dead_letter"), |count| count == dead as f64).await;
    metric(&daemon, &settled(&bench, "echo", "ack"), |count| count == good as f64).await;
    let lines = archived(&bench.path("archive"), good).await;
    assert!(daemon.terminate().await.success());

    let broker = bench.open_with(ROUTES, &ENVIRONMENT).await;
    for echoed in drain(&broker, &bench.queue("$P-out"), good).await {
        assert_eq!((&echoed.body[..], &echoed.properties.content_encoding), (JSON, &None));
    }
    let letters = drain(&broker, &bench.queue("$P-echo.dlq"), dead).await;
    for (number, (encoding, body, refused)) in cases.iter().enumerate() {
        let name = format!("e-{number}");
        let Some((reason, told)) = refused else {
            let line = lines.iter().find(|line| line["id"] == name.as_str());
            assert_eq!(line.map(|line| &line["data"]), Some(&json!({ "order": 7, "text": "ä" })), "{name}");
            continue;
        };
        let letter = letters.iter().find(|letter| id(letter) == name).unwrap_or_else(|| panic!("{name} is nowhere"));
        let headers = &letter.properties.headers;
        assert_eq!(headers.text("trunkline-reason"), Some(*reason), "{name} {encoding}");
        let error = headers.text("trunkline-error").unwrap_or_default();
        assert!(error.contains(told), "{name} {encoding}: {error}");
        assert_eq!(&letter.body[..], &body[..], "{name}: the body is unchanged");
        assert_eq!(letter.properties.content_encoding.as_deref(), Some(*encoding), "{name}: the encoding is unchanged");
    }
    broker.close(patience()).await;
}

/// The copies for a retry keep the body and the encoding, so each attempt reads the same data.
async fn retries_keep_the_encoding(bench: Bench) {
    let broker = bench.open_with(ROUTES, &ENVIRONMENT).await;
    put(&broker, coded(&bench, "again", "later", "gzip", gzip(b"2"))).await;
    put(&broker, coded(&bench, "again", "never", "deflate", zlib(b"9"))).await;
    broker.close(patience()).await;
    drop(broker);
    let daemon = start(&bench).await;
    assert_eq!(daemon.settled("later").await["outcome"], "ack");
    assert_eq!(daemon.settled("never").await["outcome"], "dead_letter");
    assert!(daemon.terminate().await.success());
    let broker = bench.open_with(ROUTES, &ENVIRONMENT).await;
    let letter = drain(&broker, &bench.queue("$P-again.dlq"), 1).await.remove(0);
    assert_eq!((id(&letter), &letter.body[..]), ("never", &zlib(b"9")[..]));
    assert_eq!(letter.properties.content_encoding.as_deref(), Some("deflate"));
    broker.close(patience()).await;
}

async fn requests_are_decoded_or_refused(bench: Bench) {
    let daemon = start(&bench).await;
    let event = json!({ "type": "posted", "data": { "order": 7 } }).to_string();
    let batch = json!({ "events": [{ "type": "posted", "data": 1 }] }).to_string();
    for (path, text, accepted) in [
        ("/api/v1/events", event.as_bytes(), 202),
        ("/api/v1/events/batch", batch.as_bytes(), 202),
        ("/hooks/plain", JSON, 202),
    ] {
        for (encoding, body, expected) in [
            ("gzip", gzip(text), accepted),
            ("deflate", zlib(text), accepted),
            ("gzip, deflate", zlib(&gzip(text)), accepted),
            ("identity", text.to_vec(), accepted),
            ("utf-8", text.to_vec(), accepted),
            ("gzip", text.to_vec(), 400),
            ("gzip", gzip(&vec![b' '; (1 << 20) + 1]), 413),
        ] {
            let (status, _, answer) = send(&daemon, path, encoding, &[], &body);
            assert_eq!(status, expected, "{path} {encoding}: {answer}");
        }
        for encoding in ["br", "zstd", "compress", "gzip, br"] {
            let (status, accept, answer) = send(&daemon, path, encoding, &[], text);
            assert_eq!((status, accept.as_deref()), (415, Some("gzip, deflate")), "{path} {encoding}: {answer}");
            assert_eq!(answer["code"], "TL415");
        }
    }
    // The signature is from GitHub's documentation. A sender may sign the body before or after the compression.
    let plain = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let compressed = "2f5a53300c1be16072e4033bcbb287cbb0f1ec280544dbcd3c5721eac23bc73d";
    let stored = b"x\x01\x01\x0d\x00\xf2\xffHello, World!\x1f\x9e\x04j";
    for signature in [plain, compressed] {
        let (status, _, answer) = send(&daemon, "/hooks/signed", "deflate", &[("x-signature", signature)], stored);
        assert_eq!(status, 202, "{answer}");
    }
    let wrong = "0".repeat(64);
    for (encoding, body) in [("deflate", &stored[..]), ("gzip", &b"no gzip"[..]), ("br", &b"x"[..])] {
        let (status, _, answer) = send(&daemon, "/hooks/signed", encoding, &[("x-signature", wrong.as_str())], body);
        assert_eq!(status, 401, "{encoding}: {answer}");
    }
    assert!(daemon.terminate().await.success());
    let broker = bench.open_with(ROUTES, &ENVIRONMENT).await;
    // Each path accepted five requests. The hook with a signature accepted two requests.
    let published = drain(&broker, &bench.queue("$P-hooks"), 17).await;
    assert_eq!(published.len(), 17);
    for message in published {
        let body = String::from_utf8(message.body.to_vec()).expect("a decoded body");
        assert_eq!(message.properties.content_encoding, None);
        assert!(["{\"order\":7}", "1", "Hello, World!"].contains(&body.as_str()) || body.as_bytes() == JSON, "{body}");
    }
    broker.close(patience()).await;
}

/// The secret of the hook.
const ENVIRONMENT: [(&str, &str); 1] = [("HOOK_SECRET", "It's a Secret to Everybody")];

async fn start(bench: &Bench) -> Daemon {
    bench.start_with(ROUTES, &ENVIRONMENT).await
}

/// Status, `Accept-Encoding` and body of the response to a POST request.
fn send(
    daemon: &Daemon,
    path: &str,
    encoding: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, Option<String>, Value) {
    let request = ureq::post(daemon.url(path)).config().timeout_global(Some(patience()));
    let mut request = request.http_status_as_error(false).build();
    request = request.header("content-encoding", encoding);
    if !path.ends_with("signed") {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.send(body).expect("an answer");
    let accept = response.headers().get("accept-encoding").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let text = response.body_mut().read_to_string().expect("a text");
    (response.status().as_u16(), accept, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// The lines of an archive, as soon as the archive has `count` lines.
async fn archived(directory: &Path, count: usize) -> Vec<Value> {
    eventually("the archive", || {
        let text = Command::new("zcat").args(files(directory)).output().expect("zcat runs").stdout;
        let lines = String::from_utf8_lossy(&text).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let found = Some(lines).filter(|lines: &Vec<Value>| lines.len() >= count);
        async move { found }
    })
    .await
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

on_both_brokers!(
    bodies_are_decoded_and_dead_letters_keep_theirs,
    retries_keep_the_encoding,
    requests_are_decoded_or_refused
);
