//! The examples beside the applications' own declarations, as each README describes. The applications declare their queues
//! with aio-pika and with amqplib, before or after the daemon, and no side is refused.

use serde_json::{Value, json};

use super::applications::{EVENT_BROKER, First, GRADING, Together, VOICE, WHATSAPP};
use super::clients::{Client, Library};
use super::example::{Example, On};
use super::schemas::sample;
use crate::bench::metric;

macro_rules! in_each_order {
    ($($system:ident),+ $(,)?) => {
        mod aio_pika_first {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $system() {
                super::$system(super::First::AioPika).await;
            })+
        }

        mod amqplib_first {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $system() {
                super::$system(super::First::Amqplib).await;
            })+
        }

        mod daemon_first {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $system() {
                super::$system(super::First::Daemon).await;
            })+
        }
    };
}

in_each_order! { voice, grading, whatsapp, event_broker }

/// The consumer's queue and the daemon's queues both get the event of a call.
async fn voice(first: First) {
    let example = Example::open("voice-by-kraliki", On::Beside, &[]);
    let together = Together::start(first, &example, VOICE).await;
    let ended = story_event("call.ended");
    let mut producer = Client::producer(Library::Amqplib, &example.broker, ["ocelot.events", "topic"]).await;
    producer.publish("comms.call.ended", &ended).await;
    let seen = together.received(1).await;
    assert_eq!((&seen[0]["key"], &seen[0]["body"]["id"]), (&json!("comms.call.ended"), &ended["id"]));
    for route in ["callback-tasks", "crm-ended", "metrics-ended"] {
        let acked = format!("trunkline_messages_settled_total{{route=\"{route}\",outcome=\"ack\"}}");
        metric(&together.daemon, &acked, |count| count >= 1.0).await;
    }
    assert!(together.daemon.terminate().await.success());
}

/// The first envelope of the story with this type.
fn story_event(kind: &str) -> Value {
    let folder = xtask::root().join("examples/voice-by-kraliki/story");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let read = |file: &std::path::PathBuf| -> Value {
        serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON")
    };
    files.iter().map(read).find(|event| event["type"] == kind).expect("an event")
}

/// A job goes through the service's queue, and its result comes to the service.
async fn grading(first: First) {
    let example = Example::open("ai-grading", On::Beside, &[]);
    let together = Together::start(first, &example, GRADING).await;
    // The result of an invalid job needs no grader.
    let mut job = sample("ai-grading", "events/01-writing.json")["publish"]["data"].clone();
    (job["job_id"], job["task_type"]) = (json!("beside"), json!("task9"));
    let mut producer = Client::producer(Library::Amqplib, &example.broker, ["ai_grading", "direct"]).await;
    producer.publish("writing", &job).await;
    let result = &together.received(1).await[0]["body"];
    assert_eq!((&result["job_id"], &result["status"]), (&json!("beside"), &json!("failed")), "{result:#}");
    // The dead letters of a shared queue go to the daemon's own queue.
    producer.publish("speaking", &json!(["no", "job"])).await;
    let dead = "trunkline_messages_settled_total{route=\"grading-speaking\",outcome=\"dead_letter\"}";
    metric(&together.daemon, dead, |count| count >= 1.0).await;
    assert!(together.daemon.terminate().await.success());
    assert_eq!(example.drained("speaking_dead", 1).await.len(), 1);
}

/// A task that is no task becomes a dead letter in the daemon's own queue. `check` prints the policies of both queues.
async fn whatsapp(first: First) {
    let secrets =
        [("SENDER_API_KEY", "a-key-of-the-sender"), ("SENDER_WEBHOOK_SECRET", "a-secret-of-the-sender-0123456789")];
    let example = Example::open("whatsapp-agent", On::Beside, &secrets);
    let printed = example.check();
    for (queue, target) in [("ag_queue", "ag_dead"), ("wb_queue", "wb_dead")] {
        let policy = printed.lines().find(|line| line.starts_with("rabbitmqctl") && line.contains(queue));
        let policy = policy.unwrap_or_else(|| panic!("no policy of {queue}: {printed}"));
        assert!(policy.contains(&format!("\"dead-letter-routing-key\":\"{target}\"")), "{policy}");
    }
    let mut together = Together::start(first, &example, WHATSAPP).await;
    for application in &mut together.applications {
        application.publish("ag_queue", &json!(["no task"])).await;
    }
    let dead = "trunkline_messages_settled_total{route=\"agent-dispatch\",outcome=\"dead_letter\"}";
    metric(&together.daemon, dead, |count| count >= 2.0).await;
    assert!(together.daemon.terminate().await.success());
    for letter in example.drained("ag_dead", 2).await {
        assert_eq!(letter.properties.headers.text("trunkline-route"), Some("agent-dispatch"));
    }
}

/// An event goes through the service's queue, and its batch comes to the service.
async fn event_broker(first: First) {
    let example = Example::open("event-broker", On::Beside, &[("BATCH_SECONDS", "1")]);
    let together = Together::start(first, &example, EVENT_BROKER).await;
    let event = sample("event-broker", "samples/01-voice.json");
    let (status, accepted) = together.daemon.post("/api/v1/events", &event.to_string());
    assert_eq!((status, &accepted["routed"]), (202, &json!(true)), "{accepted}");
    let batch = &together.received(1).await[0];
    assert_eq!((&batch["key"], &batch["body"]["reason"]), (&json!("batch"), &json!("time")), "{batch:#}");
    assert!(together.daemon.terminate().await.success());
}
