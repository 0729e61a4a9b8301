//! Properties of the gate for frames from lapin.

use arbitrary::{Result, Unstructured};
use trunkline_broker::amqp::gate::{Outbound, OutboundAction};

use super::wire::{BODY, CONTENT, HEARTBEAT, METHOD, frame, method};

/// A frame from lapin, and the channel that the broker opens after it.
struct Step {
    frames: Vec<u8>,
    passes: Vec<u8>,
    opened: Option<u16>,
}

/// The rule in its plain form: for each channel, whether it is open and whether the next content may pass.
#[derive(Default, Clone, Copy)]
struct Channel {
    may_close: bool,
    is_open: bool,
    may_answer: bool,
    content: bool,
}

fn step(u: &mut Unstructured<'_>, channels: &mut [Channel; 4]) -> Result<Step> {
    let (mut frames, mut passes) = (Vec::new(), Vec::new());
    for _ in 0..u.int_in_range(1..=6)? {
        let number = u.int_in_range(1..=3)?;
        let channel = &mut channels[usize::from(number)];
        let was_content = std::mem::take(&mut channel.content);
        let (made, does_pass) = match u.int_in_range(0..=9)? {
            0 => {
                *channel = Channel { may_close: true, may_answer: true, ..Channel::default() };
                (frame(METHOD, number, &method(20, 10, &[&[0]])), true)
            }
            1 => {
                let does_pass = channel.may_close;
                *channel = Channel { may_answer: channel.may_answer, ..Channel::default() };
                (frame(METHOD, number, &method(20, 40, &[&[0; 7]])), does_pass)
            }
            2 => {
                let does_pass = channel.may_answer;
                *channel = Channel::default();
                (frame(METHOD, number, &method(20, 41, &[])), does_pass)
            }
            3 | 4 => {
                channel.content = channel.is_open;
                (frame(METHOD, number, &method(60, 40, &[&[0; 5]])), channel.is_open)
            }
            5 => (frame(METHOD, number, &method(60, 80, &[&[0; 9]])), channel.is_open),
            6 => {
                channel.content = was_content;
                (frame(CONTENT, number, &u.arbitrary::<Vec<u8>>()?), was_content)
            }
            7 => {
                channel.content = was_content;
                (frame(BODY, number, &u.arbitrary::<Vec<u8>>()?), was_content)
            }
            kind => {
                channel.content = was_content;
                let payload = if kind == 8 { method(10, 51, &[]) } else { Vec::new() };
                (frame(if kind == 8 { METHOD } else { HEARTBEAT }, 0, &payload), true)
            }
        };
        frames.extend(&made);
        if does_pass {
            passes.extend(made);
        }
    }
    let opened = if u.arbitrary()? { Some(u.int_in_range(1..=3)?) } else { None };
    if let Some(opened) = opened {
        let channel = &mut channels[usize::from(opened)];
        channel.is_open |= channel.may_close;
    }
    Ok(Step { frames, passes, opened })
}

/// The written frames, when lapin gives them in pieces and the socket takes them in other pieces.
fn written(gate: &mut Outbound, frames: &[u8], pieces: &[usize]) -> Vec<u8> {
    let mut got = Vec::new();
    let (mut rest, mut sizes) = (frames, pieces.iter().cycle());
    let mut size = || (*sizes.next().expect("a size")).max(1);
    while !rest.is_empty() {
        let mut piece = &rest[..rest.len().min(size())];
        rest = &rest[piece.len()..];
        while !piece.is_empty() {
            let action = gate.decide(piece);
            while !gate.owed().is_empty() {
                let bytes = gate.owed().len().min(size());
                got.extend(&gate.owed()[..bytes]);
                gate.wrote_owed(bytes);
            }
            let taken = match action {
                OutboundAction::Write(most) => {
                    let bytes = most.min(size());
                    got.extend(&piece[..bytes]);
                    bytes
                }
                OutboundAction::Drop(bytes) => bytes,
                OutboundAction::Kept => piece.len(),
            };
            if action != OutboundAction::Kept {
                gate.done(taken);
            }
            piece = &piece[taken..];
        }
    }
    got
}

/// Frames of a channel pass while the channel is open, whole and unchanged, for pieces of any size.
pub fn outbound_frames(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let sizes: [u8; 5] = u.arbitrary().unwrap_or([1; 5]);
    let sizes = sizes.map(usize::from);
    let mut gate = Outbound::default();
    assert_eq!(written(&mut gate, b"AMQP\0\0\x09\x01", &sizes), b"AMQP\0\0\x09\x01");
    let mut channels = [Channel::default(); 4];
    while !u.is_empty() {
        let Ok(step) = step(&mut u, &mut channels) else { return };
        assert_eq!(written(&mut gate, &step.frames, &sizes), step.passes);
        if let Some(opened) = step.opened {
            gate.opened(opened);
        }
    }
}
