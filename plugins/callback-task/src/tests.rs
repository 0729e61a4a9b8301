use serde_json::{Value, json};
use trunkline_plugin::testing;

use super::*;

fn call(outcome: &str) -> Value {
    json!({ "call_id": "c-1", "duration": 61.5, "outcome": outcome, "transcript": null })
}

#[test]
fn only_a_requested_callback_makes_a_task() {
    for outcome in ["completed", "voicemail", "failed"] {
        assert_eq!(handle(testing::event("call.ended", &call(outcome))), Ok(vec![]), "{outcome}");
    }
    let emitted = handle(testing::event("call.ended", &call("callback_requested"))).expect("a task");
    assert_eq!(emitted.len(), 1);
    assert_eq!(emitted[0].kind, "planning.task.created");
    let task: Value = emitted[0].read().expect("JSON");
    assert_eq!(task["priority"], "high");
    assert_eq!(task["due_date"], "2026-11-22");
    assert_eq!((&task["organization_id"], &task["user_id"]), (&json!("org-1"), &json!("user-1")));
    assert_eq!(task["source"]["call_id"], "c-1");
    assert!(task["title"].as_str().is_some_and(|title| title.contains("c-1")));
}

#[test]
fn a_transcript_goes_along_and_a_user_may_be_missing() {
    let mut data = call("callback_requested");
    data["transcript"] = json!("Please call \"me\" tomorrow.");
    let event = Event { user: None, ..testing::event("call.ended", &data) };
    let task: Value = handle(event).expect("a task")[0].read().expect("JSON");
    assert!(task["description"].as_str().is_some_and(|text| text.ends_with("Please call \"me\" tomorrow.")));
    assert_eq!(task["user_id"], Value::Null);
}

#[test]
fn texts_may_have_escapes() {
    let data = br#"{"call_id":"c-\"\u00e9\ud83d\ude80","duration":0,"outcome":"callback_\u0072equested"}"#.to_vec();
    let event = Event { data, ..testing::event("call.ended", &json!(null)) };
    let emitted = handle(event).expect("a task");
    assert_eq!(emitted[0].subject.as_deref(), Some("c-\"é🚀"));
    let half = br#"{"call_id":"\ud83d","duration":0,"outcome":"completed"}"#.to_vec();
    let event = Event { data: half, ..testing::event("call.ended", &json!(null)) };
    assert!(handle(event).is_err(), "half a character is none");
}

#[test]
fn what_does_not_fit_is_rejected_by_name() {
    let cases = [
        (json!({ "duration": 1, "outcome": "completed" }), "call_id"),
        (json!({ "call_id": "c", "outcome": "completed" }), "duration"),
        (json!({ "call_id": "c", "duration": -1, "outcome": "completed" }), "duration"),
        (json!({ "call_id": "c", "duration": "1", "outcome": "completed" }), "f64"),
        (json!({ "call_id": "c", "duration": 1, "outcome": "lost" }), "lost"),
        (json!([]), "object"),
        (json!(["c", 1, "callback_requested", null]), "object"),
        (json!({ "call_id": "c", "duration": 1, "outcome": { "completed": null } }), "map"),
    ];
    for (data, expected) in cases {
        match handle(testing::event("call.ended", &data)) {
            Err(Failure::Reject(text)) => assert!(text.contains(expected), "{data}: {text}"),
            other => panic!("{data}: {other:?}"),
        }
    }
}

#[test]
fn tomorrow_by_the_calendar() {
    let cases = [
        ("2026-11-21T23:59:59Z", Some("2026-11-22")),
        ("2026-11-30T00:00:00+02:00", Some("2026-12-01")),
        ("2026-11-30T23:30:00-11:00", Some("2026-12-01")),
        ("2026-12-31T12:00:00Z", Some("2027-01-01")),
        ("2028-02-28T12:00:00Z", Some("2028-02-29")),
        ("2100-02-28T12:00:00Z", Some("2100-03-01")),
        ("2026-02-30T12:00:00Z", None),
        ("2026-11-21", None),
        ("+026-11-21T12:00:00Z", None),
        ("yesterday", None),
    ];
    for (time, expected) in cases {
        assert_eq!(day_after(Some(time)).as_deref(), expected, "{time}");
    }
    assert_eq!(day_after(None), None);
}
