use std::time::Duration;

use serde_json::{Value, json};
use trunkline_plugin::http::{Error, Response};
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
fn invalid_jobs_are_rejected() {
    assert!(matches!(handle(testing::event("writing", &json!([]))), Err(Failure::Reject(_))));
    assert!(matches!(handle(testing::event("listening", &writing())), Err(Failure::Reject(_))));
}

/// A grader that gives this answer to both kinds of jobs.
fn grader(status: u16, answer: &Value) {
    let body = answer.to_string().into_bytes();
    testing::set_config("grader-writing", "http://grader.example/writing");
    testing::set_config("grader-speaking", "http://grader.example/speaking");
    testing::set_http(move |_| Ok(Response { status, body: body.clone(), ..Response::default() }));
}

fn writing_grade() -> Value {
    json!({
        "overall_score": 6.5, "task_achievement": 6, "coherence_cohesion": 7, "lexical_resource": 6.5,
        "grammatical_range": 6, "feedback": "Good.", "suggestions": ["Write more."],
        "grammar_errors": [{ "text": "go", "position": 12, "correction": "goes", "explanation": "third person" }],
        "word_count": 4, "processing_time": 1.5,
    })
}

fn speaking_grade() -> Value {
    json!({
        "overall_score": 7, "pronunciation": 7, "fluency": 7, "grammar": 6, "vocabulary": 8, "transcript": "I like it",
        "words_per_minute": 120, "feedback": "Fine.", "suggestions": [],
        "pronunciation_errors": [{ "word": "like", "phonetic": "laɪk", "issue": "short" }],
    })
}

#[test]
fn a_graded_job_is_completed() {
    grader(200, &writing_grade());
    let answer = graded("writing", &writing());
    assert_eq!((&answer["status"], &answer["error"]), (&json!("completed"), &Value::Null));
    assert_eq!(answer["result"], writing_grade());
    // Missing counts are computed, and unknown fields are left out.
    let mut sparse = writing_grade();
    sparse["word_count"] = Value::Null;
    sparse["model"] = json!("m-7");
    grader(200, &json!({ "result": sparse }));
    let answer = graded("writing", &writing());
    assert_eq!((&answer["result"]["word_count"], &answer["result"]["model"]), (&json!(4), &Value::Null));
    grader(200, &speaking_grade());
    let answer = graded("speaking", &speaking());
    assert_eq!((&answer["status"], &answer["result"]["word_count"]), (&json!("completed"), &json!(3)));
    assert!(answer["result"]["processing_time"].is_number());
}

#[test]
fn the_grader_gets_the_job_and_the_key() {
    testing::set_config("grader-writing", "http://grader.example/writing");
    testing::set_config("GRADER_API_KEY", "k3y");
    testing::set_http(|request| {
        assert_eq!(request.url, "http://grader.example/writing");
        let has = |name: &str, value: &str| request.headers.contains(&(name.to_owned(), value.to_owned()));
        assert!(has("idempotency-key", "event-1") && has("authorization", "Bearer k3y"), "{:?}", request.headers);
        assert_eq!(serde_json::from_slice::<Value>(&request.body).expect("JSON"), writing());
        Ok(Response { status: 200, body: writing_grade().to_string().into_bytes(), ..Response::default() })
    });
    assert_eq!(graded("writing", &writing())["status"], "completed");
    assert_eq!(graded("speaking", &speaking())["status"], "pending", "there is no grader for it");
}

#[test]
fn a_grade_with_a_wrong_field_is_asked_for_again_by_name() {
    for (kind, grade, field, value) in [
        ("writing", writing_grade(), "overall_score", json!(9.5)),
        ("writing", writing_grade(), "task_achievement", Value::Null),
        ("writing", writing_grade(), "lexical_resource", json!("good")),
        ("writing", writing_grade(), "feedback", json!(["x"])),
        ("writing", writing_grade(), "suggestions", json!("x")),
        ("writing", writing_grade(), "grammar_errors", json!([{ "text": "x" }])),
        ("writing", writing_grade(), "word_count", json!(-1)),
        ("speaking", speaking_grade(), "transcript", Value::Null),
        ("speaking", speaking_grade(), "words_per_minute", json!("fast")),
        ("speaking", speaking_grade(), "pronunciation_errors", json!({})),
    ] {
        let mut grade = grade;
        grade[field] = value;
        grader(200, &grade);
        let job = if kind == "writing" { writing() } else { speaking() };
        match handle(testing::event(kind, &job)) {
            Err(Failure::Retry { reason, .. }) => assert!(reason.contains(&format!("`{field}`")), "{reason}"),
            other => panic!("{grade}: {other:?}"),
        }
    }
    testing::set_config("score-max", "100");
    let mut percent = writing_grade();
    percent["overall_score"] = json!(82);
    grader(200, &percent);
    assert_eq!(graded("writing", &writing())["result"]["overall_score"], 82);
}

#[test]
fn refused_jobs_fail_and_passing_failures_wait() {
    grader(422, &json!({ "detail": "not in English" }));
    let answer = graded("writing", &writing());
    assert_eq!((&answer["status"], &answer["result"]), (&json!("failed"), &Value::Null));
    let message = "the grader answered 422: {\"detail\":\"not in English\"}";
    assert_eq!(answer["error"], json!({ "message": message, "fields": [] }));
    testing::set_http(|_| {
        let headers = vec![("retry-after".to_owned(), "20".to_owned())];
        Ok(Response { status: 503, headers, ..Response::default() })
    });
    let failure = handle(testing::event("writing", &writing()));
    assert_eq!(failure, Err(Failure::retry_after("the server answered 503", Duration::from_secs(20))));
    testing::set_http(|_| Err(Error::Refused("not granted".to_owned())));
    assert!(matches!(handle(testing::event("writing", &writing())), Err(Failure::Reject(_))));
}

#[test]
fn the_callback_goes_along_where_it_can_be_called() {
    let attributes = |job: &Value| handle(testing::event("writing", job)).expect("an answer")[0].attributes.clone();
    let wanted = [("callback-url".to_owned(), "https://example.test/done".to_owned())];
    assert_eq!(attributes(&writing()), wanted);
    let mut job = writing();
    job["task_type"] = json!("task9");
    assert_eq!(attributes(&job), wanted, "the sender of a bad job gets the result too");
    for url in [Value::Null, json!("ftp://example.test"), json!(7)] {
        job["callback_url"] = url;
        assert_eq!(attributes(&job), []);
    }
}
