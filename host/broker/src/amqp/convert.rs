//! Our messages and lapin's.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, ByteArray, FieldArray, FieldTable, LongString, ShortString};

use trunkline_event::{ExchangeName, HeaderValue, Headers, Message, Properties, RoutingKey};

/// Persistent.
const DELIVERY_MODE: u8 = 2;

/// A text that was checked to have at most 255 bytes. lapin's own conversion panics on a longer one, so what should
/// not be possible becomes an empty name here, which the broker refuses.
pub(super) fn name(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}

pub(super) fn to_properties(properties: &Properties) -> BasicProperties {
    type Set = fn(BasicProperties, ShortString) -> BasicProperties;
    let texts: [(&Option<String>, Set); 8] = [
        (&properties.message_id, BasicProperties::with_message_id),
        (&properties.kind, BasicProperties::with_type),
        (&properties.content_type, BasicProperties::with_content_type),
        (&properties.content_encoding, BasicProperties::with_content_encoding),
        (&properties.correlation_id, BasicProperties::with_correlation_id),
        (&properties.reply_to, BasicProperties::with_reply_to),
        (&properties.expiration, BasicProperties::with_expiration),
        (&properties.app_id, BasicProperties::with_app_id),
    ];
    let mut wire = BasicProperties::default().with_delivery_mode(DELIVERY_MODE);
    for (text, set) in texts {
        if let Some(text) = text {
            wire = set(wire, name(text));
        }
    }
    if let Some(seconds) = properties.timestamp {
        wire = wire.with_timestamp(seconds);
    }
    if let Some(priority) = properties.priority {
        wire = wire.with_priority(priority);
    }
    if !properties.headers.is_empty() {
        wire = wire.with_headers(to_table(&properties.headers));
    }
    wire
}

pub(super) fn to_table(headers: &Headers) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, header) in headers.iter() {
        table.insert(name(key), value(header));
    }
    table
}

pub(super) fn value(header: &HeaderValue) -> AMQPValue {
    match header {
        HeaderValue::Null => AMQPValue::Void,
        HeaderValue::Bool(flag) => AMQPValue::Boolean(*flag),
        HeaderValue::Int(number) => AMQPValue::LongLongInt(*number),
        HeaderValue::Float(number) => AMQPValue::Double(*number),
        HeaderValue::Text(text) => AMQPValue::LongString(LongString::from(text.as_bytes().to_vec())),
        HeaderValue::Bytes(bytes) => AMQPValue::ByteArray(ByteArray::from(bytes.clone())),
        HeaderValue::Timestamp(seconds) => AMQPValue::Timestamp(*seconds),
        HeaderValue::List(values) => {
            AMQPValue::FieldArray(FieldArray::from(values.iter().map(value).collect::<Vec<_>>()))
        }
        HeaderValue::Table(table) => AMQPValue::FieldTable(to_table(table)),
    }
}

/// A message as it came. Names that AMQP allows and we do not (control characters) are kept out of names, not refused.
pub(super) fn message(exchange: &str, routing_key: &str, properties: &BasicProperties, body: Vec<u8>) -> Message {
    Message {
        exchange: ExchangeName::new(exchange).unwrap_or_else(|_| ExchangeName::default_exchange()),
        routing_key: RoutingKey::new(routing_key).unwrap_or_else(|_| cleaned(routing_key)),
        properties: from_properties(properties),
        body: Bytes::from(body),
    }
}

fn cleaned(key: &str) -> RoutingKey {
    let kept = key.chars().filter(|character| !character.is_ascii_control()).collect::<String>();
    RoutingKey::new(kept).unwrap_or_else(|_| RoutingKey::new("").expect("an empty key is a key"))
}

