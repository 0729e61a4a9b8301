//! Frames of AMQP 0-9-1, valid and invalid, from a fuzzer's bytes.

use arbitrary::{Result, Unstructured};

pub const METHOD: u8 = 1;
pub const CONTENT: u8 = 2;
pub const BODY: u8 = 3;
pub const HEARTBEAT: u8 = 8;
pub const END: u8 = 0xCE;

/// A frame around a payload.
pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&[kind], &channel.to_be_bytes()[..], &size, payload, &[END]].concat()
}

/// A method with its fields as they stand on the wire.
pub fn method(class: u16, method: u16, fields: &[&[u8]]) -> Vec<u8> {
    [&class.to_be_bytes(), &method.to_be_bytes(), &fields.concat()[..]].concat()
}

/// The first frame of every broker.
pub fn start() -> Vec<u8> {
    let table = [&short(b"product")[..], b"S", &long(b"RabbitMQ"), &short(b"version"), b"S", &long(b"4.0.5")].concat();
    frame(METHOD, 0, &method(10, 10, &[&[0, 9], &long(&table), &long(b"PLAIN"), &long(b"en_US")]))
}

pub fn short(text: &[u8]) -> Vec<u8> {
    let text = &text[..text.len().min(255)];
    [&[u8::try_from(text.len()).expect("cut")], text].concat()
}

pub fn long(inside: &[u8]) -> Vec<u8> {
    [&u32::try_from(inside.len()).expect("short").to_be_bytes(), inside].concat()
}

/// The bytes with a length before them, which is mostly right.
fn lying(u: &mut Unstructured<'_>, inside: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = long(inside);
    if u.ratio(1, 40)? {
        bytes[..4].copy_from_slice(&u.arbitrary::<u32>()?.to_be_bytes());
    }
    Ok(bytes)
}

/// A text that is mostly UTF-8.
fn text(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    if u.ratio(1, 12)? {
        return Ok(short(&u.arbitrary::<Vec<u8>>()?));
    }
    let known = ["", "a", "events", "call.ended", "käse", "trunkline-attempt", "x-death", "CC"];
    Ok(short(u.choose(&known)?.as_bytes()))
}

/// The name of an entry, different from the entries before it.
fn name(u: &mut Unstructured<'_>, number: u8) -> Result<Vec<u8>> {
    let mut name = text(u)?[1..].to_vec();
    name.truncate(250);
    name.push(b'0' + number);
    Ok(short(&name))
}

fn value(u: &mut Unstructured<'_>, depth: usize) -> Result<Vec<u8>> {
    let kinds = b"VtbBsUuIifDlLdTSxAFAFAF";
    let kind = if u.ratio(1, 60)? { u.arbitrary()? } else { *u.choose(kinds)? };
    let fixed = |u: &mut Unstructured<'_>, bytes: usize| Ok::<_, arbitrary::Error>(u.bytes(bytes)?.to_vec());
    let inside = match kind {
        b'V' => Vec::new(),
        b't' | b'b' | b'B' => fixed(u, 1)?,
        b's' | b'U' | b'u' => fixed(u, 2)?,
        b'I' | b'i' | b'f' => fixed(u, 4)?,
        b'D' => fixed(u, 5)?,
        b'l' | b'L' | b'd' | b'T' => fixed(u, 8)?,
        b'A' if u.ratio(1, 60)? => {
            let bytes = vec![b'V'; usize::from(u.arbitrary::<u16>()?)];
            lying(u, &bytes)?
        }
        b'A' | b'F' if u.ratio(1, 60)? => deep(kind, u.int_in_range(25..=45)?),
        b'A' | b'F' if depth < 4 => {
            let mut inside = Vec::new();
            for number in 0..u.int_in_range(0..=3)? {
                if kind == b'F' {
                    inside.extend(name(u, number)?);
                }
                inside.extend(value(u, depth + 1)?);
            }
            lying(u, &inside)?
        }
        _ => {
            let bytes = u.arbitrary::<Vec<u8>>()?;
            lying(u, &bytes)?
        }
    };
    Ok([&[kind], &inside[..]].concat())
}

