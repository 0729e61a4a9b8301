//! What a client may ask to be streamed: an exchange, and patterns of keys that cost the broker little.

use sha2::{Digest, Sha256};

use super::event;
use trunkline_config::{Broker, Config, ExchangeKind};
use trunkline_event::{ExchangeName, RoutingKey};
use trunkline_http::{Problem, StreamRequest};

const PATTERNS_MAX: usize = 32;
/// Words of all patterns of a stream: so many nodes it adds at most to those that every key of its exchange may reach.
const WORDS_MAX: usize = 256;
/// RabbitMQ tries every rest of a key at every `#`: with 127 words in the key, two take it some ten milliseconds, three
/// two seconds, and four more than a minute, in which its channel does nothing else.
const HASHES_MAX: usize = 2;

/// Exchange and keys of a request; patterns in their shortest form, in order, each once.
pub(super) fn source(config: &Config, request: &StreamRequest) -> Result<(ExchangeName, Vec<RoutingKey>), Problem> {
    let name = request.exchange.as_deref().unwrap_or(config.default_exchange.as_str());
    if let Some(why) = config.http.refuses(name) {
        return Err(Problem::forbidden(why));
    }
    let known = config.topology.exchanges.get(name);
    let Some(settings) = known else {
        let known = config.topology.exchanges.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(Problem::bad_request(format!("there is no exchange {name:?} in routes.toml; known: {known}")));
    };
    let exchange = ExchangeName::new(name).map_err(|error| Problem::bad_request(format!("`exchange` {error}")))?;
    let all = vec!["#".to_owned()];
    let patterns = if request.patterns.is_empty() { &all } else { &request.patterns };
    if patterns.len() > PATTERNS_MAX {
        return Err(Problem::bad_request(format!("more than {PATTERNS_MAX} patterns")));
    }
    let read =
        if settings.kind == ExchangeKind::Direct { |text: &str| RoutingKey::new(text) } else { RoutingKey::pattern };
    let key = |pattern: &String| {
        let key = read(pattern).map_err(|error| Problem::bad_request(format!("`pattern` {error}")))?;
        if pattern.is_empty() { Err(Problem::bad_request("`pattern` is empty")) } else { Ok(key) }
    };
    let mut keys = patterns.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    keys.sort();
    keys.dedup();
    if let Some(trouble) = trouble(settings.kind, &keys) {
        return Err(Problem::bad_request(format!("exchange {name:?} {trouble}")));
    }
    if settings.kind == ExchangeKind::Topic {
        check_cost(config, &keys)?;
    }
    Ok((exchange, keys))
}

/// What the exchange cannot do with the keys.
fn trouble(kind: ExchangeKind, keys: &[RoutingKey]) -> Option<&'static str> {
    let matches_all = keys.iter().all(|key| key.as_str() == "#");
    let has_wildcard = keys.iter().any(|key| key.as_str().split('.').any(|word| word == "#" || word == "*"));
    match kind {
        ExchangeKind::Topic => None,
        ExchangeKind::Direct if has_wildcard => Some("is direct: `pattern` has to name its keys as they are"),
        ExchangeKind::Direct => None,
        ExchangeKind::Fanout | ExchangeKind::Headers if matches_all => None,
        ExchangeKind::Fanout | ExchangeKind::Headers => Some("does not look at keys: it is streamed whole"),
    }
}

fn check_cost(config: &Config, patterns: &[RoutingKey]) -> Result<(), Problem> {
    let words: usize = patterns.iter().map(|pattern| pattern.as_str().split('.').count()).sum();
    if words > WORDS_MAX {
        let text = format!("the patterns have {words} words; a stream has at most {WORDS_MAX}");
        return Err(Problem::bad_request(text));
    }
    let is_amqp = matches!(config.broker, Broker::Amqp { .. });
    if let Some(pattern) = patterns.iter().find(|pattern| is_amqp && pattern.hashes() > HASHES_MAX) {
        let text = format!(
            "`pattern` {:?} has {} times `#`, and RabbitMQ takes long for more than {HASHES_MAX}",
            pattern.as_str(),
            pattern.hashes()
        );
        return Err(Problem::bad_request(text));
    }
    Ok(())
}

/// What a token says of the source that it was made for.
pub(super) fn fingerprint(exchange: &ExchangeName, keys: &[RoutingKey]) -> String {
    let mut digest = Sha256::new();
    for part in [exchange.as_str()].into_iter().chain(keys.iter().map(RoutingKey::as_str)) {
        // No name has a control character.
        digest.update(part);
        digest.update([0]);
    }
    event::hex(&digest.finalize()[..4])
}
