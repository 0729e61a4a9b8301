//! Messages of any form.

use bytes::Bytes;
use fastrand::Rng;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, LongString, ShortString};
use trunkline_event::{ExchangeName, HeaderValue, Headers, Message, Properties, RoutingKey};

/// The material of texts. Each is one character.
const FILLS: [&str; 6] = ["x", "é", "\u{1F600}", "\0", "\"", "\u{2028}"];
/// AMQP 0-9-1: a short string has at most 255 bytes.
const SHORT_MAX: usize = 255;
/// Names with a meaning to a broker or a codec.
const NAMES: [&str; 26] = [
    "trunkline-tenant",
    "trunkline-user",
    "trunkline-attempt",
    "trunkline-hops",
    "trunkline-source-key",
    "trunkline-due",
    "trunkline-turn",
    "trunkline-error",
    "trunkline-reason",
    "trunkline-dead-at",
    "trunkline-own-id",
    "trunkline-mac",
    "traceparent",
    "tracestate",
    "x-death",
    "x-delivery-count",
    "x-delay",
    "x-match",
    "CC",
    "BCC",
    "cloudEvents:id",
    "cloudEvents:type",
    "cloudEvents_time",
    "Content-Type",
    "content-length",
    "emit",
];
const TYPES: [&str; 9] = [
    "text/plain",
    "application/json",
    "application/json; charset=latin1",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/octet-stream",
    "image/png",
    "",
    ";;=",
];

/// A text of at most `most` bytes, often of exactly as many.
fn text(random: &mut Rng, most: usize) -> String {
    let fill = FILLS[random.usize(..FILLS.len())];
    let bytes = match random.u8(..4) {
        0 => 0,
        1 => random.usize(..=most),
        _ => most,
    };
    fill.repeat(bytes / fill.len())
}

fn maybe<T>(random: &mut Rng, value: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    random.bool().then(|| value(random))
}

fn value(random: &mut Rng, depth: usize, most: usize) -> HeaderValue {
    match random.u8(..13) {
        0 => HeaderValue::Null,
        1 => HeaderValue::Bool(random.bool()),
        2 => HeaderValue::Int(random.i64(..)),
        3 => HeaderValue::Int([i64::MAX, i64::MIN, -1, 0][random.usize(..4)]),
        4 => HeaderValue::Float([f64::MAX, f64::MIN, -0.0, f64::MIN_POSITIVE][random.usize(..4)]),
        5 => HeaderValue::Bytes((0..random.usize(..=most.min(300))).map(|_| random.u8(..)).collect()),
        6 => HeaderValue::Timestamp(random.u64(..)),
        7 => HeaderValue::Text(["1", "-1", "99999999999999999999", "NaN", "true"][random.usize(..5)].to_owned()),
        8 if depth > 0 => {
            HeaderValue::List((0..random.usize(..3)).map(|_| value(random, depth - 1, most / 3)).collect())
        }
        9 if depth > 0 => {
            let mut table = Headers::default();
            for n in 0..random.usize(..3) {
                table.set(format!("n{n}"), value(random, depth - 1, most / 3));
            }
            HeaderValue::Table(table)
        }
        10 => HeaderValue::Decimal { scale: random.u8(..), unscaled: random.i32(..) },
        11 if depth > 0 => (0..random.usize(..60)).fold(HeaderValue::Null, |inner, _| HeaderValue::List(vec![inner])),
        _ => HeaderValue::Text(text(random, most)),
    }
}

fn headers(random: &mut Rng, max: usize) -> Headers {
    let mut headers = Headers::default();
    let mut left = max;
    match random.u8(..6) {
        0 => {}
        // Very many headers.
        1 => (0..i64::try_from(max / 16).expect("few")).for_each(|n| headers.set(format!("h{n}"), n)),
        // A header of the largest size.
        2 => headers.set("n".repeat(SHORT_MAX), HeaderValue::Text("v".repeat(max - 300))),
        _ => {
            for _ in 0..random.usize(1..12) {
                let usual = [40, 300, 70_000][random.usize(..3)];
                let most = random.usize(..=usual.min(left));
                left -= most;
                let known = NAMES[random.usize(..NAMES.len())];
                let name = if random.u8(..5) == 0 { text(random, SHORT_MAX) } else { known.to_owned() };
                let value = match known {
                    // RabbitMQ accepts only a list here.
                    "CC" | "BCC" => HeaderValue::List(vec![HeaderValue::Text("unbound".to_owned())]),
                    _ => value(random, 3, most / 2),
                };
                headers.set(name, value);
            }
        }
    }
    headers
}

