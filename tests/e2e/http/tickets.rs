//! W19: an `EventSource` has no token and opens a stream with a ticket. The client is the npm package `eventsource`, which follows
//! the HTML standard.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use trunkline_support::{Daemon, eventually, patience};

use super::sse::Client;
use super::stream::PATH;
use crate::bench::{Bench, becomes_ready, binary, on_both_brokers};
use crate::foreign::modules_with;

const ROUTES: &str = r##"
[http]
tokens = ["${TOKEN}"]
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-all]
bind = "#"
"##;
const TOKEN: &str = "a-token-of-the-ticket-test";
const SHARED: &str = "[broker]\nheader-key = { env = \"TICKET_TEST_KEY\" }\n";
const ENVIRONMENT: [(&str, &str); 2] = [("TOKEN", TOKEN), ("LOG_LEVEL", "debug")];

/// The script of the page: it exchanges the token for a ticket, and shows all that the `EventSource` gets.
const PAGE: &str = r#"
const EventSource = require("eventsource");
const [base, path, token] = process.argv.slice(1);
const say = (value) => console.log(JSON.stringify(value));
(async () => {
  const headers = { authorization: `Bearer ${token}` };
  const issued = await fetch(`${base}${path}/tickets`, { method: "POST", headers });
  const { ticket } = await issued.json();
  say({ ticket });
  const source = new EventSource(`${base}${path}?pattern=n&ticket=${ticket}`);
  source.addEventListener("ready", (event) => say({ resumed: JSON.parse(event.data).resumed }));
  source.onmessage = (event) => say({ id: JSON.parse(event.data).id, last: event.lastEventId });
  source.onerror = (error) => say({ error: error.status ?? "closed" });
})();
"#;

