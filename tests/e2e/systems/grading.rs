//! `examples/ai-grading`: jobs of all kinds, with a grader and an application as HTTP stubs. On RabbitMQ the jobs come
//! from aio-pika and the results go to amqplib. Beside the grading service, the results go to the service.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trunkline_support::Daemon;

use super::applications::GRADING;
use super::clients::{Client, Library};
use super::example::{Example, On, stories, stories_beside};
use super::schemas::{fits, sample, schema};
use super::stub::{Answer, Stub};
use crate::bench::metric;

const NAME: &str = "ai-grading";
const EXCHANGE: &str = "ai_grading";

stories!(every_job_is_answered_and_every_callback_tried);
stories_beside!(every_job_is_answered_and_every_callback_tried);

/// The expected status of each job, and a part of its error.
const EXPECTED: [(&str, &str, &str); 8] = [
    ("good", "completed", ""),
    ("spoken", "completed", ""),
    ("busy", "completed", ""),
    ("elsewhere", "completed", ""),
    ("deaf", "completed", ""),
    ("invalid", "failed", "invalid fields: target_level, task_type"),
    ("refused", "failed", "the grader answered 422: {\"detail\":\"not in English\"}"),
    ("nonsense", "failed", "`overall_score` is not from 0 to 9"),
];

fn job(id: &str, kind: &str, callback: &str) -> Value {
    let file = if kind == "writing" { "events/01-writing.json" } else { "events/03-speaking.json" };
    let mut job = sample(NAME, file)["publish"]["data"].clone();
    job["job_id"] = id.into();
    job["callback_url"] = format!("{callback}/{id}").into();
    job
}

/// Key and body.
fn jobs(application: &Stub, elsewhere: &Stub) -> Vec<(&'static str, Value)> {
    let here = application.origin();
    let mut invalid = job("invalid", "writing", &here);
    (invalid["task_type"], invalid["target_level"]) = ("task9".into(), "Z1".into());
    vec![
        ("writing", job("good", "writing", &here)),
        ("speaking", job("spoken", "speaking", &here)),
        ("writing", job("busy", "writing", &here)),
        ("writing", invalid),
        ("writing", job("refused", "writing", &here)),
        ("speaking", json!(["no", "job"])),
        ("writing", job("nonsense", "writing", &here)),
        ("speaking", job("elsewhere", "speaking", &elsewhere.origin())),
        ("writing", job("deaf", "writing", &here)),
    ]
}

fn grader() -> Stub {
    let (writing, speaking) = (schema(NAME, "writing-grade"), schema(NAME, "speaking-grade"));
    let grade = json!({
        "overall_score": 6.5, "task_achievement": 6, "coherence_cohesion": 7, "lexical_resource": 6.5,
        "grammatical_range": 6, "feedback": "Good.", "suggestions": ["Write more."],
        "grammar_errors": [{ "text": "go", "position": 32, "correction": "goes", "explanation": "third person" }],
    });
    let spoken = json!({
        "overall_score": 7, "pronunciation": 7, "fluency": 7, "grammar": 6, "vocabulary": 8, "words_per_minute": 131.5,
        "transcript": "I like it", "feedback": "Fine.", "suggestions": [], "word_count": 3, "processing_time": 2.5,
        "pronunciation_errors": [{ "word": "like", "phonetic": "laɪk", "issue": "too short" }],
    });
    fits(&writing, &grade);
    fits(&speaking, &spoken);
    Stub::start(move |asked, before| match (asked.path.as_str(), asked.body["job_id"].as_str()) {
        ("/speaking", _) => Answer::json(200, &spoken),
        ("/writing", Some("busy")) if before < 2 => Answer::status(503),
        ("/writing", Some("refused")) => Answer::json(422, &json!({ "detail": "not in English" })),
        ("/writing", Some("nonsense")) => {
            let mut grade = grade.clone();
            grade["overall_score"] = json!(95);
            Answer::json(200, &grade)
        }
        ("/writing", Some(_)) => Answer::json(200, &grade),
        _ => Answer::status(404),
    })
}

