use serde_json::{Value, json};
use trunkline_plugin::testing;

use super::*;

fn writing() -> Value {
    json!({
        "job_id": "j-1", "user_id": "u-1", "attempt_id": "a-1", "question_id": "q-1", "task_type": "task2",
        "prompt": "Discuss.", "student_answer": "Some people think so.", "target_level": "B2",
        "callback_url": "https://example.test/done",
    })
}

fn speaking() -> Value {
    json!({
        "job_id": "j-2", "user_id": "u-1", "attempt_id": "a-1", "question_id": "q-1", "part_number": 2,
        "prompt": "Describe.", "audio_url": "https://example.test/a.ogg", "target_level": "C1", "callback_url": null,
    })
}

fn graded(kind: &str, job: &Value) -> Value {
    let emitted = handle(testing::event(kind, job)).expect("an answer");
    assert_eq!((emitted.len(), emitted[0].kind.as_str()), (1, "grading.result"));
    emitted[0].read().expect("JSON")
}

#[test]
fn good_jobs_are_pending() {
    let answer = graded("writing", &writing());
    assert_eq!((&answer["status"], &answer["job_id"]), (&json!("pending"), &json!("j-1")));
    assert_eq!((&answer["word_count"], &answer["error"], &answer["result"]), (&json!(4), &Value::Null, &Value::Null));
    assert_eq!(graded("speaking", &speaking())["status"], "pending");
}

#[test]
fn every_bad_field_is_named() {
    let cases: [(&str, Value, &str, Value); 9] = [
        ("writing", writing(), "task_type", json!("task3")),
        ("writing", writing(), "student_answer", json!("  ")),
        ("writing", writing(), "target_level", json!("D1")),
        ("writing", writing(), "callback_url", json!("ftp://example.test")),
        ("writing", writing(), "job_id", json!(7)),
        ("speaking", speaking(), "part_number", json!(4)),
        ("speaking", speaking(), "part_number", json!("2")),
        ("speaking", speaking(), "audio_url", Value::Null),
        ("speaking", speaking(), "audio_url", json!("https:///a.ogg")),
    ];
    for (kind, mut job, field, value) in cases {
        job[field] = value;
        let answer = graded(kind, &job);
        assert_eq!(answer["status"], "failed", "{job}");
        let fields = answer["error"]["fields"].as_array().expect("fields");
        assert_eq!(fields.len(), 1, "{answer}");
        assert_eq!(fields[0]["field"], field, "{answer}");
    }
    let all = graded("speaking", &json!({}));
    assert_eq!(all["error"]["fields"].as_array().map(Vec::len), Some(8), "{all}");
}

#[test]
fn what_is_no_job_is_rejected() {
    assert!(matches!(handle(testing::event("writing", &json!([]))), Err(Failure::Reject(_))));
    assert!(matches!(handle(testing::event("listening", &writing())), Err(Failure::Reject(_))));
}
