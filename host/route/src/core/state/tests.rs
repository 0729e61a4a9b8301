//! Deadlines of the core. The simulator cannot test them, because its clock stands still between a step and its deadline.

use std::time::Duration;

use super::{Action, Core, CoreInput, Decision, DeliveryFacts, PublishPlan, Rules, Ticket};
use trunkline_config::{Rate, Retry, Unroutable};
use trunkline_event::Reason;

fn rules(rate: Rate) -> Rules {
    Rules {
        concurrency: usize::MAX,
        held_max: usize::MAX,
        waiting_max: usize::MAX,
        bytes_max: usize::MAX,
        retry: Retry { max: 0, steps: Vec::new() },
        unroutable: Unroutable::Accept,
        dedupe: false,
        atomic: true,
        circuit: None,
        rate: Some(rate),
        tenant_rate: None,
    }
}

fn facts(number: u64) -> DeliveryFacts {
    DeliveryFacts {
        id: number.to_string(),
        own_id: true,
        subscription: 1,
        attempt: 1,
        redriven: false,
        suspect: false,
        ordering_key: None,
        due: None,
        tenant: None,
        turn: None,
        expires: None,
        bytes: 1,
        refused: None,
    }
}

/// The deadline is given also after its time. Without it a route would stall when every held event waits for the rate.
#[test]
fn an_event_that_waits_for_the_rate_has_a_deadline() {
    let mut core = Core::new(rules(Rate { events: 2000, per: Duration::from_secs(1) }));
    let begun = |core: &mut Core, input, now| {
        let mut actions = Vec::new();
        core.step(input, now, &mut actions);
        actions.iter().filter(|action| matches!(action, Action::Invoke(_))).count()
    };
    assert_eq!(begun(&mut core, CoreInput::Subscription { now: Some(1), blocked: false }, Duration::ZERO), 0);
    let arrive = |number| CoreInput::Arrived(Ticket(number), facts(number));
    let at_once: usize = (0..210).map(|number| begun(&mut core, arrive(number), Duration::ZERO)).sum();
    assert_eq!(at_once, 200, "a tenth of a second's worth");
    for waited in 1..=10 {
        let due = Duration::from_micros(500) * waited;
        assert_eq!(core.deadline(), Some(due));
        assert_eq!(begun(&mut core, CoreInput::Tick, due), 1);
    }
    assert_eq!(core.deadline(), None, "nothing waits");
}

/// W4: the TTL of a message ends also while the event waits for a free place or for the rate.
#[test]
fn an_event_whose_ttl_ends_while_it_waits_is_dead_lettered() {
    let mut core = Core::new(rules(Rate { events: 1, per: Duration::from_secs(1) }));
    let mut actions = Vec::new();
    core.step(CoreInput::Subscription { now: Some(1), blocked: false }, Duration::ZERO, &mut actions);
    for (number, expires_ms) in [(1, 500), (2, 1_500), (3, 1_500)] {
        let facts = DeliveryFacts { expires: Some(Duration::from_millis(expires_ms)), ..facts(number) };
        core.step(CoreInput::Arrived(Ticket(number), facts), Duration::ZERO, &mut actions);
    }
    assert_eq!(actions, [Action::Invoke(Ticket(1))], "the rate lets one event begin");
    actions.clear();
    core.step(CoreInput::Tick, Duration::from_secs(1), &mut actions);
    assert_eq!(actions, [Action::Invoke(Ticket(2))]);
    actions.clear();
    core.step(CoreInput::Tick, Duration::from_secs(2), &mut actions);
    let [Action::Commit(Ticket(3), PublishPlan::Copy(Decision::DeadLetter { reason, error }), _)] = actions.as_slice()
    else {
        panic!("{actions:?}")
    };
    assert_eq!(*reason, Reason::Expired);
    assert_eq!(error, "the TTL of the message ended before attempt 1 began");
}
