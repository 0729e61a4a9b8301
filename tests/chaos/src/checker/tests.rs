//! Histories with one error each. The checker must find that error and no other.

use super::*;
use crate::ledger::{DeadLetter, Output};
use crate::plan::{Event, Plan};

const EVENTS: u64 = 600;

fn facts() -> Facts {
    Facts {
        windows: Vec::new(),
        rss_max_bytes: 1,
        rss_limit_bytes: 2,
        probes_ms: vec![Some(1), Some(2)],
        probe_limit_ms: 10_000,
        left: Vec::new(),
    }
}

fn sent() -> Ledger {
    let mut ledger = Ledger::new(Plan::new(42).unwrap());
    for number in 0..EVENTS {
        ledger.attempt(number);
        ledger.confirm(number);
    }
    ledger
}

fn output(ledger: &mut Ledger, number: u64, index: usize) {
    let (id, cause) = {
        let plan = ledger.plan();
        (plan.output_id(plan.event(number), index), plan.id(number))
    };
    let body = Plan::body(number);
    let index = i64::try_from(index).ok();
    let output = Output { id: &id, cause: &cause, index, digest: "d", body: body.as_bytes(), redelivered: false };
    ledger.output(output);
}

fn dead(ledger: &mut Ledger, number: u64, reason: &str) {
    let id = ledger.plan().id(number);
    ledger.dead(DeadLetter { id: &id, reason, redelivered: false });
}

fn settle(ledger: &mut Ledger, event: Event) {
    for index in 0..event.emissions {
        output(ledger, event.number, index);
    }
    if event.is_poison {
        dead(ledger, event.number, "rejected");
    }
}

/// A correct history, without the events in `without`.
fn history(without: &[u64]) -> Ledger {
    let mut ledger = sent();
    for number in (0..EVENTS).filter(|number| !without.contains(number)) {
        let event = ledger.plan().event(number);
        settle(&mut ledger, event);
    }
    ledger
}

fn find(fits: impl Fn(Event) -> bool) -> Event {
    let plan = Plan::new(42).unwrap();
    (0..EVENTS).map(|number| plan.event(number)).find(|event| fits(*event)).expect("there is one in so many")
}

fn failing(ledger: &Ledger, facts: &Facts) -> Vec<&'static str> {
    check(ledger, facts).invariants.iter().filter(|invariant| !invariant.pass).map(|invariant| invariant.id).collect()
}

#[test]
fn a_good_history_passes() {
    let ledger = history(&[]);
    let verdict = check(&ledger, &facts());
    assert!(verdict.pass(), "{verdict:?}");
    assert_eq!(
        (verdict.counts.attempted, verdict.counts.acknowledged, verdict.counts.settled),
        (EVENTS, EVENTS, EVENTS)
    );
    assert!(verdict.counts.poison > 0 && verdict.counts.poison == verdict.counts.poison_dead);
    assert_eq!((ledger.confirmed(), ledger.settled()), (EVENTS, EVENTS), "the running counts agree");
}

#[test]
fn a_lost_event_is_seen() {
    let event = find(|event| event.emissions == 1);
    let ledger = history(&[event.number]);
    assert_eq!(failing(&ledger, &facts()), ["I1"]);
    assert_eq!(check(&ledger, &facts()).counts.lost, 1);
}

#[test]
fn an_event_that_was_not_confirmed_is_no_loss() {
    let mut ledger = history(&[]);
    ledger.attempt(EVENTS);
    assert!(check(&ledger, &facts()).pass());
    let event = ledger.plan().event(EVENTS);
    settle(&mut ledger, event);
    assert_eq!(check(&ledger, &facts()).counts.recovered, 1);
}

#[test]
fn an_unexpected_output_is_seen() {
    let foreign = |cause: &str, index| {
        let mut ledger = history(&[]);
        let output = Output { id: "x", cause, index: Some(index), digest: "d", body: b"{}", redelivered: false };
        ledger.output(output);
        failing(&ledger, &facts())
    };
    let plan = Plan::new(42).unwrap();
    assert_eq!(foreign("stranger", 0), ["I2"]);
    assert_eq!(foreign(&plan.id(EVENTS + 5), 0), ["I2"], "never attempted");
    assert_eq!(foreign(&plan.id(find(|event| event.emissions == 1).number), 1), ["I2"], "one too many");
}

#[test]
fn a_wrong_id_or_body_is_seen() {
    let event = find(|event| event.emissions == 1);
    let plan = Plan::new(42).unwrap();
    let (good, cause, body) = (plan.output_id(event, 0), plan.id(event.number), Plan::body(event.number));
    for (id, body) in [("6a7fa669-6cd6-5096-a7a4-3710dc5e30d5", body.as_str()), (&good, "{}")] {
        let mut ledger = history(&[event.number]);
        let body = body.as_bytes();
        ledger.output(Output { id, cause: &cause, index: Some(0), digest: "d", body, redelivered: false });
        assert_eq!(failing(&ledger, &facts()), ["I1", "I2"], "and the right one is missing");
    }
}

