//! The conditions that hold after all faults, when no work is left.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::broker::number;
use super::plugin::Nature;
use super::schedule::{Published, Simulation};
use crate::codec::header;
use trunkline_config::Unroutable;
use trunkline_event::{Message, RouteName, emission_id};

/// The first condition that a schedule broke.
pub(super) fn violation(simulation: &Simulation) -> Option<String> {
    if let Some(violation) = simulation.violations.first() {
        return Some(violation.clone());
    }
    at_rest(simulation)
        .or_else(|| conserved(simulation))
        .or_else(|| not_repeated(simulation))
        .or_else(|| in_order(simulation))
}

/// No message and no delivery waits any more.
fn at_rest(simulation: &Simulation) -> Option<String> {
    let ready = simulation.broker.source.len() + simulation.broker.committed.len();
    let listed = simulation.broker.entries.len() + simulation.broker.listed.len();
    let left = [ready, simulation.broker.unacknowledged.len(), simulation.broker.held.len(), listed];
    let held = simulation.daemon.as_ref().map_or(0, |daemon| daemon.executor.held());
    (left != [0, 0, 0, 0] || held > 0)
        .then(|| format!("it does not come to rest: source, unacknowledged, waiting, listed {left:?}, in work {held}"))
}

/// Published emissions of an event, and whether the event is a dead letter in the end.
fn expected(event: &Published, policy: Unroutable) -> (usize, bool) {
    match event.nature {
        Nature::Emits(count) => (count, false),
        // The emission with a queue may be published with each attempt. The event is a dead letter unless returns are accepted.
        Nature::EmitsUnrouted => (1, policy != Unroutable::Accept),
        Nature::Recovers(_) => (1, false),
        // The first of two emissions may be published before the second is refused for good.
        Nature::Forbidden => (1, true),
        Nature::Rejected | Nature::Traps | Nature::Heavy => (0, true),
    }
}

/// The position of an emission among its siblings.
fn index(message: &Message) -> usize {
    message.properties.headers.int(header::INDEX).and_then(|index| usize::try_from(index).ok()).unwrap_or(usize::MAX)
}

fn id(message: &Message) -> &str {
    message.properties.message_id.as_deref().unwrap_or_default()
}

/// Every event has all its emissions or is a dead letter, never both, and the broker has no other message.
fn conserved(simulation: &Simulation) -> Option<String> {
    let route = RouteName::new("r").expect("a name");
    let dead: BTreeSet<usize> = simulation.broker.dead.iter().map(number).collect();
    let mut outputs: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for message in &simulation.broker.outputs {
        let (number, index) = (number(message), index(message));
        let event = simulation.published.get(number);
        let possible = event.map_or(0, |event| expected(event, simulation.scenario.unroutable).0);
        if index >= possible {
            return Some(format!("no plugin should have emitted {} ({index} of {event:?})", id(message)));
        }
        let wanted = event.and_then(|event| event.id.as_ref()).map(|of| emission_id(of, &route, index, None));
        if wanted.is_some_and(|wanted| wanted != id(message)) {
            return Some(format!("emission {index} of {event:?} has another id: {}", id(message)));
        }
        outputs.entry(number).or_default().insert(index);
    }
    for (number, event) in simulation.published.iter().enumerate() {
        let (count, dies) = expected(event, simulation.scenario.unroutable);
        if dead.contains(&number) != dies {
            let what = if dies { "is not in the dead-letter queue" } else { "is healthy and in the dead-letter queue" };
            return Some(format!("{number}, {event:?}, {what}"));
        }
        let missing = count - outputs.get(&number).map_or(0, BTreeSet::len);
        if !dies && missing > 0 {
            return Some(format!("{missing} of {count} emissions of {number}, {event:?}, are lost"));
        }
    }
    simulation
        .broker
        .dead
        .iter()
        .map(number)
        .find(|number| *number >= simulation.published.len())
        .map(|_| "a strange letter".into())
}

/// Only events that were in work when a fault struck have repeated messages.
fn not_repeated(simulation: &Simulation) -> Option<String> {
    let mut emitted: HashMap<(usize, usize), u32> = HashMap::new();
    for message in &simulation.broker.outputs {
        *emitted.entry((number(message), index(message))).or_default() += 1;
    }
    let mut dead: HashMap<usize, u32> = HashMap::new();
    for letter in &simulation.broker.dead {
        *dead.entry(number(letter)).or_default() += 1;
    }
    for (number, event) in simulation.published.iter().enumerate() {
        let may_repeat = simulation.may_repeat.contains(&number) || simulation.broker.ambiguous.contains(&number);
        // With a transaction a crash repeats nothing. An event that was published twice without dedupe counts twice.
        let is_excused = may_repeat && !simulation.scenario.atomic || event.times > 1 && !simulation.scenario.dedupe;
        if is_excused {
            continue;
        }
        let letters = dead.get(&number).copied().unwrap_or(0);
        if letters > 1 && event.times == 1 {
            return Some(format!("{number}, {event:?}, is in the dead-letter queue {letters} times"));
        }
        // An event with an unroutable emission is published in part with every attempt.
        if event.nature == Nature::EmitsUnrouted && simulation.scenario.unroutable != Unroutable::Accept {
            continue;
        }
        // A dead letter leaves no record of a done event, so the second of two equal events and a redriven event are tried too.
        if event.nature == Nature::Forbidden && (event.times > 1 || simulation.redriven.contains(&number)) {
            continue;
        }
        let most = (0..4).filter_map(|index| emitted.get(&(number, index))).max().copied().unwrap_or(0);
        if most > 1 {
            return Some(format!("an emission of {number}, {event:?}, is there {most} times"));
        }
    }
    None
}

/// The first emissions of the events of a key are in the order of arrival, however often another daemon took over.
fn in_order(simulation: &Simulation) -> Option<String> {
    if !simulation.scenario.ordered {
        return None;
    }
    let arrived: HashMap<usize, usize> =
        simulation.arrivals.iter().enumerate().rev().map(|(place, number)| (*number, place)).collect();
    let mut last: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for message in &simulation.broker.outputs {
        let number = number(message);
        let event = simulation.published.get(number)?;
        // An event that ends as a dead letter may be published in part with every attempt.
        if !seen.insert(number) || expected(event, simulation.scenario.unroutable).1 {
            continue;
        }
        let place = *arrived.get(&number)?;
        if let Some((before, other)) = last.insert(&event.key, (place, number))
            && before > place
        {
            return Some(format!(
                "the emissions of {number} and {other} (key {}) left in another order than the events arrived",
                event.key
            ));
        }
    }
    None
}
