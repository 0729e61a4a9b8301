//! Attributes from the headers of other programs.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::header;
use trunkline_event::{HeaderValue, Headers, timestamp_since_epoch};

/// The attributes of an event, from the headers of a message of another program. The function omits headers that have no text. On
/// a dead letter, three headers of the daemon are attributes too. A consumer of the dead-letter queue therefore gets the reason,
/// the error and the number of attempts.
pub(super) fn foreign_attributes(headers: &Headers) -> Vec<(String, String)> {
    let is_dead = headers.get(header::REASON).is_some();
    let tells_why = |name: &str| is_dead && [header::REASON, header::ERROR, header::ATTEMPT].contains(&name);
    let is_ours = |name: &str| {
        (name.starts_with("trunkline-") && !tells_why(name))
            || name.starts_with("x-")
            || name.starts_with("cloudEvents")
            || name == header::TRACEPARENT
    };
    let foreign = headers.iter().filter(|(name, _)| !is_ours(name));
    foreign.filter_map(|(name, value)| Some((name.to_owned(), text(value)?))).collect()
}

/// The attributes of an event with an envelope: the attributes of the envelope, and the headers with other names. The envelope
/// describes the event, so its attribute counts before a header with the same name.
pub(super) fn with_envelope(
    headers: Vec<(String, String)>,
    envelope: impl IntoIterator<Item = (String, String)>,
) -> Vec<(String, String)> {
    let mut attributes: BTreeMap<String, String> = headers.into_iter().collect();
    attributes.extend(envelope);
    attributes.into_iter().collect()
}

/// The text of a header. For the types of CloudEvents 1.0, the text is the canonical text of CloudEvents 1.0. A header without a
/// value, a list and a table have no text.
pub(super) fn text(value: &HeaderValue) -> Option<String> {
    Some(match value {
        HeaderValue::Text(text) => text.clone(),
        HeaderValue::Bool(flag) => flag.to_string(),
        HeaderValue::Int(number) => number.to_string(),
        HeaderValue::Float(number) => number.to_string(),
        HeaderValue::Decimal { scale, unscaled } => decimal(*scale, *unscaled),
        HeaderValue::Timestamp(timestamp) => moment(*timestamp).unwrap_or_else(|| timestamp.to_string()),
        HeaderValue::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => BASE64_STANDARD.encode(bytes),
        },
        HeaderValue::Null | HeaderValue::List(_) | HeaderValue::Table(_) => return None,
    })
}

/// The time in a header. AMQP 1.0 counts milliseconds. The CloudEvents SDK for Python writes the milliseconds as an integer. The
/// timestamp of AMQP 0-9-1 counts seconds.
pub(super) fn time(value: &HeaderValue) -> Option<String> {
    let text = text(value)?;
    let Ok(ms) = text.parse::<i64>() else { return Some(text) };
    Some(jiff::Timestamp::from_millisecond(ms).map_or(text, |time| time.to_string()))
}

/// The time of an AMQP timestamp, in RFC 3339. The result is `None` after the year 9999.
pub(super) fn moment(timestamp: u64) -> Option<String> {
    let since_epoch = jiff::SignedDuration::try_from(timestamp_since_epoch(timestamp)).ok()?;
    Some(jiff::Timestamp::from_duration(since_epoch).ok()?.to_string())
}

/// The text of a decimal number, with the number of decimal places in `scale`.
fn decimal(scale: u8, unscaled: i32) -> String {
    let places = usize::from(scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_type_has_its_text_or_none() {
        let bytes = |bytes: &[u8]| HeaderValue::Bytes(bytes.to_vec());
        let decimal = |scale, unscaled| HeaderValue::Decimal { scale, unscaled };
        let table: [(HeaderValue, Option<&str>); 23] = [
            (HeaderValue::from("ä"), Some("ä")),
            (HeaderValue::from(""), Some("")),
            (HeaderValue::Bool(true), Some("true")),
            (HeaderValue::Bool(false), Some("false")),
            (HeaderValue::Int(i64::MIN), Some("-9223372036854775808")),
            (HeaderValue::Int(0), Some("0")),
            (HeaderValue::Float(0.1), Some("0.1")),
            (HeaderValue::Float(3.0), Some("3")),
            (HeaderValue::Float(1e21), Some("1000000000000000000000")),
            (HeaderValue::Float(f64::NAN), Some("NaN")),
            (HeaderValue::Float(f64::NEG_INFINITY), Some("-inf")),
            (decimal(2, 150), Some("1.50")),
            (decimal(2, -5), Some("-0.05")),
            (decimal(0, i32::MIN), Some("-2147483648")),
            (decimal(3, 0), Some("0.000")),
            (HeaderValue::Timestamp(1_700_000_000), Some("2023-11-14T22:13:20Z")),
            (HeaderValue::Timestamp(1_700_000_000_500), Some("2023-11-14T22:13:20.5Z")),
            (HeaderValue::Timestamp(u64::MAX), Some("18446744073709551615")),
            (bytes(b"text"), Some("text")),
            (bytes(&[0xff, 0]), Some("/wA=")),
            (HeaderValue::Null, None),
            (HeaderValue::List(vec!["a".into()]), None),
            (HeaderValue::Table(Headers::default()), None),
        ];
        for (value, expected) in table {
            assert_eq!(text(&value).as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn the_timestamp_of_a_message_may_count_milliseconds() {
        for (timestamp, expected) in [
            (0, Some("1970-01-01T00:00:00Z")),
            (1_700_000_000, Some("2023-11-14T22:13:20Z")),
            (253_402_207_200, Some("9999-12-30T22:00:00Z")),
            (1_700_000_000_500, Some("2023-11-14T22:13:20.5Z")),
            (u64::MAX, None),
        ] {
            assert_eq!(moment(timestamp).as_deref(), expected, "{timestamp}");
        }
    }

    #[test]
    fn a_time_may_count_milliseconds() {
        for (value, expected) in [
            (HeaderValue::from("2026-11-21T10:00:00+01:00"), Some("2026-11-21T10:00:00+01:00")),
            (HeaderValue::Timestamp(1_700_000_000), Some("2023-11-14T22:13:20Z")),
            (HeaderValue::Timestamp(1_700_000_000_500), Some("2023-11-14T22:13:20.5Z")),
            (HeaderValue::Int(1_700_000_000_500), Some("2023-11-14T22:13:20.5Z")),
            (HeaderValue::Int(i64::MAX), Some("9223372036854775807")),
            (HeaderValue::Null, None),
        ] {
            assert_eq!(time(&value).as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn the_longest_decimal_has_every_place() {
        let text = decimal(u8::MAX, 1);
        assert_eq!((text.len(), &text[..4]), (257, "0.00"));
    }
}
