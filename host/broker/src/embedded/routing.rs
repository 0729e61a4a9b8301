//! Which queues a message goes to: exchanges and bindings, immutable; another topology is another one.

use std::collections::{BTreeSet, HashMap};

use crate::Passing;
use trunkline_config::{Binding, ExchangeKind, Match, Topology};
use trunkline_event::{ExchangeName, HeaderValue, Headers, Message, PatternSet};

/// Exchanges by name, and queues by number.
#[derive(Debug)]
pub(super) struct Routing {
    exchanges: HashMap<ExchangeName, Exchange>,
    queues: HashMap<String, usize>,
}

#[derive(Debug)]
struct Exchange {
    matcher: Matcher,
    alternate: Option<ExchangeName>,
}

#[derive(Debug)]
enum Matcher {
    Topic(PatternSet<usize>),
    Direct(HashMap<String, Vec<usize>>),
    Fanout(Vec<usize>),
    Headers(Vec<HeaderBinding>),
}

#[derive(Debug)]
struct HeaderBinding {
    all: bool,
    values: Vec<(String, HeaderValue)>,
    queue: usize,
}

impl Routing {
    /// `queues` gives each queue its number: its place. `more` are bindings beside those of the topology.
    pub(super) fn new(topology: &Topology, queues: HashMap<String, usize>, more: &[Binding]) -> Self {
        let mut exchanges = HashMap::new();
        for (name, settings) in &topology.exchanges {
            let matcher = match settings.kind {
                ExchangeKind::Topic => Matcher::Topic(PatternSet::default()),
                ExchangeKind::Direct => Matcher::Direct(HashMap::new()),
                ExchangeKind::Fanout => Matcher::Fanout(Vec::new()),
                ExchangeKind::Headers => Matcher::Headers(Vec::new()),
            };
            exchanges.insert(name.clone(), Exchange { matcher, alternate: settings.alternate.clone() });
        }
        for binding in topology.bindings.iter().chain(more) {
            let queue = queues.get(binding.queue.as_str());
            if let (Some(exchange), Some(&queue)) = (exchanges.get_mut(&binding.exchange), queue) {
                exchange.matcher.bind(&binding.matches, queue);
            }
        }
        Self { exchanges, queues }
    }

    /// The queues of a message, each once; none when it is unroutable.
    pub(super) fn route(&self, message: &Message) -> Result<BTreeSet<usize>, Passing> {
        let mut found = BTreeSet::new();
        if message.exchange.is_default() {
            found.extend(self.queues.get(message.routing_key.as_str()));
            return Ok(found);
        }
        let mut name = &message.exchange;
        // Alternate exchanges may form a ring; each is asked once.
        for _ in 0..=self.exchanges.len() {
            let missing = || Passing::NoExchange(name.to_string());
            let exchange = self.exchanges.get(name).ok_or_else(missing)?;
            exchange.matcher.matches(message, &mut found);
            match &exchange.alternate {
                Some(alternate) if found.is_empty() => name = alternate,
                Some(_) | None => break,
            }
        }
        Ok(found)
    }
}

impl Matcher {
    fn bind(&mut self, matches: &Match, queue: usize) {
        match (self, matches) {
            (Self::Topic(patterns), Match::Key(key)) => patterns.insert(key.as_str(), queue),
            (Self::Direct(keys), Match::Key(key)) => keys.entry(key.to_string()).or_default().push(queue),
            (Self::Fanout(queues), Match::Key(_) | Match::Headers { .. }) => queues.push(queue),
            (Self::Headers(bindings), Match::Headers { all, values }) => {
                bindings.push(HeaderBinding { all: *all, values: values.clone(), queue });
            }
            // A headers exchange without header values matches everything, as with RabbitMQ's `x-match: all`.
            (Self::Headers(bindings), Match::Key(_)) => {
                bindings.push(HeaderBinding { all: true, values: Vec::new(), queue });
            }
            // `config` refuses header values elsewhere.
            (Self::Topic(_) | Self::Direct(_), Match::Headers { .. }) => {}
        }
    }

    fn matches(&self, message: &Message, found: &mut BTreeSet<usize>) {
        let key = message.routing_key.as_str();
        match self {
            Self::Topic(patterns) => found.extend(patterns.find(key)),
            Self::Direct(keys) => found.extend(keys.get(key).into_iter().flatten()),
            Self::Fanout(queues) => found.extend(queues),
            Self::Headers(bindings) => {
                let headers = &message.properties.headers;
                found.extend(bindings.iter().filter(|binding| binding.matches(headers)).map(|binding| binding.queue));
            }
        }
    }
}

impl HeaderBinding {
    fn matches(&self, headers: &Headers) -> bool {
        let equal = |(name, value): &(String, HeaderValue)| headers.get(name) == Some(value);
        if self.all { self.values.iter().all(equal) } else { self.values.iter().any(equal) }
    }
}
