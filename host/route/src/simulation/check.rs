//! What must hold when the faults are over and everything has come to rest.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::broker::number;
use super::plugin::Nature;
use super::world::{Published, World};
use crate::codec::header;
use trunkline_config::Unroutable;
use trunkline_event::{Message, RouteName, emission_id};

/// The first promise that a schedule broke.
pub(super) fn violation(world: &World) -> Option<String> {
    if let Some(violation) = world.violations.first() {
        return Some(violation.clone());
    }
    at_rest(world).or_else(|| conserved(world)).or_else(|| not_repeated(world)).or_else(|| in_order(world))
}

/// Nothing waits any more.
fn at_rest(world: &World) -> Option<String> {
    let ready = world.broker.source.len() + world.broker.committed.len();
    let listed = world.broker.entries.len() + world.broker.listed.len();
    let left = [ready, world.broker.unacknowledged.len(), world.broker.held.len(), listed];
    let held = world.daemon.as_ref().map_or(0, |daemon| daemon.core.held());
    (left != [0, 0, 0, 0] || held > 0)
        .then(|| format!("it does not come to rest: source, unacknowledged, waiting, listed {left:?}, in work {held}"))
}

/// How many emissions an event has that are published, and whether it is dead in the end.
fn expected(event: &Published, policy: Unroutable) -> (usize, bool) {
    match event.nature {
        Nature::Emits(count) => (count, false),
        // What has a queue may be published with each attempt; the event is dead if somebody was addressed.
        Nature::EmitsToNobody => (1, policy != Unroutable::Accept),
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

/// Every event is completely published or dead, never both, and nothing else is there.
fn conserved(world: &World) -> Option<String> {
    let route = RouteName::new("r").expect("a name");
    let dead: BTreeSet<usize> = world.broker.dead.iter().map(number).collect();
    let mut outputs: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for message in &world.broker.outputs {
        let (number, index) = (number(message), index(message));
        let event = world.published.get(number);
        let possible = event.map_or(0, |event| expected(event, world.scenario.unroutable).0);
        if index >= possible {
            return Some(format!("nobody should have emitted {} ({index} of {event:?})", id(message)));
        }
        let wanted = event.and_then(|event| event.id.as_ref()).map(|of| emission_id(of, &route, index, None));
        if wanted.is_some_and(|wanted| wanted != id(message)) {
            return Some(format!("emission {index} of {event:?} has another id: {}", id(message)));
        }
        outputs.entry(number).or_default().insert(index);
    }
    for (number, event) in world.published.iter().enumerate() {
        let (count, dies) = expected(event, world.scenario.unroutable);
        if dead.contains(&number) != dies {
            let what = if dies { "is not in the dead-letter queue" } else { "is healthy and in the dead-letter queue" };
            return Some(format!("{number}, {event:?}, {what}"));
        }
        let missing = count - outputs.get(&number).map_or(0, BTreeSet::len);
        if !dies && missing > 0 {
            return Some(format!("{missing} of {count} emissions of {number}, {event:?}, are lost"));
        }
    }
    world
        .broker
        .dead
        .iter()
        .map(number)
        .find(|number| *number >= world.published.len())
        .map(|_| "a strange letter".into())
}

/// Nothing is there twice but what was in work when a fault struck.
fn not_repeated(world: &World) -> Option<String> {
    let mut emitted: HashMap<(usize, usize), u32> = HashMap::new();
    for message in &world.broker.outputs {
        *emitted.entry((number(message), index(message))).or_default() += 1;
    }
    let mut dead: HashMap<usize, u32> = HashMap::new();
    for letter in &world.broker.dead {
        *dead.entry(number(letter)).or_default() += 1;
    }
    for (number, event) in world.published.iter().enumerate() {
        let may_repeat = world.may_repeat.contains(&number) || world.broker.ambiguous.contains(&number);
        // In one transaction there is no gap in which a crash could repeat anything. But two events are two.
        let is_excused = may_repeat && !world.scenario.atomic || event.times > 1 && !world.scenario.dedupe;
        if is_excused {
            continue;
        }
        let letters = dead.get(&number).copied().unwrap_or(0);
        if letters > 1 && event.times == 1 {
            return Some(format!("{number}, {event:?}, is in the dead-letter queue {letters} times"));
        }
        // What nobody takes is published in part before it is refused, with every attempt.
        if event.nature == Nature::EmitsToNobody && world.scenario.unroutable != Unroutable::Accept {
            continue;
        }
        // A dead letter leaves no mark, and so the second of two equal events is tried as well; and one that is put back is.
        if event.nature == Nature::Forbidden && (event.times > 1 || world.redriven.contains(&number)) {
            continue;
        }
        let most = (0..4).filter_map(|index| emitted.get(&(number, index))).max().copied().unwrap_or(0);
        if most > 1 {
            return Some(format!("an emission of {number}, {event:?}, is there {most} times"));
        }
    }
    None
}

/// The first emissions of the events of a key are in the order of their arrival, however often another daemon took over.
fn in_order(world: &World) -> Option<String> {
    if !world.scenario.ordered {
        return None;
    }
    let arrived: HashMap<usize, usize> =
        world.arrivals.iter().enumerate().rev().map(|(place, number)| (*number, place)).collect();
    let mut last: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for message in &world.broker.outputs {
        let number = number(message);
        let event = world.published.get(number)?;
        // What dies is published in part before it is refused, perhaps with every attempt.
        if !seen.insert(number) || expected(event, world.scenario.unroutable).1 {
            continue;
        }
        let place = *arrived.get(&number)?;
        if let Some((before, other)) = last.insert(&event.key, (place, number))
            && before > place
        {
            return Some(format!("{number} came before {other} in {} and after it out of it", event.key));
        }
    }
    None
}
