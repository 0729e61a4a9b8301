//! Bindings: which exchange feeds a queue with what.

use crate::check::topology::exchanges::Exchanges;
use crate::diagnostics::codes::Code;
use crate::diagnostics::findings::Finding;
use crate::diagnostics::place::ValuePlace;
use crate::model::broker::topology::{ExchangeKind, Match};
use crate::parse::context::{ReadContext, Text};
use crate::parse::raw::queue::{BindingExchange, RawBinding, RawBindingTable};
use trunkline_event::{ExchangeName, RoutingKey};

pub(super) type Bindings = Vec<(ExchangeName, Match)>;

/// RabbitMQ needs long to match a long key against a pattern with more `#` than this.
const HASHES_FEW: usize = 2;

/// Checks `bind` of a queue.
pub(super) fn check(cx: &mut ReadContext<'_>, raw: Vec<RawBinding>, exchanges: &Exchanges) -> Bindings {
    let mut bindings = Vec::new();
    for raw in raw {
        bindings.extend(match raw {
            RawBinding::Key(key) => on_default(cx, &[key], exchanges),
            RawBinding::Table(table) => one(cx, table, exchanges),
        });
    }
    bindings
}

/// Keys on the default exchange of the file.
pub(super) fn on_default(cx: &mut ReadContext<'_>, keys: &[Text], exchanges: &Exchanges) -> Bindings {
    let Some(first) = keys.first() else { return Vec::new() };
    if !takes_keys(cx, exchanges, &exchanges.default, &first.place) {
        return Vec::new();
    }
    keyed(cx, exchanges, &exchanges.default, keys)
}

fn keyed(cx: &mut ReadContext<'_>, exchanges: &Exchanges, exchange: &ExchangeName, keys: &[Text]) -> Bindings {
    let is_topic = exchanges.by_name.get(exchange).is_some_and(|exchange| exchange.kind == ExchangeKind::Topic);
    let kind = if is_topic { "topic pattern" } else { "routing key" };
    let read = if is_topic { RoutingKey::pattern } else { |text: &str| RoutingKey::new(text) };
    let named: Vec<_> = keys.iter().filter_map(|key| Some((key, key.name(cx, kind, read)?))).collect();
    for (key, pattern) in named.iter().filter(|(_, pattern)| is_topic && pattern.hashes() > HASHES_FEW) {
        let message = format!(
            "{} is a topic pattern with {} `#`, so RabbitMQ may need seconds to match a long routing key",
            key.shown(),
            pattern.hashes()
        );
        cx.findings
            .warning(Code::BadBinding, &key.place, message)
            .help("write several patterns with at most two `#` each, such as \"#.created.#\"");
    }
    let named = named.into_iter().map(|(_, key)| key);
    named.map(|key| (exchange.clone(), Match::Key(key))).collect()
}

/// Whether the exchange looks at keys. A headers exchange is reported.
pub(super) fn takes_keys(
    cx: &mut ReadContext<'_>,
    exchanges: &Exchanges,
    name: &ExchangeName,
    place: &ValuePlace,
) -> bool {
    let is_headers = exchanges.by_name.get(name).is_some_and(|exchange| exchange.kind == ExchangeKind::Headers);
    if is_headers {
        let message = format!("the headers exchange \"{name}\" does not match routing keys");
        cx.error(Code::BadBinding, place, message).help(
            "name a topic or direct exchange, or write `headers = { NAME = \"VALUE\" }` instead of keys in `bind`",
        );
    }
    !is_headers
}

fn one(cx: &mut ReadContext<'_>, raw: RawBindingTable, exchanges: &Exchanges) -> Bindings {
    let exchange = match &raw.exchange {
        Some(BindingExchange::Named(text)) => exchanges.resolve(cx, text),
        Some(BindingExchange::Default) => Some(exchanges.default.clone()),
        None => None,
    };
    let Some(exchange) = exchange else { return Vec::new() };
    let Some(kind) = exchanges.by_name.get(&exchange).map(|exchange| exchange.kind) else { return Vec::new() };
    if kind == ExchangeKind::Headers {
        if let Some(place) = &raw.keys_place {
            takes_keys(cx, exchanges, &exchange, place);
        } else if raw.headers_place.is_none() {
            missing(cx, &raw.place, "headers").help("write `headers = { NAME = \"VALUE\" }`");
        }
        let headers = raw.headers.map(|headers| Match::Headers { all: headers.all, values: headers.values });
        return headers.map(|matches| (exchange, matches)).into_iter().collect();
    }
    for place in [&raw.headers_place, &raw.match_place].into_iter().flatten() {
        let message = format!("the {} exchange \"{exchange}\" does not match headers", kind.as_str());
        cx.error(Code::BadBinding, place, message).help("write `keys = [\"KEY\"]` instead of `headers` and `match`");
    }
    match raw.keys {
        Some(keys) => keyed(cx, exchanges, &exchange, &keys),
        // A fanout exchange looks at nothing.
        None if kind == ExchangeKind::Fanout && raw.keys_place.is_none() => {
            vec![(exchange, Match::Key(RoutingKey::new("").expect("an empty key is valid")))]
        }
        None => {
            if raw.headers_place.is_none() && raw.keys_place.is_none() {
                missing(cx, &raw.place, "keys").help("write `keys = [\"KEY\"]`");
            }
            Vec::new()
        }
    }
}

fn missing<'c>(cx: &'c mut ReadContext<'_>, place: &ValuePlace, key: &str) -> &'c mut Finding {
    cx.error(Code::MissingKey, place, format!("the binding has no `{key}`"))
}
