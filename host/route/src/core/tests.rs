//! What the simulator cannot see: its clock stands still between a step and the question when the next one is due.

use std::time::Duration;

use super::{Action, Core, Facts, Input, Rules, Ticket};
use trunkline_config::{Rate, Retry, Unroutable};

fn rules(rate: Rate) -> Rules {
    Rules {
        concurrency: usize::MAX,
        held_max: usize::MAX,
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

fn facts(number: u64) -> Facts {
    Facts {
        id: number.to_string(),
        own_id: true,
        session: 1,
        attempt: 1,
        redriven: false,
        suspect: false,
        lane: None,
        due: None,
        tenant: None,
        turn: None,
        bytes: 1,
        refused: None,
    }
}

/// However late it is asked: an answer of "never" because the time is over would be for ever, when all that is held waits.
#[test]
fn what_waits_for_the_rate_has_a_deadline() {
    let mut core = Core::new(rules(Rate { events: 2000, per: Duration::from_secs(1) }));
    let begun = |actions: Vec<Action>| actions.iter().filter(|action| matches!(action, Action::Invoke(_))).count();
    let _told = core.step(Input::Session { now: Some(1), blocked: false }, Duration::ZERO);
    let at_once: usize =
        (0..210).map(|number| begun(core.step(Input::Arrived(Ticket(number), facts(number)), Duration::ZERO))).sum();
    assert_eq!(at_once, 200, "a tenth of a second's worth");
    for waited in 1..=10 {
        let due = Duration::from_micros(500) * waited;
        assert_eq!(core.deadline(), Some(due));
        assert_eq!(begun(core.step(Input::Tick, due)), 1);
    }
    assert_eq!(core.deadline(), None, "nothing waits");
}
