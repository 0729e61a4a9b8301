//! The part of AMQP 0-9-1 that the proxy reads: frames, methods with their content, and a few fields.

use std::collections::HashMap;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
/// Type, channel and size before a frame's payload, without the end octet.
const HEAD_BYTES: usize = 7;
const END: u8 = 0xCE;

/// Class and method.
pub(super) type Method = (u16, u16);
pub(super) const CHANNEL_OPEN: Method = (20, 10);
pub(super) const PUBLISH: Method = (60, 40);
pub(super) const RETURN: Method = (60, 50);
pub(super) const DELIVER: Method = (60, 60);
pub(super) const ACK: Method = (60, 80);
pub(super) const NACK: Method = (60, 120);
pub(super) const CONFIRM_SELECT: Method = (85, 10);
const GET_OK: Method = (60, 71);

/// A method with its content, if it has one, or a frame of another kind.
#[derive(Default)]
pub(super) struct Unit {
    pub(super) channel: u16,
    /// Zeroes for a heartbeat.
    pub(super) method: Method,
    pub(super) arguments: Vec<u8>,
    /// The payload of the content's header frame.
    pub(super) header: Vec<u8>,
    /// All frames of the unit, unchanged.
    pub(super) raw: Vec<u8>,
}

impl Unit {
    /// The message's id, and the id of the event that it follows from.
    pub(super) fn message(&self) -> (String, Option<String>) {
        // Class, weight and size of the body stand before the properties.
        let mut fields = Fields(&self.header[12..]);
        let flags = fields.number(2);
        let has = |bit: u32| flags & (1 << bit) != 0;
        // Content type and encoding.
        for _ in [15, 14].into_iter().filter(|bit| has(*bit)) {
            fields.text();
        }
        let headers = if has(13) { fields.long() } else { &[] };
        // Delivery mode and priority.
        for _ in [12, 11].into_iter().filter(|bit| has(*bit)) {
            fields.number(1);
        }
        // Correlation id, reply-to, expiration.
        for _ in [10, 9, 8].into_iter().filter(|bit| has(*bit)) {
            fields.text();
        }
        let id = if has(7) { fields.text() } else { String::new() };
        (id, header(headers, "trunkline-cause"))
    }
}

/// A text of a table, found by its name without parsing the fields before it.
fn header(table: &[u8], name: &str) -> Option<String> {
    let named = [&[u8::try_from(name.len()).ok()?], name.as_bytes(), b"S"].concat();
    let at = table.windows(named.len()).position(|window| window == named)?;
    Some(String::from_utf8_lossy(Fields(&table[at + named.len()..]).long()).into_owned())
}

/// The tag of an acknowledgement, and whether it covers all earlier tags.
pub(super) fn acknowledged(unit: &Unit) -> (u64, bool) {
    let mut fields = Fields(&unit.arguments);
    (fields.number(8), fields.number(1) & 1 == 1)
}

/// The tag of a delivery.
pub(super) fn delivered(unit: &Unit) -> u64 {
    let mut fields = Fields(&unit.arguments);
    fields.text();
    fields.number(8)
}

/// An acknowledgement as a frame.
pub(super) fn ack(channel: u16, tag: u64, multiple: bool) -> Vec<u8> {
    let mut frame = vec![METHOD];
    frame.extend(channel.to_be_bytes());
    frame.extend(13_u32.to_be_bytes());
    frame.extend(ACK.0.to_be_bytes());
    frame.extend(ACK.1.to_be_bytes());
    frame.extend(tag.to_be_bytes());
    frame.extend([u8::from(multiple), END]);
    frame
}

/// Fields in their order. A missing field panics, which fails the test.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn number(&mut self, bytes: usize) -> u64 {
        self.bytes(bytes).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn text(&mut self) -> String {
        let length = usize::try_from(self.number(1)).expect("an octet");
        String::from_utf8_lossy(self.bytes(length)).into_owned()
    }

    fn long(&mut self) -> &'a [u8] {
        let length = usize::try_from(self.number(4)).expect("a long");
        self.bytes(length)
    }
}

/// One direction of a connection, unit by unit.
pub(super) struct Units<R> {
    from: R,
    /// By channel: a method whose content is incomplete, and the missing bytes of its body.
    begun: HashMap<u16, (Unit, Option<u64>)>,
}

impl<R: AsyncRead + Unpin> Units<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, begun: HashMap::new() }
    }

    /// The bytes before a client's first frame: name and version of the protocol.
    pub(super) async fn greeting(&mut self) -> io::Result<[u8; 8]> {
        let mut greeting = [0; 8];
        self.from.read_exact(&mut greeting).await?;
        Ok(greeting)
    }

    /// The next unit. The future must not be dropped before it is ready.
    pub(super) async fn next(&mut self) -> io::Result<Unit> {
        loop {
            let mut raw = vec![0; HEAD_BYTES];
            self.from.read_exact(&mut raw).await?;
            let mut head = Fields(&raw[1..]);
            let (kind, channel) = (raw[0], u16::try_from(head.number(2)).expect("two octets"));
            let size = usize::try_from(head.number(4)).expect("four octets");
            raw.resize(HEAD_BYTES + size + 1, 0);
            self.from.read_exact(&mut raw[HEAD_BYTES..]).await?;
            assert_eq!(raw.last(), Some(&END), "the frames are out of step");
            if let Some(unit) = self.add(kind, channel, raw) {
                return Ok(unit);
            }
        }
    }

    fn add(&mut self, kind: u8, channel: u16, raw: Vec<u8>) -> Option<Unit> {
        let payload = &raw[HEAD_BYTES..raw.len() - 1];
        match kind {
            METHOD => {
                let mut fields = Fields(payload);
                let [class, method] =
                    [fields.number(2), fields.number(2)].map(|word| u16::try_from(word).expect("two"));
                let (method, arguments) = ((class, method), fields.0.to_vec());
                let unit = Unit { channel, method, arguments, raw, ..Unit::default() };
                if matches!(method, PUBLISH | RETURN | DELIVER | GET_OK) {
                    self.begun.insert(channel, (unit, None));
                    return None;
                }
                Some(unit)
            }
            HEADER | BODY => {
                let (unit, lacks) = self.begun.get_mut(&channel).expect("content follows a method");
                let left = match lacks {
                    None => Fields(&payload[4..]).number(8),
                    Some(left) => *left - payload.len() as u64,
                };
                if lacks.is_none() {
                    unit.header = payload.to_vec();
                }
                *lacks = Some(left);
                unit.raw.extend(&raw);
                if left > 0 {
                    return None;
                }
                self.begun.remove(&channel).map(|(unit, _)| unit)
            }
            _ => Some(Unit { channel, raw, ..Unit::default() }),
        }
    }
}
