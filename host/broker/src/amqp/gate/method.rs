//! Methods that a broker sends: their fields, and the repair of texts that are not UTF-8.
//!
//! RabbitMQ cuts a long reply text at its 252nd byte, even within a character, and passes exchanges and keys on as they were
//! published. lapin ends the connection for either.

use super::fields::{FieldReader, escaped, hexadecimal, is_text};
use super::loss_header::Losses;
use super::table::{self, Entries};
use crate::{BrokerServer, ServerVersion};
use trunkline_event::limits::SHORT_STRING_MAX_BYTES;

/// Class and method.
pub(super) type MethodId = (u16, u16);

pub(super) const CONNECTION_START: MethodId = (10, 10);
pub(super) const CHANNEL_OPEN_OK: MethodId = (20, 11);
const BASIC_RETURN: MethodId = (60, 50);
const BASIC_DELIVER: MethodId = (60, 60);
const BASIC_GET_OK: MethodId = (60, 71);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// A field of this number of bytes.
    Fixed(usize),
    Text,
    /// A text that names the origin of a message.
    Name(&'static str),
    LongText,
    Table,
}

/// The fields of a method that a broker may send; none for other methods.
const fn fields(method: MethodId) -> Option<&'static [Field]> {
    use Field::{Fixed, LongText, Name, Table, Text};
    Some(match method {
        CONNECTION_START => &[Fixed(2), Table, LongText, LongText],
        // secure, and channel.open-ok
        (10, 20) | CHANNEL_OPEN_OK => &[LongText],
        // tune: most channels, frame-max, heartbeat
        (10, 30) => &[Fixed(8)],
        // open-ok, blocked, consume-ok, cancel-ok, get-empty
        (10, 41 | 60) | (60, 21 | 31 | 72) => &[Text],
        // close: code, text, method
        (10, 50) | (20, 40) => &[Fixed(2), Text, Fixed(4)],
        // close-ok, unblocked, update-secret-ok; declare-ok and bind-ok and their opposites; select-ok, commit-ok, ...
        (10, 51 | 61 | 71) | (20, 41) | (40, 11 | 21 | 31 | 51) | (50, 21 | 51) => &[],
        (60, 11 | 111) | (85, 11) | (90, 11 | 21 | 31) => &[],
        // flow, flow-ok
        (20, 20 | 21) => &[Fixed(1)],
        // queue.declare-ok
        (50, 11) => &[Text, Fixed(8)],
        // purge-ok, delete-ok
        (50, 31 | 41) => &[Fixed(4)],
        // basic.cancel
        (60, 30) => &[Text, Fixed(1)],
        BASIC_RETURN => &[Fixed(2), Text, Name("exchange"), Name("routing-key")],
        BASIC_DELIVER => &[Text, Fixed(9), Name("exchange"), Name("routing-key")],
        BASIC_GET_OK => &[Fixed(9), Name("exchange"), Name("routing-key"), Fixed(4)],
        // ack, nack
        (60, 80 | 120) => &[Fixed(9)],
        _ => return None,
    })
}

/// Product and version in a `connection.start`, if it has both.
pub(super) fn server(payload: &[u8]) -> Option<BrokerServer> {
    let mut fields = FieldReader::new(payload);
    fields.take(6)?;
    let table = fields.long_string()?;
    let text = |name: &str| {
        let mut entries = Entries::new(table);
        while let Some(Ok(entry)) = entries.next() {
            if entry.name == name.as_bytes() {
                return entry.text().map(|text| escaped(text, SHORT_STRING_MAX_BYTES));
            }
        }
        None
    };
    Some(BrokerServer { product: text("product")?, version: ServerVersion::new(&text("version")?) })
}

/// The result of checking a method.
#[derive(Debug)]
pub(super) enum MethodCheck {
    /// The method passes unchanged.
    Sound,
    /// The method passes in this form. The losses are for the loss header of its content header, if it has one.
    Repaired(Vec<u8>, Option<Losses>),
    /// The method is not part of AMQP 0-9-1, or its fields do not fit.
    Broken,
}

/// The method of a payload.
pub(super) fn method(payload: &[u8]) -> Option<MethodId> {
    let mut fields = FieldReader::new(payload);
    Some((fields.short()?, fields.short()?))
}

/// Checks the payload of a method frame.
pub(super) fn check(payload: &[u8]) -> MethodCheck {
    let layout = method(payload).and_then(fields);
    let Some(layout) = layout else { return MethodCheck::Broken };
    let mut rest = FieldReader::new(&payload[4..]);
    let mut is_sound = true;
    for field in layout {
        let sound = match field {
            Field::Fixed(bytes) => rest.take(*bytes).map(|_| true),
            Field::Text | Field::Name(_) => rest.short_string().map(is_text),
            Field::LongText => rest.long_string().map(|_| true),
            // Only the broker itself writes tables into methods.
            Field::Table => rest.long_string().filter(|table| table::is_sound(table)).map(|_| true),
        };
        match sound {
            Some(sound) => is_sound &= sound,
            None => return MethodCheck::Broken,
        }
    }
    match (rest.is_empty(), is_sound) {
        (false, _) => MethodCheck::Broken,
        (true, true) => MethodCheck::Sound,
        (true, false) => repair(payload, layout).unwrap_or(MethodCheck::Broken),
    }
}

