//! Conversion between messages and lapin's types.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable, LongString, ShortString};

use trunkline_event::{ExchangeName, HeaderValue, Headers, Message, Properties, RoutingKey};

/// Persistent: the broker writes the message to disk.
const DELIVERY_MODE: u8 = 2;

/// A text of at most 255 bytes as a `shortstr`. Every caller has checked the length. A longer text becomes the empty name,
/// which the broker refuses, because lapin's own conversion would panic.
pub(crate) fn short_string(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}

/// The properties of a message, always persistent.
pub(crate) fn to_wire_properties(properties: &Properties) -> BasicProperties {
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
            wire = set(wire, short_string(text));
        }
    }
    if let Some(seconds) = properties.timestamp {
        wire = wire.with_timestamp(seconds);
    }
    if let Some(priority) = properties.priority {
        wire = wire.with_priority(priority);
    }
    if !properties.headers.is_empty() {
        wire = wire.with_headers(headers_to_table(&properties.headers));
    }
    wire
}

/// Headers as a field table.
pub(crate) fn headers_to_table(headers: &Headers) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, header) in headers.iter() {
        table.insert(short_string(key), to_field_value(header));
    }
    table
}

/// A header's value as a field value.
pub(crate) fn to_field_value(header: &HeaderValue) -> AMQPValue {
    match header {
        HeaderValue::Null => AMQPValue::Void,
        HeaderValue::Bool(flag) => AMQPValue::Boolean(*flag),
        HeaderValue::Int(number) => AMQPValue::LongLongInt(*number),
        HeaderValue::Float(number) => AMQPValue::Double(*number),
        HeaderValue::Text(text) => AMQPValue::LongString(LongString::from(text.as_bytes().to_vec())),
        HeaderValue::Bytes(bytes) => AMQPValue::ByteArray(ByteArray::from(bytes.clone())),
        HeaderValue::Timestamp(seconds) => AMQPValue::Timestamp(*seconds),
        HeaderValue::List(values) => {
            AMQPValue::FieldArray(FieldArray::from(values.iter().map(to_field_value).collect::<Vec<_>>()))
        }
        HeaderValue::Table(table) => AMQPValue::FieldTable(headers_to_table(table)),
        HeaderValue::Decimal { scale, unscaled } => {
            AMQPValue::DecimalValue(DecimalValue { scale: *scale, value: unscaled.cast_unsigned() })
        }
    }
}

/// A message as it arrived.
pub(crate) fn from_wire(exchange: &str, routing_key: &str, properties: &BasicProperties, body: Vec<u8>) -> Message {
    Message {
        exchange: exchange_name(exchange),
        routing_key: routing_key_of(routing_key),
        properties: from_properties(properties),
        body: Bytes::from(body),
    }
}

/// The name of an exchange that the broker sent. A name with control characters, which AMQP allows, becomes the nameless
/// exchange.
pub(crate) fn exchange_name(exchange: &str) -> ExchangeName {
    ExchangeName::new(exchange).unwrap_or_else(|_| ExchangeName::default_exchange())
}

/// A routing key that the broker sent, without control characters, which AMQP allows.
pub(crate) fn routing_key_of(key: &str) -> RoutingKey {
    RoutingKey::new(key).unwrap_or_else(|_| {
        let kept = key.chars().filter(|character| !character.is_ascii_control()).collect::<String>();
        RoutingKey::new(kept).unwrap_or_else(|_| RoutingKey::new("").expect("an empty key is valid"))
    })
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
        AMQPValue::Float(number) => HeaderValue::Float(double(*number)),
        AMQPValue::Double(number) => HeaderValue::Float(*number),
        // The number is signed according to the text of AMQP 0-9-1. Clients also write signed numbers.
        AMQPValue::DecimalValue(decimal) => {
            HeaderValue::Decimal { scale: decimal.scale, unscaled: decimal.value.cast_signed() }
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

/// The double that has the shortest decimal digits of a float: 0.1 stays 0.1. Converting the double back gives the original float.
fn double(float: f32) -> f64 {
    if float.fract() == 0.0 { f64::from(float) } else { float.to_string().parse().unwrap_or(f64::from(float)) }
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
        properties.headers.set("decimal", HeaderValue::Decimal { scale: 2, unscaled: -150 });
        properties.headers.set("list", HeaderValue::List(vec![HeaderValue::Null, HeaderValue::Timestamp(5)]));
        let wire = to_wire_properties(&properties);
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

    #[test]
    fn every_field_type_has_its_header_value() {
        let decimal = |scale, value| AMQPValue::DecimalValue(DecimalValue { scale, value });
        let text = |text: &[u8]| AMQPValue::LongString(LongString::from(text.to_vec()));
        let table: [(AMQPValue, HeaderValue); 20] = [
            (AMQPValue::Boolean(false), HeaderValue::Bool(false)),
            (AMQPValue::ShortShortInt(i8::MIN), HeaderValue::Int(-128)),
            (AMQPValue::ShortShortUInt(u8::MAX), HeaderValue::Int(255)),
            (AMQPValue::ShortInt(i16::MIN), HeaderValue::Int(-32_768)),
            (AMQPValue::ShortUInt(u16::MAX), HeaderValue::Int(65_535)),
            (AMQPValue::LongInt(i32::MIN), HeaderValue::Int(-2_147_483_648)),
            (AMQPValue::LongUInt(u32::MAX), HeaderValue::Int(4_294_967_295)),
            (AMQPValue::LongLongInt(i64::MIN), HeaderValue::Int(i64::MIN)),
            (AMQPValue::Float(0.1), HeaderValue::Float(0.1)),
            (AMQPValue::Float(50_331_648.0), HeaderValue::Float(50_331_648.0)),
            (AMQPValue::Double(0.1), HeaderValue::Float(0.1)),
            (decimal(2, 314), HeaderValue::Decimal { scale: 2, unscaled: 314 }),
            (decimal(1, u32::MAX), HeaderValue::Decimal { scale: 1, unscaled: -1 }),
            (AMQPValue::ShortString(short_string("s")), HeaderValue::Text("s".into())),
            (text("ä".as_bytes()), HeaderValue::Text("ä".into())),
            (text(&[0xff]), HeaderValue::Bytes(vec![0xff])),
            (AMQPValue::Timestamp(5), HeaderValue::Timestamp(5)),
            (AMQPValue::ByteArray(ByteArray::from(vec![1_u8])), HeaderValue::Bytes(vec![1])),
            (AMQPValue::FieldTable(FieldTable::default()), HeaderValue::Table(Headers::default())),
            (AMQPValue::Void, HeaderValue::Null),
        ];
        for (wire, header) in table {
            assert_eq!(header_value(&wire), header, "{wire:?}");
        }
        assert!(matches!(header_value(&AMQPValue::Float(f32::NAN)), HeaderValue::Float(number) if number.is_nan()));
    }
}
