//! Warns of routes whose emissions lead back to themselves, as far as the keys are known beforehand.

use std::collections::{BTreeMap, BTreeSet};

use super::checked::{Binding, Exchange, ExchangeKind, Match};
use super::checked_routes::{Emit, Route};
use super::codes::Code;
use super::diagnostics::Place;
use super::walk::Context;
use crate::event::{ExchangeName, RouteName};

/// Reports each circle once, at the first of its routes.
pub(super) fn warn(
    cx: &mut Context<'_>,
    routes: &BTreeMap<RouteName, Route>,
    bindings: &[Binding],
    exchanges: &BTreeMap<ExchangeName, Exchange>,
    places: &BTreeMap<RouteName, Place>,
) {
    let next = |route: &Route| {
        let fed = |binding: &Binding| {
            let kind = exchanges.get(&binding.exchange).map(|exchange| exchange.kind);
            route.plugin().is_some()
                && binding.exchange == route.emit.exchange
                && keys(&route.emit).iter().any(|key| feeds(kind, &binding.matches, key))
        };
        let queues =
            bindings.iter().filter(|binding| fed(binding)).map(|binding| &binding.queue).collect::<BTreeSet<_>>();
        routes.iter().filter(|(_, other)| queues.contains(&other.queue)).map(|(name, _)| name.clone()).collect()
    };
    let edges = routes.iter().map(|(name, route)| (name.clone(), next(route))).collect::<BTreeMap<_, Vec<_>>>();
    let mut told = BTreeSet::new();
    for name in routes.keys() {
        let Some(way) = way_back(&edges, name).filter(|way| way.iter().all(|route| !told.contains(route))) else {
            continue;
        };
        let shown = way.iter().chain([name]).map(RouteName::as_str).collect::<Vec<_>>().join(" -> ");
        if let Some(place) = places.get(name) {
            cx.findings
                .warning(Code::Cycle, place, format!("events go round in a circle: {shown}"))
                .help("let `emit.key` or `emit.exchange` be another one, or `from` be narrower");
        }
        told.extend(way);
    }
}

/// The keys that are known to be published with.
pub(super) fn keys(emit: &Emit) -> Vec<String> {
    match &emit.types {
        _ if !emit.key.contains("{type}") => vec![emit.key.clone()],
        Some(types) => types.iter().map(|kind| emit.key.replace("{type}", kind)).collect(),
        None => Vec::new(),
    }
}

fn feeds(kind: Option<ExchangeKind>, matches: &Match, key: &str) -> bool {
    match (kind, matches) {
        (Some(ExchangeKind::Fanout), _) => true,
        (Some(ExchangeKind::Direct), Match::Key(bound)) => bound.as_str() == key,
        (Some(ExchangeKind::Topic), Match::Key(pattern)) => {
            let (pattern, key) = (pattern.as_str().split('.'), key.split('.'));
            topic(&pattern.collect::<Vec<_>>(), &key.collect::<Vec<_>>())
        }
        (Some(ExchangeKind::Headers | ExchangeKind::Direct | ExchangeKind::Topic) | None, _) => false,
    }
}

/// AMQP's topic patterns, word by word.
fn topic(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => (0..=key.len()).any(|skipped| topic(rest, &key[skipped..])),
        ([word, pattern @ ..], [first, key @ ..]) => (*word == "*" || word == first) && topic(pattern, key),
        ([], [_, ..]) | ([_, ..], []) => false,
    }
}

/// The routes from `start` back to it, the shortest way; none when there is no such way.
fn way_back(edges: &BTreeMap<RouteName, Vec<RouteName>>, start: &RouteName) -> Option<Vec<RouteName>> {
    let mut seen = BTreeSet::new();
    let mut ways = std::collections::VecDeque::from([vec![start.clone()]]);
    while let Some(way) = ways.pop_front() {
        for next in way.last().and_then(|last| edges.get(last)).into_iter().flatten() {
            if next == start {
                return Some(way);
            }
            if seen.insert(next.clone()) {
                ways.push_back(way.iter().chain([next]).cloned().collect());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_patterns() {
        for (pattern, key, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("#", "", true),
            ("#.c", "a.b.c", true),
            ("#.c", "a.b", false),
            ("a.#.c", "a.c", true),
        ] {
            let split = |text: &'static str| text.split('.').collect::<Vec<_>>();
            assert_eq!(topic(&split(pattern), &split(key)), expected, "{pattern} {key}");
        }
    }
}