#[test]
fn a_partial_set_of_emissions_is_seen() {
    let event = find(|event| event.emissions == 3);
    let mut ledger = history(&[event.number]);
    output(&mut ledger, event.number, 0);
    output(&mut ledger, event.number, 2);
    assert_eq!(failing(&ledger, &facts()), ["I3"]);
    output(&mut ledger, event.number, 1);
    assert!(check(&ledger, &facts()).pass());
}

#[test]
fn outputs_of_two_plugins_are_seen() {
    let event = find(|event| event.emissions == 1);
    let mut ledger = history(&[event.number]);
    let (id, cause) = (ledger.plan().output_id(event, 0), ledger.plan().id(event.number));
    let body = Plan::body(event.number);
    let (index, body) = (Some(0), body.as_bytes());
    ledger.output(Output { id: &id, cause: &cause, index, digest: "other", body, redelivered: false });
    assert_eq!(failing(&ledger, &facts()), ["I3"]);
}

/// A fault that struck every event.
fn struck_all() -> Facts {
    Facts { windows: vec![Window { from_ms: 0, to_ms: u32::MAX }], ..facts() }
}

#[test]
fn only_events_in_flight_are_struck() {
    let windows = [Window { from_ms: 20_000, to_ms: 21_000 }, Window { from_ms: 30_000, to_ms: 31_000 }];
    for (sent, done, expected) in [
        (1_000, 14_000, None),
        (1_000, 16_000, Some(0)),
        (20_500, 20_600, Some(0)),
        (21_500, 22_000, None),
        (21_500, 26_000, Some(1)),
        (31_500, 32_000, None),
        (500, u32::MAX, Some(1)),
    ] {
        assert_eq!(struck(&windows, sent, done), expected, "{sent} to {done}");
    }
}

#[test]
fn a_duplicate_without_a_fault_is_seen() {
    let event = find(|event| event.emissions == 2);
    let mut ledger = history(&[]);
    output(&mut ledger, event.number, 1);
    assert_eq!(failing(&ledger, &facts()), ["I5"]);
    assert_eq!(failing(&ledger, &struck_all()), [""; 0], "a fault explains it");
    let late = vec![Window { from_ms: u32::MAX - 1, to_ms: u32::MAX }];
    assert_eq!(failing(&ledger, &Facts { windows: late, ..facts() }), ["I5"], "it was done long before");
    ledger.attempt(event.number);
    assert_eq!(failing(&ledger, &facts()), [""; 0], "so does the producer");
}

#[test]
fn more_duplicates_than_a_window_are_seen() {
    let event = find(|event| event.emissions == 1);
    let mut ledger = history(&[]);
    for _ in 0..=WINDOW * 3 {
        output(&mut ledger, event.number, 0);
    }
    assert_eq!(failing(&ledger, &struck_all()), ["I5"]);
}

#[test]
fn a_repetition_by_the_sinks_broker_is_no_duplicate() {
    let event = find(|event| event.emissions == 1);
    let mut ledger = history(&[]);
    let (id, cause) = (ledger.plan().output_id(event, 0), ledger.plan().id(event.number));
    let body = Plan::body(event.number);
    let body = body.as_bytes();
    ledger.output(Output { id: &id, cause: &cause, index: Some(0), digest: "d", body, redelivered: true });
    let verdict = check(&ledger, &facts());
    assert!(verdict.pass());
    assert_eq!(verdict.counts.sink_repeats, 1);
}

#[test]
fn the_dead_are_the_poisoned() {
    let (healthy, poison) = (find(|event| !event.is_poison), find(|event| event.is_poison));
    let mut ledger = history(&[healthy.number]);
    dead(&mut ledger, healthy.number, "trap");
    assert_eq!(failing(&ledger, &facts()), ["I8"], "settled, but not as it should be");
    let mut ledger = history(&[poison.number]);
    dead(&mut ledger, poison.number, "trap");
    assert_eq!(failing(&ledger, &facts()), ["I8"], "the wrong reason");
    assert_eq!(failing(&history(&[poison.number]), &facts()), ["I1", "I8"], "poison that vanished");
    let mut ledger = history(&[]);
    dead(&mut ledger, poison.number, "rejected");
    assert_eq!(failing(&ledger, &facts()), ["I5"], "twice, without a fault");
}

#[test]
fn memory_probes_and_leftovers_are_judged() {
    let ledger = history(&[]);
    assert_eq!(failing(&ledger, &Facts { rss_max_bytes: 3, ..facts() }), ["I10"]);
    assert_eq!(failing(&ledger, &Facts { rss_max_bytes: 0, ..facts() }), ["I10"], "never sampled");
    for probes_ms in [vec![], vec![None], vec![Some(1), Some(10_001)]] {
        assert_eq!(failing(&ledger, &Facts { probes_ms, ..facts() }), ["I11"]);
    }
    assert_eq!(failing(&ledger, &Facts { left: vec!["chaos-echo: 3".into()], ..facts() }), ["I11"]);
}
