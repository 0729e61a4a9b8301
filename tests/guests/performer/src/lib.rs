//! Follows the body: an outcome, and emissions with fields of any length.

use std::time::Duration;

use trunkline_plugin::json::Value;
use trunkline_plugin::{Emission, Event, Failure, handler};

/// A text of at least `length` bytes, repeated from `fill`.
fn long(script: &Value, length: &Value) -> String {
    let fill = script["fill"].as_str().filter(|fill| !fill.is_empty()).unwrap_or("x");
    let bytes = length.as_u64().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default();
    fill.repeat(bytes.div_ceil(fill.len()))
}

fn emission(script: &Value, wanted: &Value) -> Emission {
    let data = long(script, &wanted["data"]).into_bytes();
    let mut emission = Emission::bytes(&long(script, &wanted["type"]), &long(script, &wanted["content-type"]), data);
    if !wanted["key"].is_null() {
        emission = emission.routing_key(long(script, &wanted["key"]));
    }
    if !wanted["subject"].is_null() {
        emission = emission.subject(long(script, &wanted["subject"]));
    }
    if !wanted["dedupe-key"].is_null() {
        emission = emission.dedupe_key(long(script, &wanted["dedupe-key"]));
    }
    if let Some(milliseconds) = wanted["after"].as_u64() {
        emission = emission.deliver_after(Duration::from_millis(milliseconds));
    }
    for attribute in wanted["attributes"].as_array().into_iter().flatten() {
        let name = attribute["name"].as_str().map_or_else(|| long(script, &attribute["name"]), str::to_owned);
        emission = emission.attribute(name, long(script, &attribute["value"]));
    }
    emission
}

/// Carries out the body, and panics when the body is not a script.
#[handler]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let script: Value = event.json()?;
    let text = long(&script, &script["text"]);
    match script["outcome"].as_str() {
        Some("emit") => {
            let wanted = script["emissions"].as_array().map(Vec::as_slice).unwrap_or_default();
            Ok(wanted.iter().map(|wanted| emission(&script, wanted)).collect())
        }
        Some("reject") => Err(Failure::reject(text)),
        Some("retry") => match script["after"].as_u64() {
            Some(milliseconds) => Err(Failure::retry_after(text, Duration::from_millis(milliseconds))),
            None => Err(Failure::retry(text)),
        },
        Some(_) | None => panic!("{text}"),
    }
}
