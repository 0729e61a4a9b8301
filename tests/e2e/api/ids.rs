//! An event is published once for its id.

use std::io::Write;
use std::net::TcpStream;

use serde_json::{Value, json};

use super::{publish, send};
use crate::bench::{Bench, drain, on_both_brokers};

const ROUTES: &str = r#"
[http]
dedupe = { window = "1h", max = 50 }
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-in]
bind = ["in", "race"]
"#;

async fn a_repetition_is_accepted_and_not_published(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    let one = json!({ "type": "in", "id": "e-1", "data": { "a": 1 } });
    let (status, accepted) = publish(&daemon, &one);
    assert_eq!((status, &accepted["repeated"], &accepted["routed"]), (202, &json!(false), &json!(true)), "{accepted}");
    let (status, again) = publish(&daemon, &one);
    let expected =
        json!({ "repeated": true, "routed": true, "id": "e-1", "routing_key": "in", "exchange": accepted["exchange"] });
    assert_eq!((status, &again), (202, &expected));
    let other = json!({ "type": "in", "id": "e-1", "data": { "a": 2 } });
    let (status, problem) = publish(&daemon, &other);
    assert!(
        status == 422 && problem["detail"].as_str().is_some_and(|detail| detail.contains("other content")),
        "{problem}"
    );

    let json_type = ("content-type", "application/json");
    let bare = json!({ "type": "in", "data": 2 }).to_string();
    for (key, repeated) in [("e-2", false), ("\"e-2\"", true), ("e-3", false)] {
        let (status, answer) = send(&daemon, "/api/v1/events", &[json_type, ("idempotency-key", key)], &bare);
        assert_eq!((status, &answer["repeated"]), (202, &json!(repeated)), "{key}: {answer}");
    }
    let (status, problem) = send(&daemon, "/api/v1/events", &[json_type, ("idempotency-key", "e-9")], &one.to_string());
    assert_eq!(status, 400, "{problem}");
    // No queue is bound for the type. The answer to the repetition says so too.
    let unbound = json!({ "type": "unbound", "id": "e-4", "data": 1 });
    for repeated in [false, true] {
        let (status, answer) = publish(&daemon, &unbound);
        assert_eq!(
            (status, &answer["routed"], &answer["repeated"]),
            (202, &json!(false), &json!(repeated)),
            "{answer}"
        );
    }
    // A refused event leaves no record: its corrected form is published.
    let refused = json!({ "type": "in", "id": "e-5", "data": 1, "exchange": "nowhere" });
    assert_eq!(publish(&daemon, &refused).0, 422);
    assert_eq!(publish(&daemon, &json!({ "type": "in", "id": "e-5", "data": 1 })).1["repeated"], json!(false));

    daemon.signal("KILL");
    daemon.ended().await;
    let daemon = bench.start(ROUTES).await;
    assert_eq!(publish(&daemon, &one).1["repeated"], json!(true), "it is remembered over a crash");
    // The window keeps fifty ids.
    for n in 0..60 {
        assert_eq!(publish(&daemon, &json!({ "type": "unbound", "id": format!("n-{n}"), "data": 1 })).0, 202);
    }
    assert_eq!(publish(&daemon, &one).1["repeated"], json!(false), "and then forgotten");
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    let ids = drain(&broker, &bench.queue("$P-in"), 5).await;
    let ids: Vec<&str> = ids.iter().filter_map(|message| message.properties.message_id.as_deref()).collect();
    assert_eq!(ids, ["e-1", "e-2", "e-3", "e-5", "e-1"]);
    broker.close(trunkline_support::patience()).await;
}

async fn of_many_at_once_one_is_published(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    for round in 0..5 {
        let body = json!({ "type": "race", "id": format!("r-{round}"), "data": round }).to_string();
        let answers: Vec<(u16, Value)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| daemon.post("/api/v1/events", &body))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(answers.iter().all(|(status, _)| *status == 202), "{answers:?}");
        let first = answers.iter().filter(|(_, answer)| answer["repeated"] == json!(false)).count();
        assert_eq!(first, 1, "{answers:?}");
    }
    let repeated = format!(
        "trunkline_events_published_total{{route=\"api\",exchange=\"{}-events\",result=\"repeated\"}}",
        bench.prefix
    );
    assert!((daemon.metric(&repeated) - 75.0).abs() < f64::EPSILON);
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    assert_eq!(drain(&broker, &bench.queue("$P-in"), 5).await.len(), 5);
    broker.close(trunkline_support::patience()).await;
}

/// A client that closes its connection before the answer and sends again gets the result of the first request.
async fn a_client_that_hangs_up_and_sends_again_publishes_once(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    let address = daemon.url("").replace("http://", "");
    for round in 0..20 {
        let body = json!({ "type": "in", "id": format!("h-{round}"), "data": round }).to_string();
        let head = format!("POST /api/v1/events HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n");
        let mut stream = TcpStream::connect(&address).expect("a connection");
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).expect("sent");
        drop(stream);
        assert_eq!(daemon.post("/api/v1/events", &body).0, 202);
    }
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    assert_eq!(drain(&broker, &bench.queue("$P-in"), 20).await.len(), 20);
    broker.close(trunkline_support::patience()).await;
}

on_both_brokers! {
    a_repetition_is_accepted_and_not_published,
    of_many_at_once_one_is_published,
    a_client_that_hangs_up_and_sends_again_publishes_once,
}