/// The inside of a value that is nested `levels` deep.
fn deep(kind: u8, levels: usize) -> Vec<u8> {
    let mut inside = long(&[]);
    for _ in 1..levels {
        let name = if kind == b'F' { short(b"n") } else { Vec::new() };
        inside = long(&[&name[..], &[kind], &inside].concat());
    }
    inside
}

fn table(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut inside = Vec::new();
    for number in 0..u.int_in_range(0..=6)? {
        inside.extend(name(u, number)?);
        inside.extend(value(u, 0)?);
    }
    if u.ratio(1, 200)? {
        // Larger than a frame of the connection.
        inside.extend([&short(b"big")[..], b"S", &long(&vec![b'b'; usize::from(u.arbitrary::<u16>()?) * 4])].concat());
    }
    lying(u, &inside)
}

/// The payload of a content header.
fn content(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut payload = vec![0, 60, 0, 0];
    payload.extend(u64::from(u.arbitrary::<u16>()?).to_be_bytes());
    let mut flags = u.arbitrary::<u16>()?;
    if !u.ratio(1, 20)? {
        flags &= !0b11;
    }
    payload.extend(flags.to_be_bytes());
    for bit in (2..16).rev().filter(|bit| flags & (1 << bit) != 0) {
        match bit {
            13 => payload.extend(table(u)?),
            12 | 11 => payload.push(u.arbitrary()?),
            6 => payload.extend(u.arbitrary::<u64>()?.to_be_bytes()),
            _ => payload.extend(text(u)?),
        }
    }
    match u.int_in_range(0..=40)? {
        0 => payload.truncate(usize::from(u.arbitrary::<u8>()?)),
        1 => payload.extend(u.arbitrary::<Vec<u8>>()?),
        _ => {}
    }
    Ok(payload)
}

/// A frame that a broker might send, or a broken one.
fn one(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let channel = u.int_in_range(1..=3)?;
    Ok(match u.int_in_range(0..=16)? {
        0..=2 => {
            let fields = [text(u)?, vec![0; 9], text(u)?, text(u)?];
            frame(METHOD, channel, &method(60, 60, &fields.each_ref().map(Vec::as_slice)))
        }
        3 => {
            let fields = [vec![1, 56], text(u)?, text(u)?, text(u)?];
            frame(METHOD, channel, &method(60, 50, &fields.each_ref().map(Vec::as_slice)))
        }
        4..=10 => frame(CONTENT, channel, &content(u)?),
        11 => frame(BODY, channel, &u.arbitrary::<Vec<u8>>()?),
        12 => frame(METHOD, channel, &method(60, 80, &[&[0; 9]])),
        13 => frame(METHOD, channel, &method(20, 40, &[&[1, 148], &text(u)?, &[0, 60, 0, 40]])),
        14 => frame(METHOD, channel, &method(60, 30, &[&text(u)?, &[1]])),
        15 => frame(HEARTBEAT, 0, &[]),
        _ if u.ratio(1, 8)? => frame(u.arbitrary()?, channel, &u.arbitrary::<Vec<u8>>()?),
        _ if u.ratio(1, 8)? => {
            let mut broken = frame(METHOD, channel, &u.arbitrary::<Vec<u8>>()?);
            // The size stays right, because a wrong size would hide where the next frame begins. `inbound_bytes` covers
            // wrong sizes.
            let at = u.choose_index(broken.len())?;
            broken[if (3..7).contains(&at) { 0 } else { at }] = u.arbitrary()?;
            broken
        }
        _ => frame(BODY, channel, b"body"),
    })
}

/// Frames until the fuzzer's bytes are used up.
pub fn frames(u: &mut Unstructured<'_>) -> Vec<Vec<u8>> {
    let mut frames = vec![start()];
    while !u.is_empty() && frames.len() < 64 {
        match one(u) {
            Ok(frame) => frames.push(frame),
            Err(_used_up) => break,
        }
    }
    frames
}