/// The process of a page, killed when it is dropped.
struct Page {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Page {
    fn open(daemon: &Daemon) -> Self {
        let mut command = Command::new("node");
        command.env("NODE_PATH", modules_with("eventsource", "2.0.2")).args(["-e", PAGE, "--"]);
        command.args([daemon.url("").trim_end_matches('/'), PATH, TOKEN]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the page runs");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (output, kept) = (child.stdout.take().expect("piped"), lines.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                kept.lock().expect("no panic").push(serde_json::from_str(&line).expect("JSON"));
            }
        });
        Self { child, lines }
    }

    /// The values of the lines that have this field.
    fn values(&self, field: &str) -> Vec<Value> {
        let lines = self.lines.lock().expect("no panic");
        lines.iter().filter_map(|line| line.get(field).cloned()).collect()
    }

    /// Waits for the line with this field that follows `before` such lines.
    async fn next(&self, field: &str, before: usize) -> Value {
        eventually(&format!("the line {before} with {field}"), || {
            let found = self.values(field).get(before).cloned();
            async move { found }
        })
        .await
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn publish(daemon: &Daemon, id: &str) {
    let event = json!({ "type": "n", "id": id, "data": 1 }).to_string();
    let request = ureq::post(daemon.url("/api/v1/events")).config().timeout_global(Some(patience())).build();
    let request = request.header("content-type", "application/json").header("authorization", format!("Bearer {TOKEN}"));
    assert_eq!(request.send(event).expect("an answer").status(), 202);
}

/// Status and problem of a request without a token.
fn ask(daemon: &Daemon, path: &str, last_event_id: Option<&str>) -> (u16, Value) {
    let request = ureq::get(daemon.url(path)).config().timeout_global(Some(patience()));
    let request = request.http_status_as_error(false).build();
    let mut response = request.header("last-event-id", last_event_id.unwrap_or_default()).call().expect("an answer");
    let status = response.status().as_u16();
    let problem = if status == 200 { String::new() } else { response.body_mut().read_to_string().expect("a text") };
    (status, serde_json::from_str(&problem).unwrap_or_default())
}

/// A ticket for a holder of this token.
fn ticket(daemon: &Daemon, token: &str) -> (u16, Value) {
    let request = ureq::post(daemon.url(&format!("{PATH}/tickets"))).config().timeout_global(Some(patience()));
    let request = request.http_status_as_error(false).build();
    let mut response = request.header("authorization", format!("Bearer {token}")).send_empty().expect("an answer");
    let text = response.body_mut().read_to_string().expect("a text");
    (response.status().as_u16(), serde_json::from_str(&text).expect("JSON"))
}

async fn an_event_source_opens_and_resumes_a_stream(bench: Bench) {
    let daemon = bench.start_with(ROUTES, &ENVIRONMENT).await;
    let page = Page::open(&daemon);
    assert_eq!(page.next("resumed", 0).await, json!(false));
    publish(&daemon, "e-1");
    assert_eq!(page.next("id", 0).await, json!("e-1"));

    // Another client of the same stream ends the connection of the page. The page reconnects by itself, and takes the stream back.
    let last = page.next("last", 0).await;
    let taken_over = ureq::get(daemon.url(&format!("{PATH}?pattern=n")))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("last-event-id", last.as_str().expect("an id"))
        .call();
    assert_eq!(taken_over.expect("a stream").status(), 200);
    publish(&daemon, "e-2");
    assert_eq!(page.next("resumed", 1).await, json!(true));
    assert_eq!(page.next("id", 1).await, json!("e-2"));
    assert_eq!(page.values("id"), [json!("e-1"), json!("e-2")], "no event is lost or repeated");
    assert!(page.values("error").iter().all(|error| error == "closed"), "{:?}", page.values("error"));

    // The URL of the page is of no use to another client.
    let ticket = page.next("ticket", 0).await;
    let ticket = ticket.as_str().expect("a text");
    let (status, problem) = ask(&daemon, &format!("{PATH}?pattern=n&ticket={ticket}"), None);
    assert_eq!((status, &problem["code"]), (401, &json!("TL401")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("used before")), "{problem}");
    assert!(!problem.to_string().contains(ticket), "{problem}");
    let log = daemon.log();
    assert!(!log.contains(ticket) && !log.contains("ticket="), "a line of the log contains the ticket");
    drop(page);
    assert!(daemon.terminate().await.success());
}

async fn a_ticket_opens_one_stream_and_nothing_else(bench: Bench) {
    let daemon = bench.start_with(ROUTES, &ENVIRONMENT).await;
    assert_eq!(ticket(&daemon, "another-token").0, 401);
    assert_eq!(ask(&daemon, PATH, None).0, 401, "neither token nor ticket");
    let (status, issued) = ticket(&daemon, TOKEN);
    assert_eq!((status, &issued["expires_s"]), (201, &json!(60)), "{issued}");
    let text = issued["ticket"].as_str().expect("a ticket");
    for path in ["/api/v1/generation", "/api/v1/events/queues", "/api/v1/events/types"] {
        assert_eq!(ask(&daemon, &format!("{path}?ticket={text}"), None).0, 401, "{path}");
    }
    assert_eq!(daemon.post(&format!("/api/v1/events?ticket={text}"), r#"{"type":"n","data":1}"#).0, 401);
    let forged = format!("{}A{}", &text[..20], &text[21..]);
    let forged = if forged == text { format!("{}B{}", &text[..20], &text[21..]) } else { forged };
    assert_eq!(ask(&daemon, &format!("{PATH}?ticket={forged}"), None).0, 401);
    // A request with a mistake does not use the ticket up.
    assert_eq!(ask(&daemon, &format!("{PATH}?pattern=&ticket={text}"), None).0, 400);
    let path = format!("{PATH}?ticket={text}");
    let client = Client::open(&daemon, &path, None).becomes_ready().await;
    let last = client.last_id();
    assert_eq!(ask(&daemon, &path, None).0, 401, "the stream is open");
    client.cut();
    assert_eq!(ask(&daemon, &path, None).0, 401, "a second stream");
    assert_eq!(ask(&daemon, &path, Some("0.0")).0, 401, "another stream");
    let client = Client::open(&daemon, &path, Some(&last)).becomes_ready().await;
    assert_eq!(client.of("ready")[0].data["resumed"], json!(true));
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    an_event_source_opens_and_resumes_a_stream,
    a_ticket_opens_one_stream_and_nothing_else,
}

/// A proxy may send the two requests of a page to two daemons.
#[tokio::test(flavor = "multi_thread")]
async fn daemons_that_share_a_header_key_share_tickets() {
    let bench = Bench::amqp();
    let routes = format!("{SHARED}{ROUTES}");
    let start = async |state: &str, key: &str| {
        let file = bench.write_routes(&routes);
        let environment = [("TOKEN", TOKEN), ("TICKET_TEST_KEY", key)];
        let started = Daemon::start_with(binary(), &file, &bench.path(state), &bench.broker, &environment).await;
        let daemon = started.expect("it starts");
        becomes_ready(&daemon, true).await;
        daemon
    };
    let one = start("one", "a-key-of-two-daemons").await;
    let (same, other) = (start("same", "a-key-of-two-daemons").await, start("other", "a-key-of-no-other").await);
    let (_, issued) = ticket(&one, TOKEN);
    let path = format!("{PATH}?ticket={}", issued["ticket"].as_str().expect("a ticket"));
    assert_eq!((ask(&other, &path, None).0, ask(&same, &path, None).0), (401, 200));
    for daemon in [one, same, other] {
        assert!(daemon.terminate().await.success());
    }
}
