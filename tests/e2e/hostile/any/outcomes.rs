//! Scripts for the guest `performer`: any outcome, and emissions with parts of any length.

use bytes::Bytes;
use fastrand::Rng;
use serde_json::{Value, json};
use trunkline_event::{ExchangeName, Message, Properties, RoutingKey};

/// Around the limits of a name, of a short string, of all headers together, and far beyond.
const LENGTHS: [usize; 14] = [0, 1, 63, 64, 65, 254, 255, 256, 1024, 1025, 65_535, 65_536, 65_537, 200_000];
const FILLS: [&str; 5] = ["x", "é", "\u{1F600}", "\0", "\n"];
const NAMES: [&str; 9] = ["a", "A", "id", "specversion", "x-death", "trunkline-tenant", "traceparent", "cc", "a name"];
/// The largest delay is 30 days.
const DELAYS_MS: [u64; 4] = [0, 1, 30 * 86_400_000 + 1, u64::MAX];

fn length(random: &mut Rng) -> Value {
    // Most parts are short, so that one long part decides.
    if random.u8(..4) > 0 { json!(random.usize(1..20)) } else { json!(one_of(random, &LENGTHS)) }
}

fn maybe(random: &mut Rng, value: impl FnOnce(&mut Rng) -> Value) -> Value {
    if random.u8(..3) == 0 { value(random) } else { Value::Null }
}

fn one_of<T: Copy>(random: &mut Rng, choices: &[T]) -> T {
    choices[random.usize(..choices.len())]
}

fn emission(random: &mut Rng) -> Value {
    let attributes: Vec<Value> = (0..random.usize(..4))
        .map(|_| {
            let name = if random.bool() { json!(one_of(random, &NAMES)) } else { length(random) };
            json!({ "name": name, "value": length(random) })
        })
        .collect();
    json!({
        "type": length(random),
        "content-type": length(random),
        "data": one_of(random, &[0, 10, 70_000, (1 << 20) + 1]),
        "key": maybe(random, length),
        "subject": maybe(random, length),
        "dedupe-key": maybe(random, length),
        "after": maybe(random, |random| json!(one_of(random, &DELAYS_MS))),
        "attributes": attributes,
    })
}

pub(super) fn any(exchange: &str, route: &str, random: &mut Rng) -> Message {
    let number = random.u64(..);
    let count = one_of(random, &[1, 1, 2, 5, 300]);
    let script = json!({
        "outcome": one_of(random, &["emit", "emit", "emit", "reject", "retry", "trap"]),
        "fill": one_of(random, &FILLS),
        "text": one_of(random, &[0, 10, 1024, 1025, 70_000, 5 << 20]),
        "after": maybe(random, |random| json!(one_of(random, &DELAYS_MS))),
        "emissions": if count == 300 {
            vec![json!({ "type": 3, "content-type": 9, "data": 10 }); count]
        } else {
            (0..count).map(|_| emission(random)).collect()
        },
    });
    let properties = Properties {
        message_id: Some(number.to_string()),
        content_type: Some("application/json".to_owned()),
        ..Properties::default()
    };
    Message {
        exchange: ExchangeName::new(exchange).expect("valid"),
        routing_key: RoutingKey::new(format!("{route}.{number}")).expect("valid"),
        properties,
        body: Bytes::from(script.to_string()),
    }
}
