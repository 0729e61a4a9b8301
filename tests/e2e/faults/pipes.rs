//! H16: stdout and stderr have no reader, because the pipe is closed or full or the file is on a full disk, and signals
//! without a meaning arrive.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use trunkline_support::rabbitmq::free_port;
use trunkline_support::{eventually, patience};

use super::Mount;
use crate::bench::{Bench, binary, drain, on_both_brokers};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-out]
bind = "echoed"
[routes.$P-echo]
from = "echo"
plugin = "echo"
"#;

/// The lines of some hundred events fill a pipe. The lines of some thousand fill the daemon's buffer.
const EVENTS_OF_A_REQUEST: usize = 100;
/// The limit for any request while the log has no reader.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
const DROPPED: &str = "trunkline_log_lines_dropped_total";

/// A daemon whose stdout and stderr have no reader. It ends when it is dropped.
struct Unheard {
    child: Child,
    url: String,
    agent: ureq::Agent,
}

impl Unheard {
    async fn start(bench: &Bench, stderr: Stdio) -> Self {
        let port = free_port().expect("a port");
        let routes = bench.write_routes(ROUTES);
        trunkline_support::share_compiled(&bench.state());
        let child = Command::new(binary())
            .args(["run", "--broker", &bench.broker, "--listen", &format!("127.0.0.1:{port}")])
            .args(["--log-format", "json", "--config"])
            .arg(routes)
            .arg("--state")
            .arg(bench.state())
            .env("LOG_LEVEL", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the daemon's binary runs");
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent = config.timeout_global(Some(ANSWERED_WITHIN)).build().into();
        Self { child, url: format!("http://127.0.0.1:{port}"), agent }
    }

    /// Waits until its routes consume.
    async fn runs(&self, bench: &Bench) {
        let up = format!("trunkline_route_up{{route=\"{}-echo\"}} 1\n", bench.prefix);
        eventually("the route", || {
            let is_up = self.get("/metrics").is_some_and(|(_, text)| text.contains(&up));
            async move { is_up.then_some(()) }
        })
        .await;
    }

    /// Status and text; none before the daemon listens.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        match self.agent.get(format!("{}{path}", self.url)).call() {
            Ok(mut response) => {
                Some((response.status().as_u16(), response.body_mut().read_to_string().expect("a text")))
            }
            Err(ureq::Error::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    fn publish(&self, kind: &str) {
        let body = format!(r#"{{"type":"{kind}","data":1}}"#);
        let request = self.agent.post(format!("{}/api/v1/events", self.url)).header("content-type", "application/json");
        assert_eq!(request.send(body).expect("an answer").status(), 202);
    }

    fn publish_many(&self) {
        let events = vec![serde_json::json!({ "type": "echo", "data": 1 }); EVENTS_OF_A_REQUEST];
        let body = serde_json::json!({ "events": events }).to_string();
        let request = self.agent.post(format!("{}/api/v1/events/batch", self.url));
        let mut response = request.header("content-type", "application/json").send(body).expect("an answer");
        assert_eq!(response.status(), 202, "{:?}", response.body_mut().read_to_string());
    }

    fn metrics(&self) -> String {
        self.get("/metrics").expect("it listens").1
    }

    fn dropped(&self) -> f64 {
        let text = self.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix(DROPPED)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {DROPPED} in {text}"))
    }

    /// Publishes until log lines are dropped; gives the number of events.
    fn publish_until_lines_are_dropped(&self) -> usize {
        let (began, mut published) = (Instant::now(), 0);
        while self.dropped() < 1.0 {
            assert!(began.elapsed() < patience(), "{published} events, and no line was dropped");
            self.publish_many();
            published += EVENTS_OF_A_REQUEST;
            assert_eq!(self.get("/livez").map(|(status, _)| status), Some(200));
        }
        published
    }

    fn conditions(&self) -> Vec<String> {
        let (_, text) = self.get("/health").expect("it listens");
        let health: Value = serde_json::from_str(&text).expect("JSON");
        let all = health["conditions"].as_array().expect("a list").iter();
        all.map(|raised| raised["condition"].as_str().expect("a word").to_owned()).collect()
    }

    async fn handles(&self, bench: &Bench, events: usize) {
        let done = format!("{{route=\"{}-echo\",outcome=\"ack\"}} {events}\n", bench.prefix);
        eventually("all are handled", || {
            let found = self.metrics().contains(&done);
            async move { found.then_some(()) }
        })
        .await;
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill can be run").success(), "it is still there");
    }

    async fn ended(mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the end", || {
            let ended = child.try_wait().expect("the process can be asked");
            async move { ended }
        })
        .await
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

async fn becomes_unblocked(daemon: &Unheard) {
    eventually("the end of the condition", || {
        let is_over = !daemon.conditions().contains(&"log-blocked".to_owned());
        async move { is_over.then_some(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_pipes_do_not_end_it() {
    let bench = Bench::embedded();
    let mut daemon = Unheard::start(&bench, Stdio::piped()).await;
    // From here on both pipes have no reader, and the first log line fails.
    drop((daemon.child.stdout.take(), daemon.child.stderr.take()));
    daemon.runs(&bench).await;
    for _ in 0..20 {
        daemon.publish("echo");
    }
    daemon.signal("HUP");
    daemon.signal("PIPE");
    daemon.handles(&bench, 20).await;
    assert!(daemon.dropped() > 0.0 && daemon.conditions() == ["log-blocked"], "{:?}", daemon.conditions());
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
    let broker = bench.open(ROUTES).await;
    assert_eq!(drain(&broker, &bench.queue("$P-out"), 20).await.len(), 20);
}

/// The pipes are open without a reader. The lines that fit are written, and all further lines delay nothing.
async fn full_pipes_do_not_stop_it(bench: Bench) {
    let daemon = Unheard::start(&bench, Stdio::piped()).await;
    daemon.runs(&bench).await;
    let published = daemon.publish_until_lines_are_dropped();
    assert!(daemon.conditions().contains(&"log-blocked".to_owned()));
    assert!(daemon.metrics().contains("trunkline_condition{condition=\"log-blocked\",subject=\"\"} 1"));
    daemon.handles(&bench, published).await;
    // The end does not wait for a reader either.
    daemon.signal("TERM");
    let began = Instant::now();
    assert_eq!(daemon.ended().await.code(), Some(0));
    assert!(began.elapsed() < ANSWERED_WITHIN, "{:?}", began.elapsed());
}

/// Reads whole lines until the end.
fn read(stderr: ChildStderr) -> std::thread::JoinHandle<Vec<Value>> {
    std::thread::spawn(move || {
        let lines = BufReader::new(stderr).lines().map(|line| line.expect("a text"));
        lines.map(|line| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    })
}

/// When the pipe has a reader again, it gets the kept lines, and then all later lines to the last one.
async fn a_returning_reader_sees_the_number_of_missing_lines(bench: Bench) {
    let mut daemon = Unheard::start(&bench, Stdio::piped()).await;
    daemon.runs(&bench).await;
    let published = daemon.publish_until_lines_are_dropped();
    daemon.handles(&bench, published).await;
    let lines = read(daemon.child.stderr.take().expect("a pipe"));
    becomes_unblocked(&daemon).await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
    let lines = lines.join().expect("every line is whole");
    let of = |text: &str| lines.iter().filter(|line| line["message"] == text).collect::<Vec<_>>();
    assert_eq!(of("the daemon listens for HTTP requests").len(), 1, "the first lines are there");
    let missing =
        of("log lines before this line were dropped, because no program read the log or the log could not be written");
    let told: u64 = missing.iter().map(|line| line["dropped"].as_u64().expect("a number")).sum();
    assert!(told > 0, "the line has their number");
    let last = lines.iter().rev().take(20).any(|line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("the daemon stops; the routes accept no"))
    });
    assert!(last, "{:#?}", lines.iter().rev().take(20).collect::<Vec<_>>());
}

on_both_brokers! {
    full_pipes_do_not_stop_it,
    a_returning_reader_sees_the_number_of_missing_lines,
}

/// stderr is a file on a full disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_does_not_stop_it() {
    let bench = Bench::embedded();
    let disk = Mount::small(&bench.path("logs"), 1);
    let path = bench.path("logs").join("log");
    let file = OpenOptions::new().create(true).append(true).open(&path).expect("a file");
    let daemon = Unheard::start(&bench, file.try_clone().expect("a descriptor").into()).await;
    daemon.runs(&bench).await;
    let published = daemon.publish_until_lines_are_dropped();
    assert!(daemon.conditions().contains(&"log-blocked".to_owned()));
    daemon.handles(&bench, published).await;
    file.set_len(0).expect("emptied");
    daemon.publish("echo");
    becomes_unblocked(&daemon).await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
    let text = std::fs::read_to_string(&path).expect("a text");
    // The first line may be the end of a cut one.
    let whole = text.lines().skip(1).map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>();
    assert!(whole.is_ok_and(|lines| lines.iter().any(|line| line["dropped"].is_u64())), "{text}");
    drop((file, disk));
}
