use serde_json::{Value, json};
use trunkline_plugin::testing;

use super::*;

fn review(transcript: &str, confidence: f64) -> Vec<(String, Value)> {
    testing::set_config("restricted", "guarantee*, off the record, ärger");
    testing::set_config("coaching", "price: too expensive, discount; empathy: I understand, I'm sorry");
    let data = json!({ "call_id": "c-1", "transcript": transcript, "language": "en-GB", "confidence": confidence });
    let emitted = handle(testing::event("call.transcribed", &data)).expect("valid");
    emitted.into_iter().map(|emission| (emission.kind.clone(), emission.read().expect("JSON"))).collect()
}

#[test]
fn words_are_found_whatever_stands_between_them() {
    for (text, counts) in [
        ("This is Guaranteed.", &[("guarantee*", 1)][..]),
        ("Off the\nrecord, and off -- the record!", &[("off the record", 2)]),
        ("GUARANTEE, off the record", &[("guarantee*", 1), ("off the record", 1)]),
        ("ÄRGER", &[("ärger", 1)]),
        ("Ärgerlich, but off the recording. He turned off the light.", &[]),
        ("", &[]),
    ] {
        let emitted = review(text, 0.9);
        let found = emitted.first().map(|(_, data)| data["found"].clone()).unwrap_or(json!([]));
        let found: Vec<_> = found.as_array().expect("a list").iter().collect();
        let found: Vec<_> =
            found.iter().map(|found| (found["keyword"].as_str().unwrap_or(""), found["count"].as_u64())).collect();
        let counts: Vec<_> = counts.iter().map(|(word, count)| (*word, Some(*count))).collect();
        assert_eq!(found, counts, "{text}");
    }
}

#[test]
fn moments_come_in_the_order_of_the_call() {
    let text = "É. It is too expensive! I'm sorry to hear that, I understand. A discount?";
    let emitted = review(text, 0.6);
    assert_eq!(emitted.len(), 1);
    let (kind, data) = &emitted[0];
    assert_eq!((kind.as_str(), &data["organization_id"]), ("coaching.moment.detected", &json!("org-1")));
    let moments = data["moments"].as_array().expect("a list");
    let all: Vec<_> = moments.iter().map(|moment| (moment["topic"].as_str(), moment["offset"].as_u64())).collect();
    let expected = [("price", 9), ("empathy", 24), ("empathy", 48), ("price", 64)];
    assert_eq!(all, expected.map(|(topic, offset)| (Some(topic), Some(offset))));
    assert_eq!(moments[0]["text"], "É. It is too expensive! I'm sorry to hear that, I understand.…");
    assert_eq!(moments[0]["phrase"], "too expensive");
}

#[test]
fn an_uncertain_transcript_is_to_be_listened_to() {
    let emitted = review("Guaranteed, and too expensive", 0.59);
    assert_eq!(emitted.len(), 1, "no lesson from a guess");
    assert_eq!(
        (emitted[0].0.as_str(), &emitted[0].1["needs_listening"]),
        ("compliance.keyword.detected", &json!(true))
    );
    assert_eq!(review("Guaranteed, and too expensive", 0.6)[0].1["needs_listening"], false);
}

#[test]
fn what_does_not_fit_is_rejected_and_a_bad_list_waits() {
    let event = |confidence: f64| {
        let data = json!({ "call_id": "c-1", "transcript": "x", "language": "en", "confidence": confidence });
        testing::event("call.transcribed", &data)
    };
    assert!(matches!(handle(event(1.5)), Err(Failure::Reject(_))));
    assert_eq!(handle(event(1.0)), Ok(vec![]), "without lists there is nothing to find");
    for list in ["price", "price:", ": too expensive", "price: a; b"] {
        testing::set_config("coaching", list);
        assert!(matches!(handle(event(1.0)), Err(Failure::Retry { .. })), "{list}");
    }
}
