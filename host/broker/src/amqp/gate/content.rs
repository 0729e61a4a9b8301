//! Content headers: the properties of a message that is delivered or returned.
//!
//! A content header that lapin takes passes unchanged. The readable parts of any other content header are rewritten, and the
//! loss header says what is missing. Only a payload without the size of the body cannot be rewritten.

use super::fields::{FieldReader, escaped, hexadecimal, is_text};
use super::loss_header::{LossHeader, Losses, entry_head};
use super::table::{self, DEPTH_MAX, Entries, Flaw, VALUES_MAX};

/// Class, weight, and size of the body.
const BEFORE_FLAGS: usize = 12;
/// Flags that AMQP 0-9-1 does not define. The last one would announce more flags.
const UNDEFINED: u16 = 0b11;
const CONTINUED: u16 = 0b1;
/// The longest name of a header in a text.
const NAME_SHOWN_MAX: usize = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PropertyKind {
    Text,
    Table,
    Octet,
    LongLong,
}

const HEADERS: usize = 2;
/// Properties in the order of their flags, from the highest bit.
const PROPERTIES: [(&str, PropertyKind); 14] = [
    ("content-type", PropertyKind::Text),
    ("content-encoding", PropertyKind::Text),
    ("headers", PropertyKind::Table),
    ("delivery-mode", PropertyKind::Octet),
    ("priority", PropertyKind::Octet),
    ("correlation-id", PropertyKind::Text),
    ("reply-to", PropertyKind::Text),
    ("expiration", PropertyKind::Text),
    ("message-id", PropertyKind::Text),
    ("timestamp", PropertyKind::LongLong),
    ("type", PropertyKind::Text),
    ("user-id", PropertyKind::Text),
    ("app-id", PropertyKind::Text),
    ("cluster-id", PropertyKind::Text),
];

const fn flag(property: usize) -> u16 {
    0x8000 >> property
}

/// Whether lapin takes the payload of a content header.
pub(super) fn is_sound(payload: &[u8]) -> bool {
    sound(payload).is_some()
}

fn sound(payload: &[u8]) -> Option<()> {
    let mut fields = FieldReader::new(payload);
    fields.take(BEFORE_FLAGS)?;
    let mut flags = fields.short()?;
    if flags & UNDEFINED != 0 {
        return None;
    }
    while flags != 0 {
        let property = flags.leading_zeros() as usize;
        flags &= !flag(property);
        let is_sound = match PROPERTIES[property].1 {
            PropertyKind::Text => is_text(fields.short_string()?),
            PropertyKind::Table => table::is_sound(fields.long_string()?),
            PropertyKind::Octet => fields.octet().is_some(),
            PropertyKind::LongLong => fields.take(8).is_some(),
        };
        is_sound.then_some(())?;
    }
    fields.is_empty().then_some(())
}

/// A payload that lapin does not take, or whose method was rewritten with losses.
pub(super) struct DamagedContent<'a> {
    /// The payload, or its beginning.
    pub(super) payload: &'a [u8],
    /// The length of the payload according to the frame.
    pub(super) bytes: usize,
    /// The largest payload in bytes.
    pub(super) room: usize,
}

/// The readable parts of a payload.
#[derive(Default)]
struct ReadableParts<'a> {
    /// Properties other than the headers, as they stand on the wire. A missing property is empty.
    properties: [&'a [u8]; PROPERTIES.len()],
    /// Headers, as they stand on the wire.
    entries: Vec<&'a [u8]>,
    /// Headers that lapin does not take.
    refused: Vec<u8>,
}

/// Rewrites a payload in a form that lapin takes, with the loss header; none when the size of the body is missing.
pub(super) fn rewrite(damaged: &DamagedContent<'_>, mut lost: Losses, loss_header: &LossHeader) -> Option<Vec<u8>> {
    let DamagedContent { payload, bytes, room } = *damaged;
    let mut fields = FieldReader::new(payload);
    let before_flags = fields.take(BEFORE_FLAGS)?;
    if bytes > room {
        lost.complain(format_args!(
            "the properties and headers have {bytes} bytes, but a frame of this connection has room for only {room} bytes"
        ));
    }
    let flags = fields.short().unwrap_or_else(|| {
        lost.complain("the property flags are missing");
        0
    });
    if flags & UNDEFINED != 0 {
        lost.complain(format_args!("the property flags {flags:#06x} have bits that AMQP 0-9-1 does not define"));
    }
    let mut further = flags;
    while further & CONTINUED != 0 {
        further = fields.short().unwrap_or_default();
    }
    let mut parts = ReadableParts::default();
    parts.read(flags, &mut fields, &mut lost);
    if !fields.is_empty() {
        let rest = fields.rest();
        lost.complain(format_args!("{} bytes cannot be read as properties", rest.len()));
        lost.keep("properties", rest);
    }
    Some(parts.write(before_flags, room, lost, loss_header))
}

