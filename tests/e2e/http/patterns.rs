//! Patterns that are made to be slow cost the daemon, and RabbitMQ, no more than others.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use trunkline_support::{Daemon, eventually};

use super::sse::Client;
use super::stream::PATH;
use crate::bench::{Bench, binary, on_both_brokers};

const ROUTES: &str = r##"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-all]
bind = ["#", "#.#.#.#.#.#.#.#.z"]
[routes.$P-picky]
from = "in"
plugin = "addresser"
[plugins.addresser.allow]
emit = ["#.*.#.*.#.*.#.*.#.*.#.*.#.*.#.*.#.*.nothing", "#.a.#.a.#.a.#.a.#.a.#.a.#.nothing", "addressed", "a.#"]
"##;
/// The limit for a request on a busy machine. The slow way takes minutes.
const WITHIN: Duration = Duration::from_secs(5);

/// The longest possible key, of equal words.
fn longest_key() -> String {
    vec!["a"; 127].join(".")
}

fn answers_at_once(daemon: &Daemon, path: &str) {
    let began = Instant::now();
    assert_eq!(daemon.get(path).0, 200);
    assert!(began.elapsed() < WITHIN, "{path}: {:?}", began.elapsed());
}

fn is_published_at_once(daemon: &Daemon, key: &str, data: &serde_json::Value) {
    let began = Instant::now();
    let event = json!({ "type": "t", "routing_key": key, "data": data });
    let (status, answer) = daemon.post("/api/v1/events", &event.to_string());
    assert_eq!((status, &answer["routed"]), (202, &json!(true)), "{answer}");
    assert!(began.elapsed() < WITHIN, "{key}: {:?}", began.elapsed());
}

fn escaped(pattern: &str) -> String {
    pattern.replace('#', "%23")
}

async fn patterns_that_look_back_cost_no_more_than_others(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    let mut patterns = vec![
        "#.#.#.#.#.#.#.#.z".to_owned(),
        "#.".repeat(120) + "z",
        "#.*.".repeat(25) + "z",
        "#.a.#.z".to_owned(),
        "*.#.*.#.*.#.*.#.*.#.z".to_owned(),
    ];
    let many = ["#.a.".repeat(25) + "z", "#.a.a.".repeat(15) + "#.z", "#.b.#.a.#.a.#.a.#".to_owned()];
    if bench.is_embedded() {
        patterns.extend(many);
    } else {
        // RabbitMQ itself would stop working.
        for pattern in many {
            let path = format!("{PATH}?pattern={}", escaped(&pattern));
            let (status, problem) = Client::open(&daemon, &path, None).refused().await;
            assert_eq!((status, &problem["code"]), (400, &json!("TL400")), "{problem}");
            assert!(
                problem["detail"].as_str().is_some_and(|detail| detail.contains("on RabbitMQ, a pattern has at most")),
                "{problem}"
            );
        }
    }
    let mut streams = Vec::new();
    for pattern in &patterns {
        let client = Client::open(&daemon, &format!("{PATH}?pattern={}", escaped(pattern)), None);
        streams.push(client.becomes_ready().await);
    }
    assert_eq!(streams[0].of("ready")[0].data["patterns"], json!(["#.z"]), "the shortest form");
    for _ in 0..5 {
        is_published_at_once(&daemon, &longest_key(), &json!(1));
        answers_at_once(&daemon, "/livez");
    }
    is_published_at_once(&daemon, &format!("{}.z", vec!["a"; 60].join(".")), &json!(2));
    let matching = streams.iter().zip(&patterns).filter(|(_, pattern)| pattern.ends_with('z'));
    for (stream, _) in matching {
        stream.has(1).await;
        assert_eq!(stream.events()[0].data["data"], json!(2));
    }
    let began = Instant::now();
    assert!(daemon.terminate().await.success());
    assert!(began.elapsed() < WITHIN * 4, "{:?}", began.elapsed());
}

/// A grant is matched against the key of every emission.
async fn grants_are_matched_at_once(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    let began = Instant::now();
    is_published_at_once(&daemon, "in", &json!([longest_key()]));
    let series = crate::bench::settled(&bench, "picky", "ack");
    crate::bench::metric(&daemon, &series, |count| count >= 1.0).await;
    assert!(began.elapsed() < WITHIN * 4, "{:?}", began.elapsed());
    assert!(daemon.terminate().await.success());
}

async fn patterns_have_bounds(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    for (query, text) in [
        (format!("pattern={}", "*.".repeat(100) + "*"), "has 101 words"),
        (format!("pattern={}", "a".repeat(300)), "300 bytes"),
        (format!("pattern={}", vec!["x"; 40].join(",")), "the request has 40 patterns; a stream has at most 32"),
        (
            (0..8).map(|n| format!("pattern={}", vec![format!("w{n}"); 50].join("."))).collect::<Vec<_>>().join("&"),
            "the patterns have 400 words",
        ),
    ] {
        let (status, problem) = Client::open(&daemon, &format!("{PATH}?{query}"), None).refused().await;
        assert_eq!(status, 400, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(text)), "{text}: {problem}");
    }
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    patterns_that_look_back_cost_no_more_than_others,
    grants_are_matched_at_once,
    patterns_have_bounds,
}

/// `trunkline check` compares emissions with bindings to find circles of routes.
#[tokio::test(flavor = "multi_thread")]
async fn circles_are_found_at_once() {
    let bench = Bench::embedded();
    let key = longest_key();
    let mut routes = format!(
        "[routes.hostile]\nfrom = {:?}\nplugin = \"echo\"\nemit = {{ key = {key:?} }}\n",
        "#.a.".repeat(30) + "z"
    );
    for n in 0..200 {
        routes.push_str(&format!(
            "[routes.r{n}]\nfrom = \"#.a.#.a.#.r{n}\"\nplugin = \"echo\"\nemit = {{ key = \"{}.r{n}\" }}\n",
            vec!["a"; 100].join(".")
        ));
    }
    let file = bench.write_routes(&routes);
    let mut check = Command::new(binary());
    check.args(["check", "--config"]).arg(&file).arg("--state").arg(bench.state()).stderr(Stdio::piped());
    trunkline_support::share_compiled(&bench.state());
    let began = Instant::now();
    let mut child = check.stdout(Stdio::null()).spawn().expect("it runs");
    let mut stderr = child.stderr.take().expect("a pipe");
    let reading = std::thread::spawn(move || std::io::read_to_string(&mut stderr).expect("a text"));
    let ended = eventually("the end of the check", || {
        let ended = child.try_wait().expect("the process can be asked");
        let is_late = began.elapsed() > Duration::from_secs(60);
        if is_late {
            let _gone = child.kill();
        }
        async move { ended }
    })
    .await;
    let told = reading.join().expect("no panic");
    assert!(ended.success(), "{:?}: {told}", began.elapsed());
    assert_eq!(told.matches("come back to the same route").count(), 200, "{told}");
    assert!(!told.contains("hostile -> hostile"), "it matches none of its own emissions");
}