/// Rewrites the method, with escapes in texts that are not UTF-8.
fn repair(payload: &[u8], layout: &[Field]) -> Option<MethodCheck> {
    let mut rest = FieldReader::new(payload);
    let mut repaired = rest.take(4)?.to_vec();
    let mut lost = Losses::default();
    for field in layout {
        let before = rest;
        let text = match field {
            Field::Fixed(bytes) => rest.take(*bytes).map(|_| None)?,
            Field::LongText | Field::Table => rest.long_string().map(|_| None)?,
            Field::Text | Field::Name(_) => rest.short_string().filter(|text| !is_text(text)),
        };
        let Some(text) = text else {
            repaired.extend(&before.rest()[..before.rest().len() - rest.rest().len()]);
            continue;
        };
        let escaped = escaped(text, SHORT_STRING_MAX_BYTES);
        repaired.push(u8::try_from(escaped.len()).ok()?);
        repaired.extend(escaped.as_bytes());
        if let Field::Name(name) = field {
            lost.complain(format_args!("the {name} is not UTF-8 ({} bytes: {})", text.len(), hexadecimal(text)));
            lost.keep(name, text);
        }
    }
    let has_content = layout.iter().any(|field| matches!(field, Field::Name(_)));
    Some(MethodCheck::Repaired(repaired, has_content.then_some(lost).filter(|lost| !lost.kept.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload((class, method): MethodId, fields: &[&[u8]]) -> Vec<u8> {
        [&class.to_be_bytes(), &method.to_be_bytes(), &fields.concat()[..]].concat()
    }

    fn text(bytes: &[u8]) -> Vec<u8> {
        [&[u8::try_from(bytes.len()).expect("short")], bytes].concat()
    }

    #[test]
    fn a_delivery_with_a_key_of_raw_bytes_is_escaped_and_remembered() {
        let (tag, rest) = (text(b"ctag"), [0_u8; 9]);
        let good = payload(BASIC_DELIVER, &[&tag, &rest, &text("käy".as_bytes()), &text(b"a.b")]);
        assert!(matches!(check(&good), MethodCheck::Sound));
        let bad = payload(BASIC_DELIVER, &[&tag, &rest, &text(b"events"), &text(b"a.\xff")]);
        let MethodCheck::Repaired(repaired, Some(lost)) = check(&bad) else { panic!("{:?}", check(&bad)) };
        assert_eq!(repaired, payload(BASIC_DELIVER, &[&tag, &rest, &text(b"events"), &text(br"a.\xff")]));
        assert_eq!(lost.kept, [("routing-key", b"a.\xff".to_vec())]);
        let text = lost.into_text();
        assert_eq!(text, "the routing-key is not UTF-8 (3 bytes: 612eff)");
        let long = payload(BASIC_DELIVER, &[&tag, &rest, &text_of(0xff, 255), &text_of(0xfe, 255)]);
        let MethodCheck::Repaired(repaired, Some(lost)) = check(&long) else { panic!("{:?}", check(&long)) };
        assert!(matches!(check(&repaired), MethodCheck::Sound), "what was repaired is sound");
        assert_eq!(lost.kept.len(), 2);
    }

    fn text_of(byte: u8, count: usize) -> Vec<u8> {
        text(&vec![byte; count])
    }

    #[test]
    fn a_reply_text_cut_within_a_character_ends_no_connection() {
        let cut = text(b"NOT_FOUND - no exchange '\xc3...");
        let close = payload((20, 40), &[&404_u16.to_be_bytes(), &cut, &[0, 60, 0, 40]]);
        let MethodCheck::Repaired(repaired, None) = check(&close) else { panic!("{:?}", check(&close)) };
        assert!(matches!(check(&repaired), MethodCheck::Sound));
        assert!(String::from_utf8_lossy(&repaired).contains(r"exchange '\xc3..."));
    }

    #[test]
    fn what_does_not_fit_is_broken() {
        let ack = payload((60, 80), &[&[0; 9]]);
        assert!(matches!(check(&ack), MethodCheck::Sound));
        for broken in [
            ack[..12].to_vec(),
            [&ack[..], &[0]].concat(),
            payload((60, 40), &[]),
            payload((11, 11), &[]),
            vec![0, 60, 0],
            payload(BASIC_DELIVER, &[&[200], b"short"]),
        ] {
            assert!(matches!(check(&broken), MethodCheck::Broken), "{broken:?}");
        }
    }

    #[test]
    fn the_broker_says_which_it_is() {
        let entry = |name: &[u8], value: &[u8]| {
            let length = u32::try_from(value.len()).expect("short").to_be_bytes();
            [&text(name)[..], b"S", &length, value].concat()
        };
        let start = |table: &[u8]| {
            let length = u32::try_from(table.len()).expect("short").to_be_bytes();
            payload(CONNECTION_START, &[&[0, 9], &length, table, &[0, 0, 0, 0], &[0, 0, 0, 0]])
        };
        let table = [entry(b"platform", b"Erlang"), entry(b"version", b"4.0.5"), entry(b"product", b"RabbitMQ")];
        let start = [start(&table.concat()), start(&table[..2].concat())];
        assert!(start.iter().all(|start| matches!(check(start), MethodCheck::Sound)));
        let found = server(&start[0]).expect("both are there");
        assert_eq!((found.product.as_str(), found.version.as_str()), ("RabbitMQ", "4.0.5"));
        assert_eq!(server(&start[1]), None);
    }
}