impl<'a> ReadableParts<'a> {
    /// Reads properties up to the first whose end is missing.
    fn read(&mut self, flags: u16, fields: &mut FieldReader<'a>, lost: &mut Losses) {
        let is_there = |property: &usize| flags & flag(*property) != 0;
        for property in (0..PROPERTIES.len()).filter(is_there) {
            let (name, kind) = PROPERTIES[property];
            let before = *fields;
            let is_whole = match kind {
                PropertyKind::Table => self.read_headers(fields, lost),
                PropertyKind::Text => fields.short_string().is_some(),
                PropertyKind::Octet => fields.octet().is_some(),
                PropertyKind::LongLong => fields.take(8).is_some(),
            };
            if !is_whole {
                lost.complain(format_args!("the properties end within {name}"));
                return;
            }
            let raw = &before.rest()[..before.rest().len() - fields.rest().len()];
            if kind == PropertyKind::Text && !is_text(&raw[1..]) {
                let text = &raw[1..];
                let shown = hexadecimal(text);
                lost.complain(format_args!("{name} is not UTF-8 ({} bytes: {shown})", text.len()));
                lost.keep(name, text);
            } else if kind != PropertyKind::Table {
                self.properties[property] = raw;
            }
        }
    }

    /// Reads the headers as far as possible. Returns whether they end where their length says.
    fn read_headers(&mut self, fields: &mut FieldReader<'a>, lost: &mut Losses) -> bool {
        let (table, is_whole) = match fields.long_string() {
            Some(table) => (table, true),
            None => {
                let _length = fields.long();
                let rest = fields.rest();
                (fields.take(rest.len()).unwrap_or_default(), false)
            }
        };
        let mut entries = Entries::new(table);
        loop {
            let before = entries.rest();
            match entries.next() {
                None => return is_whole,
                Some(Ok(entry)) => match entry.flaw {
                    None => self.entries.push(entry.raw),
                    Some(flaw) => {
                        lost.complain(about(entry.name, flaw));
                        self.refused.extend(entry.raw);
                    }
                },
                Some(Err(flaw)) => {
                    // The end of a cut table needs no complaint of its own.
                    if is_whole || flaw != Flaw::Length {
                        lost.complain(about(FieldReader::new(before).short_string().unwrap_or_default(), flaw));
                    }
                    self.refused.extend(before);
                    return is_whole;
                }
            }
        }
    }

    /// Writes the payload. Parts that do not fit are left out, refused headers first.
    fn write(mut self, before_flags: &[u8], room: usize, mut lost: Losses, loss_header: &LossHeader) -> Vec<u8> {
        let properties = self.properties.iter().map(|raw| raw.len()).sum::<usize>();
        let fixed = BEFORE_FLAGS + size_of::<u16>() + size_of::<u32>() + properties + loss_header.bytes_max();
        let mut left = room.saturating_sub(fixed);
        let mut table = Vec::new();
        for entry in std::mem::take(&mut self.entries) {
            if entry.len() <= left {
                left -= entry.len();
                table.extend(entry);
            } else {
                self.refused.extend(entry);
            }
        }
        let taken_out = std::mem::take(&mut lost.kept);
        let headers = Some(("headers", self.refused)).filter(|(_, refused)| !refused.is_empty());
        let (mut kept, mut cut) = (Vec::new(), 0);
        for (name, bytes) in taken_out.iter().chain(headers.as_ref()) {
            let fits = bytes.len().min(left.saturating_sub(entry_head(name)));
            cut += bytes.len() - fits;
            if fits > 0 {
                left -= entry_head(name) + fits;
                kept.push((*name, &bytes[..fits]));
            }
        }
        let mut text = lost.into_text();
        if cut > 0 {
            text.push_str("; some bytes of the original are left out");
        }
        loss_header.write(&mut table, &text, &kept);
        let mut payload = Vec::with_capacity(room);
        payload.extend(before_flags);
        let is_there = |property: &usize| *property == HEADERS || !self.properties[*property].is_empty();
        let flags = (0..PROPERTIES.len()).filter(is_there).map(flag).fold(0, |flags, flag| flags | flag);
        payload.extend(flags.to_be_bytes());
        for (property, raw) in self.properties.iter().enumerate() {
            if property == HEADERS {
                payload.extend(u32::try_from(table.len()).unwrap_or_default().to_be_bytes());
                payload.extend(&table);
            }
            payload.extend(*raw);
        }
        payload
    }
}

