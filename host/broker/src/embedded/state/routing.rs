//! Routing of messages to queues by exchanges and bindings. A routing is immutable; a new topology makes a new one.

use std::collections::{BTreeSet, HashMap};

use crate::Passing;
use trunkline_config::{Binding, ExchangeKind, Match, Topology};
use trunkline_event::{ExchangeName, HeaderValue, Headers, Message, PatternSet};

/// Exchanges by name, and queues by number.
#[derive(Debug)]
pub(crate) struct Routing {
    exchanges: HashMap<ExchangeName, ExchangeRoutes>,
    queues: HashMap<String, usize>,
    /// Queues of streams.
    streams: BTreeSet<usize>,
}

/// The queues that get a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Destinations {
    /// The numbers of the queues, with the queues of streams.
    pub(crate) queues: BTreeSet<usize>,
    /// Whether the message is routable. The queue of a stream is temporary, so it makes no message routable that an exchange routes.
    pub(crate) is_routable: bool,
}

#[derive(Debug)]
struct ExchangeRoutes {
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
    /// `queues` maps names of queues to numbers. `streams` are the bindings of the queues of streams.
    pub(crate) fn new(topology: &Topology, queues: HashMap<String, usize>, streams: &[Binding]) -> Self {
        let mut exchanges = HashMap::new();
        for (name, settings) in &topology.exchanges {
            let matcher = match settings.kind {
                ExchangeKind::Topic => Matcher::Topic(PatternSet::default()),
                ExchangeKind::Direct => Matcher::Direct(HashMap::new()),
                ExchangeKind::Fanout => Matcher::Fanout(Vec::new()),
                ExchangeKind::Headers => Matcher::Headers(Vec::new()),
            };
            exchanges.insert(name.clone(), ExchangeRoutes { matcher, alternate: settings.alternate.clone() });
        }
        for binding in topology.bindings.iter().chain(streams) {
            let queue = queues.get(binding.queue.as_str());
            if let (Some(exchange), Some(&queue)) = (exchanges.get_mut(&binding.exchange), queue) {
                exchange.matcher.bind(&binding.matches, queue);
            }
        }
        let streams = streams.iter().filter_map(|binding| queues.get(binding.queue.as_str()).copied()).collect();
        Self { exchanges, queues, streams }
    }

    /// The queues of a message.
    pub(crate) fn route(&self, message: &Message) -> Result<Destinations, Passing> {
        let mut found = BTreeSet::new();
        if message.exchange.is_default() {
            found.extend(self.queues.get(message.routing_key.as_str()));
            return Ok(Destinations { is_routable: !found.is_empty(), queues: found });
        }
        let mut name = &message.exchange;
        // Alternate exchanges may form a ring, so each exchange is used once.
        for _ in 0..=self.exchanges.len() {
            let missing = || Passing::NoExchange(name.to_string());
            let exchange = self.exchanges.get(name).ok_or_else(missing)?;
            exchange.matcher.matches(message, &mut found);
            match &exchange.alternate {
                Some(alternate) if !self.is_routable(&found) => name = alternate,
                Some(_) | None => break,
            }
        }
        Ok(Destinations { is_routable: self.is_routable(&found), queues: found })
    }

    /// Whether one of the queues is not the queue of a stream.
    fn is_routable(&self, queues: &BTreeSet<usize>) -> bool {
        queues.iter().any(|queue| !self.streams.contains(queue))
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
            // `config` refuses header values on other exchanges.
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