fn body(random: &mut Rng) -> Vec<u8> {
    match random.u8(..9) {
        0 => Vec::new(),
        1 => (0..random.usize(..400)).map(|_| random.u8(..)).collect(),
        2 => "[".repeat(50_000).into_bytes(),
        3 => format!("{}1{}", "[".repeat(2_000), "]".repeat(2_000)).into_bytes(),
        4 => b"{\"n\":1e999,\"n\":-0,\"\\ud800\":1}".to_vec(),
        5 => b"\xef\xbb\xbf{\"specversion\":\"1.0\",\"id\":\"\",\"source\":\"\",\"type\":\"\"}".to_vec(),
        6 => vec![b'x'; [1 << 20, (1 << 20) + 1, 3 << 20][random.usize(..3)]],
        7 => format!("{{\"id\":\"{}\",\"type\":3}}", text(random, 70_000)).into_bytes(),
        _ => b"{\"a\":1}".to_vec(),
    }
}

/// A message for a route, with at most `headers_max` bytes of headers. The last word of its key is its number.
pub(super) fn any(exchange: &str, route: &str, headers_max: usize, random: &mut Rng) -> Message {
    let number = random.u64(..);
    let padding = SHORT_MAX - route.len() - number.to_string().len() - 2;
    let key = match random.u8(..4) {
        0 => format!("{route}.{}.{number}", "k".repeat(padding)),
        1 => format!("{route}..{number}"),
        2 => format!("{route}.é *#.{number}"),
        _ => format!("{route}.{number}"),
    };
    let properties = Properties {
        // Two events never have the same id by chance, so repeats can be recognised.
        message_id: maybe(random, |random| {
            let id = format!("{number}-");
            let rest = text(random, SHORT_MAX - id.len());
            id + &rest
        }),
        kind: maybe(random, |random| text(random, SHORT_MAX)),
        content_type: maybe(random, |random| match random.u8(..3) {
            0 => text(random, SHORT_MAX),
            _ => TYPES[random.usize(..TYPES.len())].to_owned(),
        }),
        content_encoding: maybe(random, |random| ["gzip", "br", "", "utf-8"][random.usize(..4)].to_owned()),
        correlation_id: maybe(random, |random| text(random, SHORT_MAX)),
        reply_to: maybe(random, |random| text(random, SHORT_MAX)),
        expiration: None,
        timestamp: maybe(random, |random| [0, u64::MAX, i64::MAX.unsigned_abs(), 1 << 40][random.usize(..4)]),
        app_id: maybe(random, |random| text(random, SHORT_MAX)),
        priority: maybe(random, |random| random.u8(..)),
        headers: headers(random, headers_max),
    };
    Message {
        exchange: ExchangeName::new(exchange).expect("valid"),
        routing_key: RoutingKey::new(key).expect("valid"),
        properties,
        body: Bytes::from(body(random)),
    }
}

/// The message as a foreign client writes it.
pub(super) fn on_the_wire(message: &Message) -> (BasicProperties, Bytes) {
    let from = &message.properties;
    let mut to = BasicProperties::default().with_headers(table(&from.headers)).with_delivery_mode(2);
    let short = |text: &Option<String>| text.as_deref().map(ShortString::from);
    if let Some(text) = short(&from.message_id) {
        to = to.with_message_id(text);
    }
    if let Some(text) = short(&from.kind) {
        to = to.with_type(text);
    }
    if let Some(text) = short(&from.content_type) {
        to = to.with_content_type(text);
    }
    if let Some(text) = short(&from.content_encoding) {
        to = to.with_content_encoding(text);
    }
    if let Some(text) = short(&from.correlation_id) {
        to = to.with_correlation_id(text);
    }
    if let Some(text) = short(&from.reply_to) {
        to = to.with_reply_to(text);
    }
    if let Some(text) = short(&from.app_id) {
        to = to.with_app_id(text);
    }
    if let Some(seconds) = from.timestamp {
        to = to.with_timestamp(seconds);
    }
    if let Some(priority) = from.priority {
        to = to.with_priority(priority);
    }
    (to, message.body.clone())
}

fn table(headers: &Headers) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in headers.iter() {
        table.insert(name.into(), wire(value));
    }
    table
}

fn wire(value: &HeaderValue) -> AMQPValue {
    match value {
        HeaderValue::Null => AMQPValue::Void,
        HeaderValue::Bool(flag) => AMQPValue::Boolean(*flag),
        HeaderValue::Int(number) => AMQPValue::LongLongInt(*number),
        HeaderValue::Float(number) => AMQPValue::Double(*number),
        HeaderValue::Text(text) => AMQPValue::LongString(LongString::from(text.as_str())),
        HeaderValue::Bytes(bytes) => AMQPValue::LongString(LongString::from(bytes.as_slice())),
        HeaderValue::Timestamp(seconds) => AMQPValue::Timestamp(*seconds),
        HeaderValue::List(values) => {
            let mut array = FieldArray::default();
            values.iter().for_each(|value| array.push(wire(value)));
            AMQPValue::FieldArray(array)
        }
        HeaderValue::Table(headers) => AMQPValue::FieldTable(table(headers)),
        HeaderValue::Decimal { scale, unscaled } => {
            AMQPValue::DecimalValue(DecimalValue { scale: *scale, value: unscaled.cast_unsigned() })
        }
    }
}
