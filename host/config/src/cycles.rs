//! Warns of routes whose emissions lead back to themselves, as far as the keys are known beforehand.

use std::collections::{BTreeMap, BTreeSet};

use super::checked::{Binding, Exchange, ExchangeKind, Match};
use super::checked_routes::{Emit, Route};
use super::codes::Code;
use super::diagnostics::Place;
use super::walk::Context;
use trunkline_event::{ExchangeName, PatternSet, QueueName, RouteName};

/// Reports each circle once, at the first of its routes.
pub(super) fn warn(
    cx: &mut Context<'_>,
    routes: &BTreeMap<RouteName, Route>,
    bindings: &[Binding],
    exchanges: &BTreeMap<ExchangeName, Exchange>,
    places: &BTreeMap<RouteName, Place>,
) {
    let bound = bound(bindings, exchanges);
    let next = |route: &Route| {
        let fed = |key: &String| bound.get(&route.emit.exchange).map(|bound| bound.queues(key)).unwrap_or_default();
        let keys = if route.plugin().is_some() { keys(&route.emit) } else { Vec::new() };
        let queues = keys.iter().flat_map(fed).collect::<BTreeSet<_>>();
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

/// The bindings of an exchange, by what it looks at.
enum Bound<'b> {
    Topic(PatternSet<&'b QueueName>),
    Direct(BTreeMap<&'b str, Vec<&'b QueueName>>),
    Fanout(Vec<&'b QueueName>),
    /// Headers of emissions are not known beforehand.
    Headers,
}

fn bound<'b>(
    bindings: &'b [Binding],
    exchanges: &BTreeMap<ExchangeName, Exchange>,
) -> BTreeMap<&'b ExchangeName, Bound<'b>> {
    let mut bound = BTreeMap::new();
    for Binding { exchange, queue, matches } in bindings {
        let Some(kind) = exchanges.get(exchange).map(|exchange| exchange.kind) else { continue };
        let new = || match kind {
            ExchangeKind::Topic => Bound::Topic(PatternSet::default()),
            ExchangeKind::Direct => Bound::Direct(BTreeMap::new()),
            ExchangeKind::Fanout => Bound::Fanout(Vec::new()),
            ExchangeKind::Headers => Bound::Headers,
        };
        match (bound.entry(exchange).or_insert_with(new), matches) {
            (Bound::Topic(patterns), Match::Key(key)) => patterns.insert(key.as_str(), queue),
            (Bound::Direct(keys), Match::Key(key)) => keys.entry(key.as_str()).or_default().push(queue),
            (Bound::Fanout(queues), Match::Key(_) | Match::Headers { .. }) => queues.push(queue),
            (Bound::Headers, _) | (Bound::Topic(_) | Bound::Direct(_), Match::Headers { .. }) => {}
        }
    }
    bound
}

impl<'b> Bound<'b> {
    /// Where a key leads to.
    fn queues(&self, key: &str) -> Vec<&'b QueueName> {
        match self {
            Self::Topic(patterns) => patterns.find(key).copied().collect(),
            Self::Direct(keys) => keys.get(key).cloned().unwrap_or_default(),
            Self::Fanout(queues) => queues.clone(),
            Self::Headers => Vec::new(),
        }
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
