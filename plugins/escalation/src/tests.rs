use serde_json::{Value, json};
use trunkline_plugin::testing;

use super::*;

/// Handles a call at `10:MINUTE` of one day.
fn analyzed(id: &str, call_id: &str, minute: u32, score: f64) -> Vec<Emission> {
    let data = json!({ "call_id": call_id, "sentiment": "negative", "score": score, "keywords": [] });
    let time = Some(format!("2026-11-21T10:{minute:02}:00Z"));
    let event = Event { id: id.to_owned(), time, ..testing::event("sentiment.analyzed", &data) };
    handle(event).expect("valid")
}

#[test]
fn the_third_within_an_hour_escalates_and_the_count_begins_anew() {
    assert_eq!(analyzed("1", "a", 0, -0.6), vec![]);
    assert_eq!(analyzed("2", "x", 5, -0.5), vec![], "the threshold itself is none");
    assert_eq!(analyzed("3", "b", 10, -0.9), vec![]);
    let third = analyzed("4", "c", 20, -0.7);
    let data: Value = third[0].read().expect("JSON");
    assert_eq!(
        (&data["count"], &data["worst_score"], &data["organization_id"]),
        (&json!(3), &json!(-0.9), &json!("org-1"))
    );
    let calls: Vec<_> = data["calls"].as_array().expect("a list").iter().map(|call| call["call_id"].clone()).collect();
    assert_eq!(calls, ["a", "b", "c"]);
    assert_eq!(analyzed("4", "c", 20, -0.7), third, "a repetition says the same");
    assert_eq!(analyzed("5", "d", 30, -0.7), vec![], "the first of the next three");
}

#[test]
fn a_call_counts_once_and_repetitions_never() {
    testing::set_config("count", "2");
    assert_eq!(analyzed("1", "a", 0, -0.6), vec![]);
    assert_eq!(analyzed("1", "a", 0, -0.6), vec![]);
    assert_eq!(analyzed("2", "a", 1, -0.8), vec![], "the same call, analysed again");
    assert_eq!(analyzed("3", "b", 2, -0.8).len(), 1);
}

#[test]
fn only_within_the_window_in_whatever_order() {
    testing::set_config("window", "10m");
    testing::set_config("count", "2");
    assert_eq!(analyzed("1", "a", 30, -0.6), vec![]);
    assert_eq!(analyzed("2", "b", 20, -0.6), vec![], "late, and ten minutes before");
    assert_eq!(analyzed("3", "c", 21, -0.6).len(), 1, "late, and nine minutes before");
    assert_eq!(analyzed("4", "d", 40, -0.6), vec![]);
    assert_eq!(analyzed("5", "e", 55, -0.6), vec![], "the one before is too long ago");
    testing::set_config("count", "0");
    let event =
        testing::event("sentiment.analyzed", &json!({ "call_id": "c", "sentiment": "negative", "score": -0.9 }));
    assert!(matches!(handle(event.clone()), Err(Failure::Retry { .. })));
    testing::set_config("count", "1");
    assert!(matches!(handle(Event { time: None, ..event }), Err(Failure::Reject(_))));
}
