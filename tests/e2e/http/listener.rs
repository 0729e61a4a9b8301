//! The listener's own limits: slow clients, many clients, and a blocked broker.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use trunkline_support::eventually;
use trunkline_support::rabbitmq::RabbitmqNode;

use crate::bench::{Bench, becomes_ready};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-all]
bind = "n"
"#;

/// More than the listener serves at once.
const CLIENTS: usize = 600;
/// Twice the limit for headers, and some time more for two busy cores.
const FREE_WITHIN: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_finish_their_headers_delay_others_only_shortly() {
    let bench = Bench::embedded();
    let daemon = bench.start(ROUTES).await;
    let address = daemon.url("").trim_start_matches("http://").to_owned();
    let first = Instant::now();
    let mut slow: Vec<TcpStream> = (0..CLIENTS).map(|_| TcpStream::connect(&address).expect("a connection")).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").expect("sent");
    }
    let began = Instant::now();
    // One of them sends a byte now and then, which does not extend the limit.
    let mut dripping = slow.swap_remove(0);
    dripping.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
    let ended = eventually("the end of the slowest client", || {
        let _broken = dripping.write_all(b"x");
        let mut answer = [0; 256];
        let ended = match dripping.read(&mut answer) {
            Ok(0) => Some(first.elapsed()),
            Ok(_answered) => Some(first.elapsed()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(_reset) => Some(first.elapsed()),
        };
        async move { ended }
    })
    .await;
    assert!(ended >= Duration::from_secs(5), "{ended:?}: that was no time limit");
    assert_eq!(daemon.get("/livez").0, 200);
    assert!(began.elapsed() < FREE_WITHIN, "{:?}", began.elapsed());
    drop(slow);
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_during_an_alarm_is_refused_at_once_and_taken_after_it() {
    let node = RabbitmqNode::start().expect("a private node");
    let bench = Bench::on(node.url());
    let daemon = bench.start(ROUTES).await;
    becomes_ready(&daemon, true).await;
    let body = r#"{"type":"n","id":"during","data":{}}"#;
    assert_eq!(daemon.post("/api/v1/events", r#"{"type":"n","id":"before","data":{}}"#).0, 202);
    node.ctl(&["set_disk_free_limit", "999GB"]).expect("the limit is set");
    // The broker reports its alarm after a publish; until then one publish waits for its confirm.
    let (status, problem) = eventually("the refusal", || {
        let began = Instant::now();
        let (status, problem) = daemon.post("/api/v1/events", body);
        let refused = status == 503 && began.elapsed() < Duration::from_secs(1);
        async move { refused.then_some((status, problem)) }
    })
    .await;
    assert_eq!((status, &problem["code"]), (503, &"TL503".into()), "{problem}");
    assert!(
        problem["detail"].as_str().is_some_and(|detail| detail.contains("an alarm of the broker stops publishers")),
        "{problem}"
    );
    let answer = ureq::post(daemon.url("/api/v1/events")).config().http_status_as_error(false).build();
    let answer = answer.header("content-type", "application/json").send(body).expect("an answer");
    assert_eq!(answer.headers()["retry-after"], "1");
    node.ctl(&["set_disk_free_limit", "50MB"]).expect("the limit is set");
    eventually("the confirm", || {
        let confirmed = (daemon.post("/api/v1/events", body).0 == 202).then_some(());
        async move { confirmed }
    })
    .await;
    assert!(daemon.terminate().await.success());
}
