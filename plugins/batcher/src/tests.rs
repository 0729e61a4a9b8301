use serde_json::{Value, json};
use trunkline_plugin::testing;
use trunkline_plugin::{Emission, Event, Failure, kv};

use super::*;

fn input(kind: &str, id: &str) -> Event {
    Event { id: id.to_owned(), ..testing::event(kind, &json!({ "of": id })) }
}

fn given(event: Event) -> Vec<Emission> {
    handle(event).expect("it is taken")
}

fn kinds(out: &[Emission]) -> Vec<&str> {
    out.iter().map(|emission| emission.kind.as_str()).collect()
}

fn ids(emission: &Emission) -> Vec<String> {
    let data: Value = serde_json::from_slice(&emission.data).expect("JSON");
    data["events"].as_array().expect("events").iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

/// An emission as the plugin receives it.
fn back(emission: &Emission, id: &str) -> Event {
    Event { id: id.to_owned(), kind: emission.kind.clone(), data: emission.data.clone(), ..Event::default() }
}

#[test]
fn so_many_are_one_batch_and_repeats_change_nothing() {
    testing::set_config("size", "3");
    let first = given(input("a", "1"));
    assert_eq!(kinds(&first), ["batcher.timer"]);
    assert_eq!(first[0].deliver_after_ms, Some(5_000));
    assert_eq!(given(input("a", "1")), first, "the timer may have been lost");
    assert!(given(input("b", "1")).len() == 1, "another type is another batch");
    assert!(given(input("a", "2")).is_empty());
    assert!(given(input("a", "2")).is_empty());
    let batch = given(input("a", "3"));
    assert_eq!(
        (kinds(&batch), ids(&batch[0])),
        (vec!["batch", "batcher.done"], vec!["1".into(), "2".into(), "3".into()])
    );
    assert_eq!(given(input("a", "3")), batch, "it may have been lost: the same once more");
    for repeated in ["1", "2"] {
        assert!(given(input("a", repeated)).is_empty(), "{repeated}");
    }
    assert!(given(back(&first[0], "t")).is_empty(), "the timer comes too late");
    assert_eq!(kinds(&given(input("a", "4"))), ["batcher.timer"], "the next batch");
    assert!(given(back(&batch[1], "d")).is_empty());
    for repeated in ["1", "2", "3"] {
        assert!(given(input("a", repeated)).is_empty(), "{repeated}, after the batch is known to be published");
    }
}

#[test]
fn a_repeated_timer_closes_the_same_batch() {
    let first = given(input("a", "1"));
    assert!(given(input("a", "2")).is_empty());
    let batch = given(back(&first[0], "t"));
    assert_eq!(ids(&batch[0]), ["1", "2"]);
    let data: Value = serde_json::from_slice(&batch[0].data).expect("JSON");
    assert_eq!((&data["reason"], &data["count"], &data["number"]), (&json!("time"), &json!(2), &json!(1)));
    assert_eq!(given(back(&first[0], "t")), batch);
    assert!(given(back(&batch[1], "d")).is_empty());
    assert!(given(back(&first[0], "t")).is_empty());
    assert!(given(input("a", "2")).is_empty());
}

#[test]
fn a_call_that_ended_after_any_write_is_made_good_by_the_next() {
    // The state when a call closed a batch and ended before it moved the batch.
    testing::set_config("size", "2");
    given(input("a", "1"));
    let open = kv::get("open/a").expect("read").expect("there");
    let mut closed: Value = serde_json::from_slice(&open).expect("JSON");
    let mut second = closed["events"][0].clone();
    second["id"] = json!("2");
    closed["events"].as_array_mut().expect("events").push(second);
    closed["closed_by"] = json!("2");
    kv::set_json("open/a", &closed).expect("written");
    assert_eq!(kinds(&given(input("a", "3"))), ["batcher.timer"], "another call moves it, and does not publish it");
    let batch = given(input("a", "2"));
    assert_eq!(ids(&batch[0]), ["1", "2"]);
    assert!(given(input("a", "1")).is_empty());
}

#[test]
fn old_state_is_forgotten() {
    testing::set_config("size", "1");
    for n in 0..150 {
        let batch = given(input("a", &n.to_string()));
        assert!(given(back(&batch[1], &format!("d{n}"))).is_empty());
    }
    let keys = kv::keys().expect("read");
    assert_eq!(keys.iter().filter(|key| key.starts_with("input/")).count(), 100, "{keys:?}");
    assert_eq!(keys.iter().filter(|key| key.starts_with("closed/")).count(), 100, "{keys:?}");
}

#[test]
fn what_cannot_be_is_refused() {
    let long = testing::event("a", &"x".repeat(300 * 1024));
    assert!(matches!(handle(long), Err(failure) if failure != Failure::retry("")));
    testing::set_config("size", "0");
    assert_eq!(handle(input("a", "1")), Err(Failure::retry("config \"size\" is out of range")));
}