async fn every_job_is_answered_and_every_callback_tried(on: On) {
    let grader = grader();
    // The application does not answer at first, and a callback is tried again by itself.
    let application = Stub::start(|asked, before| match asked.path.as_str() {
        "/deaf" if before < 2 => Answer::status(500),
        _ => Answer::status(204),
    });
    let elsewhere = Stub::start(|_, _| Answer::status(204));
    let (graders, callbacks) = (grader.origin(), application.origin());
    let environment = [("GRADER_ORIGIN", &*graders), ("CALLBACK_ORIGIN", &callbacks), ("GRADING_RETRY", "100ms")];
    let example = Example::open(NAME, on, &environment);
    let service = match on {
        On::Beside => Some(GRADING.start(Library::AioPika, &example.broker).await),
        On::Embedded | On::RabbitMq => None,
    };
    let daemon = example.start().await;
    let jobs = jobs(&application, &elsewhere);
    let consumer = match on {
        On::RabbitMq => Some(Client::consumer_of(Library::Amqplib, &example.broker, "result").await),
        On::Embedded | On::Beside => service,
    };
    match on {
        On::RabbitMq | On::Beside => {
            let mut producer = Client::producer(Library::AioPika, &example.broker, [EXCHANGE, "direct"]).await;
            for (key, job) in &jobs {
                producer.publish(key, job).await;
            }
        }
        On::Embedded => post(&daemon, &jobs),
    }
    let told = application.at_least(9, "callbacks", |_| true).await;
    let refused = "trunkline_messages_settled_total{route=\"grading-callbacks\",outcome=\"dead_letter\"}";
    metric(&daemon, refused, |count| count == 1.0).await;
    let results: Vec<Value> = match consumer {
        Some(consumer) => consumer.has(EXPECTED.len()).await.iter().map(|message| message["body"].clone()).collect(),
        None => {
            assert!(daemon.terminate().await.success());
            let messages = example.drained("result", EXPECTED.len()).await;
            messages.iter().map(|message| serde_json::from_slice(&message.body).expect("JSON")).collect()
        }
    };
    check_results(&results);
    check_calls(&grader, &told, &elsewhere, &results);
    for (queue, reason) in [("speaking_dead", "rejected"), ("writing_dead", "exhausted"), ("callbacks.dlq", "rejected")]
    {
        let letters = example.drained(queue, 1).await;
        let headers = letters.iter().map(|letter| letter.properties.headers.text("trunkline-reason"));
        assert_eq!(headers.collect::<Vec<_>>(), [Some(reason)], "{queue}");
    }
}

fn post(daemon: &Daemon, jobs: &[(&str, Value)]) {
    for (key, job) in jobs {
        let body = json!({ "type": key, "exchange": EXCHANGE, "routing_key": key, "data": job });
        let (status, accepted) = daemon.post("/api/v1/events", &body.to_string());
        assert_eq!((status, &accepted["routed"]), (202, &json!(true)), "{accepted}");
    }
}

fn check_results(results: &[Value]) {
    let schema = schema(NAME, "result");
    let by_job: BTreeMap<&str, &Value> =
        results.iter().map(|result| (result["job_id"].as_str().expect("an id"), result)).collect();
    assert_eq!((by_job.len(), results.len()), (EXPECTED.len(), EXPECTED.len()), "{results:#?}");
    for (id, status, error) in EXPECTED {
        let result = by_job[id];
        fits(&schema, result);
        assert_eq!(result["status"], status, "{result:#}");
        assert!(result["error"]["message"].as_str().unwrap_or_default().contains(error), "{result:#}");
    }
    let good = &by_job["good"]["result"];
    assert_eq!((&good["overall_score"], &good["word_count"]), (&json!(6.5), &json!(7)), "counted here: {good}");
    assert_eq!(by_job["spoken"]["result"]["words_per_minute"], 131.5);
    assert_eq!(by_job["nonsense"]["error"]["reason"], "exhausted");
    assert_eq!(by_job["invalid"]["error"]["fields"].as_array().map(Vec::len), Some(2));
}

/// Checks the requests to the grader and their keys.
fn check_calls(grader: &Stub, told: &[super::stub::Asked], elsewhere: &Stub, results: &[Value]) {
    for (id, times) in
        [("good", 1), ("spoken", 1), ("busy", 3), ("nonsense", 6), ("refused", 1), ("invalid", 0), ("deaf", 1)]
    {
        let asked = grader.those(|asked| asked.body["job_id"] == id);
        assert_eq!(asked.len(), times, "{id}");
        let keys = asked.iter().filter_map(|asked| asked.header("idempotency-key")).collect::<Vec<_>>();
        assert!(keys.len() == times && keys.iter().all(|key| *key == keys[0]), "{id}: {keys:?}");
    }
    assert!(elsewhere.asked().is_empty(), "the origin is not granted");
    for (id, _, _) in EXPECTED.iter().filter(|(id, _, _)| *id != "elsewhere") {
        let told = told.iter().filter(|told| told.path == format!("/{id}")).collect::<Vec<_>>();
        assert_eq!(told.len(), if *id == "deaf" { 3 } else { 1 }, "{id}");
        let result = results.iter().find(|result| result["job_id"] == *id);
        assert_eq!(Some(&told[0].body), result, "the callback has the result");
    }
}