fn from_properties(wire: &BasicProperties) -> Properties {
    let text = |value: &Option<ShortString>| value.as_ref().map(|text| text.as_str().to_owned());
    Properties {
        message_id: text(wire.message_id()),
        kind: text(wire.kind()),
        content_type: text(wire.content_type()),
        content_encoding: text(wire.content_encoding()),
        correlation_id: text(wire.correlation_id()),
        reply_to: text(wire.reply_to()),
        expiration: text(wire.expiration()),
        timestamp: *wire.timestamp(),
        app_id: text(wire.app_id()),
        priority: *wire.priority(),
        headers: wire.headers().as_ref().map(from_table).unwrap_or_default(),
    }
}

fn from_table(table: &FieldTable) -> Headers {
    table.inner().iter().map(|(key, header)| (key.as_str().to_owned(), header_value(header))).collect()
}

fn header_value(wire: &AMQPValue) -> HeaderValue {
    match wire {
        AMQPValue::Boolean(flag) => HeaderValue::Bool(*flag),
        AMQPValue::ShortShortInt(number) => HeaderValue::Int(i64::from(*number)),
        AMQPValue::ShortShortUInt(number) => HeaderValue::Int(i64::from(*number)),
        AMQPValue::ShortInt(number) => HeaderValue::Int(i64::from(*number)),
        AMQPValue::ShortUInt(number) => HeaderValue::Int(i64::from(*number)),
        AMQPValue::LongInt(number) => HeaderValue::Int(i64::from(*number)),
        AMQPValue::LongUInt(number) => HeaderValue::Int(i64::from(*number)),
        AMQPValue::LongLongInt(number) => HeaderValue::Int(*number),
        AMQPValue::Float(number) => HeaderValue::Float(f64::from(*number)),
        AMQPValue::Double(number) => HeaderValue::Float(*number),
        AMQPValue::DecimalValue(decimal) => {
            HeaderValue::Float(f64::from(decimal.value) / 10_f64.powi(i32::from(decimal.scale)))
        }
        AMQPValue::ShortString(text) => HeaderValue::Text(text.as_str().to_owned()),
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => HeaderValue::Text(text.to_owned()),
            Err(_) => HeaderValue::Bytes(text.as_bytes().to_vec()),
        },
        AMQPValue::FieldArray(values) => HeaderValue::List(values.as_slice().iter().map(header_value).collect()),
        AMQPValue::Timestamp(seconds) => HeaderValue::Timestamp(*seconds),
        AMQPValue::FieldTable(table) => HeaderValue::Table(from_table(table)),
        AMQPValue::ByteArray(bytes) => HeaderValue::Bytes(bytes.as_slice().to_vec()),
        AMQPValue::Void => HeaderValue::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_survives_the_way_out_and_back() {
        let mut properties = Properties {
            message_id: Some("m".into()),
            kind: Some("t".into()),
            content_type: Some("application/json".into()),
            content_encoding: Some("identity".into()),
            correlation_id: Some("c".into()),
            reply_to: Some("r".into()),
            expiration: Some("1000".into()),
            timestamp: Some(1_700_000_000),
            app_id: Some("trunkline".into()),
            priority: Some(3),
            headers: Headers::default(),
        };
        properties.headers.set("text", "ä");
        properties.headers.set("int", HeaderValue::Int(-7));
        properties.headers.set("float", HeaderValue::Float(0.5));
        properties.headers.set("flag", HeaderValue::Bool(true));
        properties.headers.set("bytes", HeaderValue::Bytes(vec![0, 255]));
        properties.headers.set("list", HeaderValue::List(vec![HeaderValue::Null, HeaderValue::Timestamp(5)]));
        let wire = to_properties(&properties);
        assert_eq!(*wire.delivery_mode(), Some(2), "always persistent");
        let back = from_properties(&wire);
        for (key, header) in properties.headers.iter() {
            assert_eq!(back.headers.get(key), Some(header), "{key}");
        }
        assert_eq!(
            Properties { headers: Headers::default(), ..back },
            Properties { headers: Headers::default(), ..properties }
        );
    }
}
