use serde_json::{Value, json};
use trunkline_plugin::testing;

use super::*;

/// A task with a new id each time.
fn task(time: &str) -> Event {
    let data =
        json!({ "title": "Call back: c-1", "source": { "event_id": "e-0", "call_id": "c-1" }, "priority": "high" });
    Event { id: time.to_owned(), time: Some(time.to_owned()), ..testing::event("planning.task.created", &data) }
}

fn suggested(time: &str) -> String {
    let emitted = handle(task(time)).expect("a suggestion");
    assert_eq!([&*emitted[0].kind, &*emitted[1].kind], ["planning.task.updated", "planning.task.due"]);
    let (updated, due): (Value, Value) = (emitted[0].read().expect("JSON"), emitted[1].read().expect("JSON"));
    assert_eq!(updated["call_back_at"], due["due_at"]);
    for data in [&updated, &due] {
        assert_eq!((&data["task_id"], &data["call_id"]), (&json!(time), &json!("c-1")));
        assert_eq!((&data["organization_id"], &data["user_id"]), (&json!("org-1"), &json!("user-1")));
    }
    updated["call_back_at_local"].as_str().expect("a time").to_owned()
}

#[test]
fn within_business_hours() {
    // 2026-11-20 is a Friday.
    for (asked, expected) in [
        ("2026-11-20T09:00:00Z", "2026-11-20T11:00:00Z"),
        ("2026-11-20T10:01:23Z", "2026-11-20T12:05:00Z"),
        ("2026-11-20T14:54:59Z", "2026-11-20T16:55:00Z"),
        ("2026-11-20T14:55:01Z", "2026-11-23T09:00:00Z"),
        ("2026-11-20T15:00:00Z", "2026-11-23T09:00:00Z"),
        ("2026-11-21T12:00:00Z", "2026-11-23T09:00:00Z"),
        ("2026-11-22T22:30:00Z", "2026-11-23T09:00:00Z"),
        ("2026-11-23T03:00:00Z", "2026-11-23T09:00:00Z"),
    ] {
        assert_eq!(suggested(asked), expected, "{asked}");
    }
}

#[test]
fn hours_are_configurable() {
    for (key, value) in
        [("utc-offset", "-05:00"), ("opens", "08:30"), ("closes", "12:00"), ("days", "sat"), ("after", "30m")]
    {
        testing::set_config(key, value);
    }
    assert_eq!(suggested("2026-11-21T13:01:00Z"), "2026-11-21T08:35:00-05:00");
    assert_eq!(suggested("2026-11-21T12:00:00Z"), "2026-11-21T08:30:00-05:00");
    assert_eq!(suggested("2026-11-21T17:00:00Z"), "2026-11-28T08:30:00-05:00");
    testing::set_config("round", "1s");
    assert_eq!(suggested("2026-11-21T13:01:07.5Z"), "2026-11-21T08:31:08-05:00");
    for (key, value) in
        [("closes", "08:30"), ("closes", "late"), ("days", "always"), ("after", "21d"), ("utc-offset", "CET")]
    {
        testing::set_config("closes", "12:00");
        testing::set_config(key, value);
        assert!(matches!(handle(task("2026-11-21T12:00:00Z")), Err(Failure::Retry { .. })), "{key} = {value}");
    }
}

#[test]
fn the_due_task_waits_until_then() {
    for (key, value) in [("opens", "00:00"), ("closes", "24:00"), ("days", "mon-sun"), ("after", "1h"), ("round", "0s")]
    {
        testing::set_config(key, value);
    }
    let now = Timestamp::now();
    let emitted = handle(task(&now.to_string())).expect("a suggestion");
    assert_eq!(emitted[0].deliver_after_ms, None);
    let wait = emitted[1].deliver_after_ms.expect("a delay");
    assert!((3_590_000..=3_600_000).contains(&wait), "{wait}");
    let late = handle(task("2020-01-01T00:00:00Z")).expect("a suggestion");
    assert_eq!(late[1].deliver_after_ms, Some(0), "what is late comes at once");
}

#[test]
fn a_task_that_is_published_again_keeps_its_time() {
    let first = handle(task("2026-11-20T09:00:00Z")).expect("a suggestion");
    let again = Event { time: Some("2026-11-20T09:30:00Z".to_owned()), ..task("2026-11-20T09:00:00Z") };
    let again = handle(again).expect("a suggestion");
    assert_eq!((&again[0].data, &again[1].data), (&first[0].data, &first[1].data));
}

#[test]
fn other_tasks_are_none_of_its_business() {
    assert_eq!(handle(testing::event("planning.task.created", &json!({ "title": "Water the plants" }))), Ok(vec![]));
    let event = Event { time: None, ..task("") };
    assert!(matches!(handle(event), Err(Failure::Reject(_))));
}
