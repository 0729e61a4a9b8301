//! `bind` of a queue and `from` of a route: which exchange feeds it with what.

use toml::Spanned;
use toml::de::DeValue;

use super::check_exchanges::Exchanges;
use super::checked::{ExchangeKind, Match};
use super::codes::Code;
use super::diagnostics::Place;
use super::walk::{Context, Table, Text, text, wrong};
use trunkline_event::{ExchangeName, HeaderValue, RoutingKey};

type Bindings = Vec<(ExchangeName, Match)>;

/// With more of them a key of many words holds RabbitMQ up.
const HASHES_FEW: usize = 2;

/// `bind`: a key, a table, or a list of either.
pub(super) fn read(cx: &mut Context<'_>, value: &Spanned<DeValue<'_>>, exchanges: &Exchanges) -> Bindings {
    const WANTED: &str = "a key, a table {exchange, keys}, or a list of them";
    let place = Place::File(value.span());
    let items = match value.get_ref() {
        DeValue::Array(items) if items.is_empty() => {
            cx.error(Code::MissingKey, &place, "`bind` is an empty list")
                .help("remove it: a queue may have no binding");
            return Vec::new();
        }
        DeValue::Array(items) => items.iter().collect(),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => vec![value],
    };
    let mut bindings = Vec::new();
    for item in items {
        let read = match Table::inline(item, "`bind`") {
            Some(table) => one(cx, &table, exchanges),
            None => text(cx, "bind", item, WANTED).map(|key| on_default(cx, &[key], exchanges)).unwrap_or_default(),
        };
        bindings.extend(read);
    }
    bindings
}

/// Keys on the default exchange of the file.
pub(super) fn on_default(cx: &mut Context<'_>, keys: &[Text], exchanges: &Exchanges) -> Bindings {
    let Some(first) = keys.first() else { return Vec::new() };
    if !takes_keys(cx, exchanges, &exchanges.default, &first.place) {
        return Vec::new();
    }
    keyed(cx, exchanges, &exchanges.default, keys)
}

fn keyed(cx: &mut Context<'_>, exchanges: &Exchanges, exchange: &ExchangeName, keys: &[Text]) -> Bindings {
    let is_topic = exchanges.by_name.get(exchange).is_some_and(|exchange| exchange.kind == ExchangeKind::Topic);
    let read = if is_topic { RoutingKey::pattern } else { |text: &str| RoutingKey::new(text) };
    let named: Vec<_> = keys.iter().filter_map(|key| Some((key, key.name(cx, read)?))).collect();
    for (key, pattern) in named.iter().filter(|(_, pattern)| is_topic && pattern.hashes() > HASHES_FEW) {
        let message = format!("{} has {} times `#`", key.shown(), pattern.hashes());
        cx.findings.warning(Code::BadBinding, &key.place, message).help(
            "bind with several patterns of fewer: RabbitMQ tries every rest of a key at every `#`, and a long key takes \
             it seconds",
        );
    }
    let named = named.into_iter().map(|(_, key)| key);
    named.map(|key| (exchange.clone(), Match::Key(key))).collect()
}

/// Whether the exchange can be bound or addressed by key, which a headers exchange cannot.
pub(super) fn takes_keys(cx: &mut Context<'_>, exchanges: &Exchanges, name: &ExchangeName, place: &Place) -> bool {
    let is_headers = exchanges.by_name.get(name).is_some_and(|exchange| exchange.kind == ExchangeKind::Headers);
    if is_headers {
        let message = format!("exchange \"{name}\" is of type headers and does not look at keys");
        cx.error(Code::BadBinding, place, message)
            .help("bind by `headers = { NAME = VALUE }`, or use an exchange of another type");
    }
    !is_headers
}

fn one(cx: &mut Context<'_>, table: &Table<'_>, exchanges: &Exchanges) -> Bindings {
    table.check_keys(cx, &["exchange", "keys", "headers", "match"], &[]);
    let exchange = match table.has("exchange") {
        true => table.text(cx, "exchange").and_then(|text| exchanges.resolve(cx, &text)),
        false => Some(exchanges.default.clone()),
    };
    let keys = table.texts(cx, "keys");
    let headers = headers(cx, table);
    let Some(exchange) = exchange else { return Vec::new() };
    let Some(kind) = exchanges.by_name.get(&exchange).map(|exchange| exchange.kind) else { return Vec::new() };
    if kind == ExchangeKind::Headers {
        if table.has("keys") {
            takes_keys(cx, exchanges, &exchange, &table.key_place("keys"));
        } else {
            table.require(cx, "headers", "headers = { NAME = VALUE }");
        }
        return headers.map(|matches| (exchange, matches)).into_iter().collect();
    }
    for key in ["headers", "match"].into_iter().filter(|key| table.has(key)) {
        let message = format!("exchange \"{exchange}\" is of type {} and does not look at headers", kind.as_str());
        cx.error(Code::BadBinding, &table.key_place(key), message).help("write `keys` instead");
    }
    match keys {
        Some(keys) => keyed(cx, exchanges, &exchange, &keys),
        // Fanout looks at nothing, so that there is nothing to say.
        None if kind == ExchangeKind::Fanout && !table.has("keys") => {
            vec![(exchange, Match::Key(RoutingKey::new("").expect("an empty key is a key")))]
        }
        None => {
            if !table.has("headers") {
                table.require(cx, "keys", "keys = [\"KEY\"]");
            }
            Vec::new()
        }
    }
}

fn headers(cx: &mut Context<'_>, table: &Table<'_>) -> Option<Match> {
    let all = table.word(cx, "match", &[("all", true), ("any", false)]).is_none_or(|word| word.value);
    let inner = table.table(cx, "headers")?;
    let entries = inner.values();
    if entries.is_empty() {
        cx.error(Code::MissingKey, &inner.place, "`headers` is empty");
        return None;
    }
    let mut values = Vec::new();
    for (name, value) in entries {
        if name.value == "x-match" {
            let message = "`x-match` is written as `match = \"all\"` or `match = \"any\"` beside `headers`";
            cx.error(Code::UnknownKey, &name.place, message);
        } else if let Some(value) = header(cx, name.value, value) {
            values.push((name.value.to_owned(), value));
        }
    }
    Some(Match::Headers { all, values })
}

fn header(cx: &mut Context<'_>, name: &str, value: &Spanned<DeValue<'_>>) -> Option<HeaderValue> {
    const WANTED: &str = "a string, a number, or true or false";
    match value.get_ref() {
        DeValue::String(_) => text(cx, name, value, WANTED).map(|text| HeaderValue::Text(text.value)),
        DeValue::Boolean(value) => Some(HeaderValue::Bool(*value)),
        DeValue::Float(number) => number.as_str().parse().ok().map(HeaderValue::Float),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Some(HeaderValue::Int(number)),
            Err(_) => {
                let message = format!("`{name}` is {number}, which does not fit 64 bits");
                cx.error(Code::OutOfBounds, &Place::File(value.span()), message);
                None
            }
        },
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            wrong(cx, name, value, WANTED);
            None
        }
    }
}