/// The flaw of a header as part of a sentence.
fn about(name: &[u8], flaw: Flaw) -> String {
    let shown = escaped(name, NAME_SHOWN_MAX);
    match flaw {
        Flaw::Name if is_text(name) => format!("a name within the header `{shown}` is not UTF-8"),
        Flaw::Name => format!("the name of the header `{shown}` is not UTF-8"),
        Flaw::Depth => format!("the header `{shown}` is nested more than {DEPTH_MAX} levels deep"),
        Flaw::Values => format!("the headers up to `{shown}` have more than {VALUES_MAX} values"),
        Flaw::Type(kind) => format!("the header `{shown}` has a value of the unknown type {kind:#04x}"),
        Flaw::Length => format!("the header `{shown}` has a length that is larger than the rest of the headers"),
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::AMQPContentHeader;
    use amq_protocol::frame::parsing::parse_content_header;
    use amq_protocol::types::{AMQPValue, FieldTable};

    use super::*;

    const LOSS_HEADER: &str = "trunkline-unreadable-test";

    fn short(text: &[u8]) -> Vec<u8> {
        [&[u8::try_from(text.len()).expect("short")], text].concat()
    }

    fn long(inside: &[u8]) -> Vec<u8> {
        [&u32::try_from(inside.len()).expect("short").to_be_bytes(), inside].concat()
    }

    /// A body of 7 bytes, and properties as they stand on the wire.
    fn payload(flags: u16, properties: &[&[u8]]) -> Vec<u8> {
        [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7][..], &flags.to_be_bytes(), &properties.concat()].concat()
    }

    fn rewritten(payload: &[u8], room: usize) -> (AMQPContentHeader, String, FieldTable) {
        let damaged = DamagedContent { payload, bytes: payload.len(), room };
        let rewritten =
            rewrite(&damaged, Losses::default(), &LossHeader::new(LOSS_HEADER)).expect("the size of the body is there");
        assert!(is_sound(&rewritten) && rewritten.len() <= room, "{} bytes for {room}", rewritten.len());
        let (rest, header) = parse_content_header(&rewritten[..]).expect("lapin takes it");
        assert!(rest.is_empty() && header.class_id == 60 && header.body_size == 7);
        let headers = header.properties.headers().clone().expect("the marker");
        let Some(AMQPValue::FieldTable(lost)) = headers.inner().get(LOSS_HEADER) else { panic!("{headers:?}") };
        let Some(AMQPValue::LongString(text)) = lost.inner().get("text") else { panic!("{lost:?}") };
        (header, text.to_string(), lost.clone())
    }

    fn kept(lost: &FieldTable, name: &str) -> Vec<u8> {
        let Some(AMQPValue::ByteArray(bytes)) = lost.inner().get(name) else { panic!("{name}: {lost:?}") };
        bytes.as_slice().to_vec()
    }

    #[test]
    fn a_property_that_is_no_text_is_kept_as_bytes_beside_all_others() {
        let id = 0x6fa4_59ea_ee8a_3ca4_894e_db77_e160_355e_u128.to_be_bytes();
        let good = payload(flag(0) | flag(8), &[&short(b"text/plain"), &short(b"id")]);
        assert!(is_sound(&good));
        for (property, (name, _)) in PROPERTIES.iter().enumerate().filter(|(_, (_, kind))| *kind == PropertyKind::Text)
        {
            let others = flag(3) | flag(9);
            let (before, after): (&[u8], &[u8]) = if property > 9 { (&[0; 8], &[]) } else { (&[], &[0; 8]) };
            let mode: (&[u8], &[u8]) = if property > 3 { (&[2], &[]) } else { (&[], &[2]) };
            let bad = payload(flag(property) | others, &[mode.0, before, &short(&id), mode.1, after]);
            assert!(!is_sound(&bad), "{name}");
            let (header, text, lost) = rewritten(&bad, 4088);
            assert_eq!(text, format!("{name} is not UTF-8 (16 bytes: 6fa459eaee8a3ca4894edb77e160355e)"));
            assert_eq!(kept(&lost, name), id);
            assert_eq!((*header.properties.delivery_mode(), *header.properties.timestamp()), (Some(2), Some(0)));
        }
    }

    #[test]
    fn good_headers_stay_and_bad_ones_are_kept_as_they_came() {
        let good = [&short(b"region")[..], b"S", &long(b"eu")].concat();
        let bad_name = [&short(b"caf\xe9")[..], b"t", &[1]].concat();
        let mut deep = long(&[]);
        for _ in 0..3000 {
            deep = long(&[b"A", &deep[..]].concat());
        }
        let deep = [&short(b"deep")[..], b"A", &deep].concat();
        let cut = [&short(b"cut")[..], b"S", &[0, 0, 1, 0]].concat();
        let table = [&good[..], &bad_name, &deep, &cut].concat();
        let (header, text, lost) =
            rewritten(&payload(flag(HEADERS) | flag(8), &[&long(&table), &short(b"id")]), 131_064);
        assert_eq!(
            text,
            r"the name of the header `caf\xe9` is not UTF-8; the header `deep` is nested more than 32 levels deep; the header `cut` has a length that is larger than the rest of the headers"
        );
        assert_eq!(kept(&lost, "headers"), [bad_name, deep, cut].concat(), "byte for byte");
        let headers = header.properties.headers().as_ref().expect("headers").inner();
        assert_eq!((headers.len(), headers.get("region")), (2, Some(&AMQPValue::LongString("eu".into()))));
        assert_eq!(header.properties.message_id().as_ref().map(|id| id.as_str()), Some("id"));
    }

    #[test]
    fn wrong_flags_and_ends_are_reported() {
        let undefined = payload(flag(8) | 0b10, &[&short(b"id")]);
        assert!(rewritten(&undefined, 4088).1.starts_with("the property flags 0x0082 have bits"));
        let continued = payload(flag(8) | 0b1, &[&[0x80, 0], &short(b"id"), b"more"]);
        let (header, text, lost) = rewritten(&continued, 4088);
        assert!(text.ends_with("4 bytes cannot be read as properties"), "{text}");
        assert_eq!((kept(&lost, "properties"), header.properties.message_id().is_some()), (b"more".to_vec(), true));
        let short_of = payload(flag(0) | flag(8), &[&short(b"text/plain"), &[9, b'i']]);
        let (header, text, lost) = rewritten(&short_of, 4088);
        assert!(text.starts_with("the properties end within message-id; 2 bytes"), "{text}");
        assert_eq!(kept(&lost, "properties"), [9, b'i']);
        assert_eq!(header.properties.content_type().as_ref().map(|text| text.as_str()), Some("text/plain"));
        assert!(rewritten(&payload(0, &[])[..12], 4088).1.contains("the property flags are missing"));
        let loss_header = LossHeader::new(LOSS_HEADER);
        let headless = DamagedContent { payload: &[0, 60, 0, 0, 0, 0, 0], bytes: 7, room: 4088 };
        assert!(rewrite(&headless, Losses::default(), &loss_header).is_none(), "the size of the body is unknown");
    }

    #[test]
    fn what_is_too_large_for_a_frame_is_cut_and_fits_the_smallest() {
        let entry = |number: usize, bytes: usize| {
            let name = short(format!("h{number:05}").as_bytes());
            [&name[..], b"S", &long(&vec![b'x'; bytes])].concat()
        };
        let many: Vec<u8> = (0..1000).flat_map(|number| entry(number, 100)).collect();
        let texts: Vec<u8> = (0..8).flat_map(|_| short(&[b'x'; 255])).collect();
        let flags = (0..PROPERTIES.len()).map(flag).fold(0, |flags, flag| flags | flag);
        let marks = [&short(&[0xff; 255])[..], &short(&[0xff; 255])].concat();
        let all = payload(flags, &[&marks, &long(&many), &[2, 9], &texts[..1024], &[0; 8], &texts[1024..]]);
        for room in [4088, 8184, 65_536] {
            let (header, text, _) = rewritten(&all, room);
            assert!(text.starts_with("the properties and headers have 1"), "{text}");
            assert!(text.ends_with("some bytes of the original are left out"), "{text}");
            let headers = header.properties.headers().as_ref().expect("headers").inner().len();
            assert!(room < 8184 || headers > 30, "{headers} headers in {room} bytes");
            assert_eq!(*header.properties.priority(), Some(9));
        }
    }
}
