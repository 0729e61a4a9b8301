//! The exchange and the patterns that a client selects for its stream, within a cost bound for the broker.

use sha2::{Digest, Sha256};

use trunkline_config::{BrokerChoice, Config, ExchangeKind};
use trunkline_event::{ExchangeName, RoutingKey};
use trunkline_http::{Problem, StreamRequest};

const PATTERNS_MAX: usize = 32;
/// Words of all patterns of a stream. The stream adds at most this number of nodes to the exchange's topic trie.
const WORDS_MAX: usize = 256;
/// Bound of `#` in a pattern. RabbitMQ tries every rest of a key at every `#`. For a key of 127 words, two `#` take about
/// ten milliseconds, three take two seconds, and four take more than a minute. The channel does nothing else meanwhile.
const HASHES_MAX: usize = 2;

/// The exchange and the keys of a request. Patterns are in their shortest form, sorted, each once.
pub(super) fn select(config: &Config, request: &StreamRequest) -> Result<(ExchangeName, Vec<RoutingKey>), Problem> {
    let name = request.exchange.as_deref().unwrap_or(config.default_exchange.as_str());
    if let Some(why) = config.http.refuses(name) {
        return Err(Problem::forbidden(why));
    }
    let known = config.topology.exchanges.get(name);
    let Some(settings) = known else {
        let known = config.topology.exchanges.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(Problem::bad_request(format!(
            "there is no exchange {name:?} in routes.toml; known exchanges: {known}"
        )));
    };
    let exchange = ExchangeName::new(name).map_err(|error| Problem::bad_request(format!("`exchange` {error}")))?;
    let all = vec!["#".to_owned()];
    let patterns = if request.patterns.is_empty() { &all } else { &request.patterns };
    if patterns.len() > PATTERNS_MAX {
        return Err(Problem::bad_request(format!(
            "the request has {} patterns; a stream has at most {PATTERNS_MAX}",
            patterns.len()
        )));
    }
    let read =
        if settings.kind == ExchangeKind::Direct { |text: &str| RoutingKey::new(text) } else { RoutingKey::pattern };
    let key = |pattern: &String| {
        let key = read(pattern).map_err(|error| Problem::bad_request(format!("`pattern` {error}")))?;
        if pattern.is_empty() {
            Err(Problem::bad_request("`pattern` is empty; write a topic pattern such as \"#\""))
        } else {
            Ok(key)
        }
    };
    let mut keys = patterns.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    keys.sort();
    keys.dedup();
    if let Some(mismatch) = mismatch(settings.kind, &keys) {
        return Err(Problem::bad_request(format!("exchange {name:?} {mismatch}")));
    }
    if settings.kind == ExchangeKind::Topic {
        check_cost(config, &keys)?;
    }
    Ok((exchange, keys))
}

/// The reason why the exchange cannot select by the keys.
fn mismatch(kind: ExchangeKind, keys: &[RoutingKey]) -> Option<&'static str> {
    let matches_all = keys.iter().all(|key| key.as_str() == "#");
    let has_wildcard = keys.iter().any(|key| key.as_str().split('.').any(|word| word == "#" || word == "*"));
    match kind {
        ExchangeKind::Topic => None,
        ExchangeKind::Direct if has_wildcard => {
            Some("has the type direct: write a routing key without wildcards in `pattern`")
        }
        ExchangeKind::Direct => None,
        ExchangeKind::Fanout | ExchangeKind::Headers if matches_all => None,
        ExchangeKind::Fanout | ExchangeKind::Headers => Some("does not match routing keys: remove `pattern`"),
    }
}

fn check_cost(config: &Config, patterns: &[RoutingKey]) -> Result<(), Problem> {
    let words: usize = patterns.iter().map(|pattern| pattern.as_str().split('.').count()).sum();
    if words > WORDS_MAX {
        let text = format!("the patterns have {words} words; a stream has at most {WORDS_MAX} words");
        return Err(Problem::bad_request(text));
    }
    let is_amqp = matches!(config.broker, BrokerChoice::Amqp { .. });
    if let Some(pattern) = patterns.iter().find(|pattern| is_amqp && pattern.hashes() > HASHES_MAX) {
        let text = format!(
            "`pattern` {:?} has {} `#`; on RabbitMQ, a pattern has at most {HASHES_MAX} `#`",
            pattern.as_str(),
            pattern.hashes()
        );
        return Err(Problem::bad_request(text));
    }
    Ok(())
}

/// The fingerprint of a selection, a part of each token.
pub(super) fn fingerprint(exchange: &ExchangeName, keys: &[RoutingKey]) -> String {
    let mut digest = Sha256::new();
    for part in [exchange.as_str()].into_iter().chain(keys.iter().map(RoutingKey::as_str)) {
        // Names have no control characters, so 0 separates them.
        digest.update(part);
        digest.update([0]);
    }
    hex::encode(&digest.finalize()[..4])
}
