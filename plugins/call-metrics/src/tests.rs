use serde_json::{Value, json};
use trunkline_plugin::testing;

use super::*;

fn send(id: &str, kind: &str, time: &str, data: &Value) -> Vec<Emission> {
    handle(Event { id: id.to_owned(), time: Some(time.to_owned()), ..testing::event(kind, data) }).expect("valid")
}

fn ended(id: &str, time: &str, duration: f64, outcome: &str) -> Value {
    let data = json!({ "call_id": id, "duration": duration, "outcome": outcome, "transcript": null });
    send(id, "call.ended", time, &data)[0].read().expect("JSON")
}

#[test]
fn calls_are_counted_in_all_and_by_day() {
    assert_eq!(send("s", "call.started", "2026-11-21T10:00:00Z", &json!({ "call_id": "c" })), vec![]);
    ended("1", "2026-11-21T10:00:00Z", 10.1, "completed");
    ended("2", "2026-11-21T23:59:59Z", 20.2, "voicemail");
    let third = ended("3", "2026-11-22T00:00:00Z", 0.0, "completed");
    assert_eq!((&third["date"], &third["organization_id"]), (&json!("2026-11-22"), &json!("org-1")));
    let total = json!({
        "started": 1, "ended": 3, "outcomes": { "completed": 2, "voicemail": 1 }, "duration_sum": 30.3,
        "duration_average": 10.1, "duration_max": 20.2, "completed_share": 0.667,
    });
    assert_eq!(third["total"], total);
    assert_eq!((&third["day"]["ended"], &third["day"]["started"]), (&json!(1), &json!(0)));
}

#[test]
fn repetitions_count_once_and_say_the_same() {
    let first = ended("1", "2026-11-21T10:00:00Z", 10.0, "failed");
    ended("2", "2026-11-21T10:00:00Z", 10.0, "failed");
    assert_eq!(ended("1", "2026-11-21T10:00:00Z", 10.0, "failed"), first);
    assert_eq!(ended("3", "2026-11-21T10:00:00Z", 10.0, "failed")["total"]["ended"], 3);
}

#[test]
fn days_are_those_of_the_place_and_bounded() {
    testing::set_config("utc-offset", "+01:00");
    assert_eq!(ended("1", "2026-11-21T23:30:00Z", 1.0, "failed")["date"], "2026-11-22");
    let mut metrics = Metrics::default();
    for day in 0..=DAYS_MAX {
        add(&mut metrics, &format!("{day:04}"), &Change::Started);
    }
    assert_eq!((metrics.days.len(), metrics.total.started), (DAYS_MAX, DAYS_MAX as u64 + 1));
    assert!(!metrics.days.contains_key("0000"));
}

#[test]
fn what_does_not_fit_is_rejected() {
    for (kind, data) in [
        ("call.ended", json!({ "call_id": "c", "duration": -1, "outcome": "completed" })),
        ("call.ended", json!({ "call_id": "c", "duration": 1e300, "outcome": "completed" })),
        ("call.ended", json!({ "call_id": "c", "duration": 1, "outcome": "lost" })),
        ("call.started", json!({})),
        ("call.lost", json!({ "call_id": "c" })),
    ] {
        assert!(matches!(handle(testing::event(kind, &data)), Err(Failure::Reject(_))), "{kind} {data}");
    }
}
