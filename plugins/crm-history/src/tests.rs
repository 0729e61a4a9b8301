use serde_json::{Value, json};
use trunkline_plugin::{kv, testing};

use super::*;

fn send(id: &str, kind: &str, data: &Value) -> Vec<Emission> {
    handle(Event { id: id.to_owned(), ..testing::event(kind, data) }).expect("valid")
}

fn updated(emitted: &[Emission]) -> Value {
    assert_eq!((emitted.len(), emitted[0].kind.as_str()), (1, "crm.contact.updated"));
    emitted[0].read().expect("JSON")
}

fn started(call_id: &str) -> Value {
    json!({ "call_id": call_id, "from_number": "+420111111111", "to_number": "+420222222222", "campaign_id": null })
}

fn ended(call_id: &str) -> Value {
    json!({ "call_id": call_id, "duration": 61.5, "outcome": "completed", "transcript": null })
}

fn analyzed(call_id: &str) -> Value {
    json!({ "call_id": call_id, "sentiment": "negative", "score": -0.75, "keywords": [] })
}

#[test]
fn a_call_grows_with_its_events() {
    let first = updated(&send("1", "call.started", &started("c-1")));
    assert_eq!((&first["contact"], &first["call"]["direction"]), (&json!("+420111111111"), &json!("inbound")));
    assert_eq!(first["call"].get("outcome"), None);
    send("2", "call.ended", &ended("c-1"));
    let transcribed = json!({ "call_id": "c-1", "transcript": "é".repeat(281), "language": "cs", "confidence": 0.9 });
    send("3", "call.transcribed", &transcribed);
    let last = updated(&send("4", "sentiment.analyzed", &analyzed("c-1")));
    assert_eq!((&last["calls_total"], &last["organization_id"]), (&json!(1), &json!("org-1")));
    let expected = json!({
        "call_id": "c-1", "direction": "inbound", "started_at": "2026-11-21T10:00:00Z", "ended_at": "2026-11-21T10:00:00Z",
        "duration": 61.5, "outcome": "completed", "language": "cs", "transcript_excerpt": "é".repeat(280) + "…",
        "sentiment": "negative", "score": -0.75,
    });
    assert_eq!(last["call"], expected);
    assert_eq!(last["recent_calls"], json!([expected]));
}

#[test]
fn events_before_the_number_wait_for_it() {
    assert_eq!(send("1", "sentiment.analyzed", &analyzed("c-1")), vec![]);
    assert_eq!(send("2", "call.ended", &ended("c-1")), vec![]);
    let mut outbound = started("c-1");
    outbound["campaign_id"] = json!("k-1");
    let update = updated(&send("3", "call.started", &outbound));
    assert_eq!((&update["contact"], &update["call"]["direction"]), (&json!("+420222222222"), &json!("outbound")));
    assert_eq!((&update["call"]["score"], &update["call"]["outcome"]), (&json!(-0.75), &json!("completed")));
    assert_eq!(send("2", "call.ended", &ended("c-1")), vec![], "nothing followed from it, and nothing does now");
}

#[test]
fn repetitions_change_nothing_and_answer_alike() {
    let first = send("1", "call.started", &started("c-1"));
    send("2", "call.started", &started("c-2"));
    let kept = || kv::keys().expect("keys").into_iter().map(|key| (kv::get(&key), key)).collect::<Vec<_>>();
    let before = kept();
    assert_eq!(send("1", "call.started", &started("c-1")), first);
    assert_eq!(kept(), before);
    let third = updated(&send("3", "call.started", &started("c-3")));
    assert_eq!((&third["calls_total"], third["recent_calls"].as_array().map(Vec::len)), (&json!(3), Some(3)));
}

#[test]
fn histories_are_bounded() {
    testing::set_config("history", "2");
    for number in 0..5 {
        let update = updated(&send(&number.to_string(), "call.started", &started(&number.to_string())));
        assert!(update["recent_calls"].as_array().is_some_and(|calls| calls.len() <= 2), "{update}");
        assert_eq!(update["calls_total"], number + 1);
    }
    let mut calls = VecDeque::new();
    for number in 0..=CALLS_MAX {
        let call = serde_json::from_value(json!({ "call_id": number.to_string() })).expect("a call");
        assert_eq!(merge(&mut calls, &Open { contact: None, call }).call.call_id, number.to_string());
    }
    assert_eq!(calls.len(), CALLS_MAX);
    testing::set_config("history", "0");
    let event = testing::event("call.started", &started("c"));
    assert!(matches!(handle(event), Err(Failure::Retry { .. })));
}

#[test]
fn what_does_not_fit_is_rejected() {
    let mut bad = started("c");
    bad["from_number"] = json!("420 111");
    for (kind, data) in [("call.started", bad), ("call.ended", json!({ "call_id": "c" })), ("call.lost", json!({}))] {
        assert!(matches!(handle(testing::event(kind, &data)), Err(Failure::Reject(_))), "{kind}");
    }
}
