//! Events that come in over HTTP, and the daemon's own headers of messages that come in.

use metrics::counter;
use tracing::debug;

/// Whether a queue got a confirmed event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventRouting {
    /// At least one queue got the event.
    Routed,
    /// No queue is bound for the event; it was accepted and discarded.
    Unroutable,
}

/// A message came with headers that only daemons may write, and without the signature of a daemon that has this key.
pub fn headers_dropped(why: &'static str) {
    counter!("trunkline_headers_dropped_total", "why" => why).increment(1);
}

/// The source of an event that a client published over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventOrigin {
    /// The paths below `/api`.
    Api,
    /// The hook of this name.
    Hook(String),
}

impl EventOrigin {
    /// The label `route` of the metrics.
    const fn label(&self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Hook(_) => "hooks",
        }
    }

    /// The field `hook` of a log line.
    fn hook(&self) -> Option<&str> {
        match self {
            Self::Api => None,
            Self::Hook(name) => Some(name),
        }
    }
}

/// An event came in over HTTP and is confirmed.
pub fn event_accepted(origin: &EventOrigin, id: &str, exchange: &str, routing: EventRouting) {
    let result = match routing {
        EventRouting::Routed => "confirmed",
        EventRouting::Unroutable => "unroutable",
    };
    let from = origin.label();
    counter!("trunkline_events_published_total", "route" => from, "exchange" => exchange.to_owned(), "result" => result)
        .increment(1);
    debug!(id, from, hook = origin.hook(), exchange, routed = routing == EventRouting::Routed, "event accepted");
}

/// An event came in over HTTP with an id that was accepted before.
pub fn event_repeated(origin: &EventOrigin, id: &str, exchange: &str) {
    let (from, exchange) = (origin.label(), exchange.to_owned());
    counter!("trunkline_events_published_total", "route" => from, "exchange" => exchange, "result" => "repeated")
        .increment(1);
    debug!(id, from, hook = origin.hook(), "an event was accepted before and is not published again");
}
