//! What must hold when the faults are over and everything has come to rest.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::plugin::Nature;
use super::world::{Published, World};
use crate::codec::header;
use crate::config::Unroutable;
use crate::event::{RouteName, emission_id};

/// The first promise that a schedule broke.
pub(super) fn violation(world: &World) -> Option<String> {
    if let Some(violation) = world.violations.first() {
        return Some(violation.clone());
    }
    at_rest(world).or_else(|| conserved(world)).or_else(|| not_repeated(world)).or_else(|| in_order(world))
}

/// Nothing waits any more.
fn at_rest(world: &World) -> Option<String> {
    let left = [world.broker.source.len(), world.broker.unacknowledged.len(), world.broker.held.len()];
    let held = world.daemon.as_ref().map_or(0, |daemon| daemon.core.held());
    (left != [0, 0, 0] || held > 0)
        .then(|| format!("it does not come to rest: source, unacknowledged, waiting {left:?}, in work {held}"))
}

/// The ids that an event's emissions have, and whether it may or must be dead.
fn expected(event: &Published, policy: Unroutable) -> (Vec<String>, bool) {
    let route = RouteName::new("r").expect("a name");
    let ids = |count: usize| (0..count).map(|index| emission_id(&event.id, &route, index, None)).collect();
    match event.nature {
        Nature::Emits(count) => (ids(count), false),
        // What has a queue may be published with each attempt; the event is dead if somebody was addressed.
        Nature::EmitsToNobody => (ids(1), policy != Unroutable::Accept),
        Nature::Recovers(_) => (ids(1), false),
        Nature::Rejected | Nature::Traps => (Vec::new(), true),
    }
}

/// Every event is completely published or dead, never both, and nothing else is there.
fn conserved(world: &World) -> Option<String> {
    let id = |message: &crate::event::Message| message.properties.message_id.clone().unwrap_or_default();
    let outputs: BTreeSet<String> = world.broker.outputs.iter().map(id).collect();
    let dead: BTreeSet<String> = world.broker.dead.iter().map(id).collect();
    let mut known = BTreeSet::new();
    for event in &world.published {
        let (ids, dies) = expected(event, world.scenario.unroutable);
        let must_be_out = !dies;
        if dead.contains(&event.id) != dies {
            let what = if dies { "is not in the dead-letter queue" } else { "is healthy and in the dead-letter queue" };
            return Some(format!("{event:?} {what}"));
        }
        let missing = ids.iter().filter(|id| !outputs.contains(*id)).count();
        if must_be_out && missing > 0 {
            return Some(format!("{missing} of {} emissions of {event:?} are lost", ids.len()));
        }
        known.extend(ids);
    }
    outputs.iter().find(|id| !known.contains(*id)).map(|id| format!("nobody should have emitted {id}"))
}

/// Without faults, and over orderly stops, nothing is there twice.
fn not_repeated(world: &World) -> Option<String> {
    let disturbed = world.faults().keys().any(|fault| *fault != "stop");
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for message in &world.broker.outputs {
        *counts.entry(message.properties.message_id.as_deref().unwrap_or_default()).or_default() += 1;
    }
    for event in &world.published {
        // What is refused in part is published again as a whole, by the rules.
        if event.nature == Nature::EmitsToNobody && world.scenario.unroutable != Unroutable::Accept {
            continue;
        }
        let most =
            expected(event, world.scenario.unroutable).0.iter().filter_map(|id| counts.get(id.as_str())).max().copied();
        // In one transaction there is no gap in which a crash could repeat anything.
        let must_be_single = !disturbed || world.scenario.atomic && (event.times == 1 || world.scenario.dedupe);
        if must_be_single && most.unwrap_or(0) > 1 {
            return Some(format!("an emission of {event:?} is there {} times", most.unwrap_or(0)));
        }
    }
    None
}

/// With one daemon from begin to end, the first emissions of the events of a key are in the order of their arrival.
fn in_order(world: &World) -> Option<String> {
    let restarted = world.faults().keys().any(|fault| *fault == "crash" || *fault == "stop");
    if !world.scenario.ordered || restarted {
        return None;
    }
    let arrived: HashMap<&str, usize> =
        world.arrivals.iter().enumerate().rev().map(|(place, id)| (id.as_str(), place)).collect();
    let mut last: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for message in &world.broker.outputs {
        let cause = message.properties.headers.text(header::CAUSE)?;
        let event = world.published.iter().find(|event| event.id == cause)?;
        // What is addressed to nobody is published in part before it is refused, with every attempt.
        if !seen.insert(cause)
            || event.nature == Nature::EmitsToNobody && world.scenario.unroutable != Unroutable::Accept
        {
            continue;
        }
        let place = *arrived.get(cause)?;
        if let Some((before, id)) = last.insert(&event.key, (place, cause))
            && before > place
        {
            return Some(format!("{cause} came before {id} in {} and after it out of it", event.key));
        }
    }
    None
}
