//! Properties of the gate for bytes from the broker.

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::types::{AMQPValue, FieldTable};
use arbitrary::Unstructured;
use trunkline_broker::amqp::gate::{Inbound, LossHeader, ProtocolViolation};

use super::wire;

const LOSS_HEADER: &str = "trunkline-unreadable-fuzz";
const FRAME_MAX: u32 = 8192;
/// The gate's own bound.
const DEPTH_MAX: usize = 32;
const VALUES_MAX: usize = 4096;
/// The gate has two buffers: one to read into, and one for a frame that it rewrites.
const MEMORY_MAX: usize = 256 << 10;

/// All output, and the violation at the end. Bytes go in and out in pieces of the given sizes, repeatedly.
fn through(input: &[u8], pieces: &[usize], rooms: &[usize]) -> (Vec<u8>, Option<ProtocolViolation>) {
    let mut gate = Inbound::new(LossHeader::new(LOSS_HEADER));
    gate.agree(FRAME_MAX);
    let (mut input, mut output) = (input, Vec::new());
    let (mut pieces, mut rooms) = (pieces.iter().cycle(), rooms.iter().cycle());
    let mut out = vec![0; 1 << 17];
    loop {
        let room = (*rooms.next().expect("a size")).clamp(1, out.len());
        match gate.take(&mut out[..room]) {
            // The text of the violation depends on how many bytes had arrived.
            Err(ProtocolViolation::NotAmqp(_)) => return (output, Some(ProtocolViolation::NotAmqp(String::new()))),
            Err(violation) => return (output, Some(violation)),
            Ok(0) => {}
            Ok(bytes) => {
                output.extend(&out[..bytes]);
                continue;
            }
        }
        if input.is_empty() {
            return (output, None);
        }
        let space = gate.space();
        assert!(!space.is_empty(), "there is room when nothing is left to take");
        let count = space.len().min(input.len()).min((*pieces.next().expect("a size")).max(1));
        space[..count].copy_from_slice(&input[..count]);
        gate.filled(count);
        input = &input[count..];
        assert!(gate.memory() <= MEMORY_MAX, "{} bytes of memory", gate.memory());
    }
}

/// Bytes of any kind: no panic, bounded memory, and output that is AMQP, for pieces of any size.
pub fn inbound_bytes(data: &[u8]) {
    let (sizes, input) = data.split_at(data.len().min(8));
    let sizes: Vec<usize> = sizes.iter().map(|size| usize::from(*size)).chain([1]).collect();
    for begins in [&[][..], &wire::start()] {
        let input = [begins, input].concat();
        let (output, violation) = through(&input, &[usize::MAX], &[usize::MAX]);
        assert_eq!(through(&input, &sizes, &sizes), (output.clone(), violation), "pieces make a difference");
        whole_frames(&output);
    }
}

/// Frames, some of them invalid: a frame that lapin takes passes unchanged, and any other is rewritten so that lapin
/// takes it.
pub fn inbound_frames(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let sizes: [u8; 6] = u.arbitrary().unwrap_or([1; 6]);
    let frames = wire::frames(&mut u);
    let input = frames.concat();
    let (output, violation) = through(&input, &[usize::MAX], &[usize::MAX]);
    let sizes = sizes.map(usize::from);
    assert_eq!(through(&input, &sizes[..3], &sizes[3..]), (output.clone(), violation.clone()), "pieces");
    let passed = whole_frames(&output);
    assert!(passed.len() <= frames.len() && (violation.is_some() || passed.len() == frames.len()));
    // By channel: the next content belongs to a method that lost its exchange or its key.
    let mut lossy = [false; 4];
    for (came, (raw, passed)) in frames.iter().zip(&passed) {
        let channel = usize::from(came[2]).min(3);
        match passed {
            AMQPFrame::Header(_, header) => {
                let passes = !std::mem::take(&mut lossy[channel]) && is_taken(came);
                let headers = header.properties.headers().as_ref();
                let mark = headers.and_then(|headers| headers.inner().get(LOSS_HEADER));
                assert_eq!((passes, passes), (mark.is_none(), came == raw), "{came:02x?}");
                assert_eq!((&came[..3], &came[7..9], &came[11..19]), (&raw[..3], &raw[7..9], &raw[11..19]), "its size");
            }
            AMQPFrame::Method(..) => {
                lossy[channel] = has_lossy_name(&came[7..]);
                assert!(came == raw || !parses(came), "{came:02x?}");
            }
            AMQPFrame::ProtocolHeader(_)
            | AMQPFrame::Body(..)
            | AMQPFrame::Heartbeat
            | AMQPFrame::InvalidHeartbeat(_) => assert_eq!(came, raw, "a frame of another kind"),
        }
    }
}

fn parses(raw: &[u8]) -> bool {
    parse_frame(raw).is_ok_and(|(rest, _)| rest.is_empty())
}

/// All frames of the output. Only the last frame may be incomplete.
fn whole_frames(mut output: &[u8]) -> Vec<(Vec<u8>, AMQPFrame)> {
    let mut frames = Vec::new();
    while !output.is_empty() {
        match parse_frame(output) {
            Ok((rest, frame)) => {
                let raw = &output[..output.len() - rest.len()];
                assert!(raw.len() <= FRAME_MAX as usize, "{} bytes", raw.len());
                frames.push((raw.to_vec(), frame));
                output = rest;
            }
            Err(error) => {
                assert!(error.is_incomplete(), "lapin does not take it: {error:?}");
                break;
            }
        }
    }
    frames
}

/// Tells whether lapin takes a content header and the header is within the gate's bounds.
fn is_taken(raw: &[u8]) -> bool {
    let Ok((&[], AMQPFrame::Header(_, header))) = parse_frame(raw) else { return false };
    let flags = u16::from_be_bytes([raw[19], raw[20]]);
    let (mut values, none) = (0, FieldTable::default());
    let headers = header.properties.headers().as_ref().unwrap_or(&none);
    let is_shallow = headers.inner().values().all(|value| is_shallow(value, 1, &mut values));
    is_shallow && values <= VALUES_MAX && flags & 0b11 == 0 && raw.len() <= FRAME_MAX as usize
}

fn is_shallow(value: &AMQPValue, depth: usize, values: &mut usize) -> bool {
    *values += 1;
    if let AMQPValue::FieldArray(list) = value {
        return depth <= DEPTH_MAX && list.as_slice().iter().all(|value| is_shallow(value, depth + 1, values));
    }
    if let AMQPValue::FieldTable(table) = value {
        return depth <= DEPTH_MAX && table.inner().values().all(|value| is_shallow(value, depth + 1, values));
    }
    true
}

/// Tells whether a delivery or a return names an exchange or a key that is not UTF-8.
fn has_lossy_name(method: &[u8]) -> bool {
    let mut rest = &method[4.min(method.len())..];
    let mut skip = |bytes: usize| {
        let (taken, left) = rest.split_at_checked(bytes)?;
        rest = left;
        Some(taken)
    };
    let mut text = |before: usize, texts: usize| {
        skip(before)?;
        let mut last = None;
        for _ in 0..texts {
            let length = skip(1)?[0];
            last = skip(usize::from(length));
        }
        last
    };
    let names = match method {
        [0, 60, 0, 60, ..] => [text(0, 1).and_then(|_| text(9, 1)), text(0, 1)],
        [0, 60, 0, 50, ..] => [text(2, 2), text(0, 1)],
        _ => return false,
    };
    names.iter().flatten().any(|name| std::str::from_utf8(name).is_err())
}
