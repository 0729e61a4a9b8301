//! Warnings about routes whose emissions lead back to themselves, as far as their keys are known.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::model::broker::topology::{Binding, Exchange, ExchangeKind, Match};
use crate::model::routes::route::{Emit, Route};
use crate::parse::context::ReadContext;
use trunkline_event::{ExchangeName, PatternSet, QueueName, RouteName};

/// Reports each circle once, at the first of its routes.
pub(crate) fn warn(
    cx: &mut ReadContext<'_>,
    routes: &BTreeMap<RouteName, Route>,
    bindings: &[Binding],
    exchanges: &BTreeMap<ExchangeName, Exchange>,
    places: &BTreeMap<RouteName, ValuePlace>,
) {
    let bound = bound(bindings, exchanges);
    let next = |route: &Route| {
        let fed = |key: &String| bound.get(&route.emit.exchange).map(|bound| bound.queues(key)).unwrap_or_default();
        let keys = if route.plugin().is_some() { keys(&route.emit) } else { Vec::new() };
        let queues = keys.iter().flat_map(fed).collect::<BTreeSet<_>>();
        routes.iter().filter(|(_, other)| queues.contains(&other.queue)).map(|(name, _)| name.clone()).collect()
    };
    let edges = routes.iter().map(|(name, route)| (name.clone(), next(route))).collect::<BTreeMap<_, Vec<_>>>();
    let mut reported = BTreeSet::new();
    for name in routes.keys() {
        let Some(way) = way_back(&edges, name).filter(|way| way.iter().all(|route| !reported.contains(route))) else {
            continue;
        };
        let shown = way.iter().chain([name]).map(RouteName::as_str).collect::<Vec<_>>().join(" -> ");
        if let Some(place) = places.get(name) {
            cx.findings
                .warning(
                    Code::Cycle,
                    place,
                    format!("the emissions of route \"{name}\" come back to the same route: {shown}"),
                )
                .help("write another key in `emit`, such as `emit = { key = \"done.{type}\" }`, or a narrower pattern in `from`");
        }
        reported.extend(way);
    }
}

/// The routing keys of emissions that are known from the configuration.
pub(crate) fn keys(emit: &Emit) -> Vec<String> {
    match &emit.types {
        _ if !emit.key.contains("{type}") => vec![emit.key.clone()],
        Some(types) => types.iter().map(|kind| emit.key.replace("{type}", kind)).collect(),
        None => Vec::new(),
    }
}

/// The bindings of an exchange, by the type of the exchange.
enum ExchangeBindings<'b> {
    Topic(PatternSet<&'b QueueName>),
    Direct(BTreeMap<&'b str, Vec<&'b QueueName>>),
    Fanout(Vec<&'b QueueName>),
    /// Headers of emissions are not known from the configuration.
    Headers,
}

fn bound<'b>(
    bindings: &'b [Binding],
    exchanges: &BTreeMap<ExchangeName, Exchange>,
) -> BTreeMap<&'b ExchangeName, ExchangeBindings<'b>> {
    let mut bound = BTreeMap::new();
    for Binding { exchange, queue, matches } in bindings {
        let Some(kind) = exchanges.get(exchange).map(|exchange| exchange.kind) else { continue };
        let new = || match kind {
            ExchangeKind::Topic => ExchangeBindings::Topic(PatternSet::default()),
            ExchangeKind::Direct => ExchangeBindings::Direct(BTreeMap::new()),
            ExchangeKind::Fanout => ExchangeBindings::Fanout(Vec::new()),
            ExchangeKind::Headers => ExchangeBindings::Headers,
        };
        match (bound.entry(exchange).or_insert_with(new), matches) {
            (ExchangeBindings::Topic(patterns), Match::Key(key)) => patterns.insert(key.as_str(), queue),
            (ExchangeBindings::Direct(keys), Match::Key(key)) => keys.entry(key.as_str()).or_default().push(queue),
            (ExchangeBindings::Fanout(queues), Match::Key(_) | Match::Headers { .. }) => queues.push(queue),
            (ExchangeBindings::Headers, _)
            | (ExchangeBindings::Topic(_) | ExchangeBindings::Direct(_), Match::Headers { .. }) => {}
        }
    }
    bound
}

impl<'b> ExchangeBindings<'b> {
    /// The queues that a key reaches.
    fn queues(&self, key: &str) -> Vec<&'b QueueName> {
        match self {
            Self::Topic(patterns) => patterns.find(key).copied().collect(),
            Self::Direct(keys) => keys.get(key).cloned().unwrap_or_default(),
            Self::Fanout(queues) => queues.clone(),
            Self::Headers => Vec::new(),
        }
    }
}

/// The shortest way from `start` back to it; `None` without such a way.
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
