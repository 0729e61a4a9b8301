//! The bytes from lapin, frame by frame, without frames for which a broker ends the connection.
//!
//! lapin writes messages that were queued on a channel even after its `channel.close-ok`. RabbitMQ takes a frame of a channel
//! that is not open for a protocol error of the whole connection (504). Frames of a channel therefore pass only from
//! `channel.open-ok` to `channel.close` or `channel.close-ok`.

use std::collections::VecDeque;

use super::inbound::{BODY, CONTENT, GREETING, HEAD, METHOD, OVERHEAD};
use super::method::MethodId;

const CONNECTION_TUNE_OK: MethodId = (10, 31);
const CHANNEL_OPEN: MethodId = (20, 10);
const CHANNEL_CLOSE: MethodId = (20, 40);
const CHANNEL_CLOSE_OK: MethodId = (20, 41);
const BASIC_PUBLISH: MethodId = (60, 40);
/// Class and method.
const METHOD_BYTES: usize = 4;
/// The longest beginning of a frame that has to be seen: `connection.tune-ok` up to the end of frame-max.
const SEEN_MAX: usize = HEAD + METHOD_BYTES + 2 + 4;

/// The state of a channel, which decides what may be sent on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum ChannelState {
    /// Only `channel.open` passes.
    #[default]
    Shut,
    /// Nothing passes until the broker has opened the channel.
    Opening,
    Open,
    /// Only the answer to the broker's own `channel.close` passes.
    Closing,
}

#[derive(Debug, Clone, Copy, Default)]
struct OutboundChannel {
    state: ChannelState,
    /// Whether the last `basic.publish` passed, so that its content passes as well.
    content: bool,
}

/// The action for bytes that lapin writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboundAction {
    /// This number of bytes has to be written. [`Outbound::done`] notes how many were.
    Write(usize),
    /// This number of bytes has to be dropped. [`Outbound::done`] notes it.
    Drop(usize),
    /// All bytes are kept, because they are the beginning of a frame whose kind is not known yet.
    Kept,
}

/// The writer of one connection.
#[derive(Debug, Default)]
pub struct Outbound {
    channels: Vec<OutboundChannel>,
    /// Bytes whose action is decided and not done yet: whether the bytes pass, and their number.
    decided: VecDeque<(bool, usize)>,
    /// Bytes of the present frame that are still to come.
    left: usize,
    passes: bool,
    /// The beginning of a frame whose kind is not known yet.
    head: Vec<u8>,
    /// The beginning of a frame that passes and is not written yet.
    owed: Vec<u8>,
    has_greeted: bool,
    /// The frame-max that lapin agreed to.
    pub(super) frame_max: Option<u32>,
}

impl Outbound {
    /// Notes that the broker has opened a channel.
    pub fn opened(&mut self, channel: u16) {
        let channel = self.channel(channel);
        if channel.state == ChannelState::Opening {
            channel.state = ChannelState::Open;
        }
    }

    /// Kept bytes that have to be written before all others. [`Outbound::wrote_owed`] notes how many were.
    #[must_use]
    pub fn owed(&self) -> &[u8] {
        &self.owed
    }

    /// Notes the number of owed bytes that were written.
    pub fn wrote_owed(&mut self, bytes: usize) {
        self.owed.drain(..bytes.min(self.owed.len()));
    }

    /// Decides the action for bytes. Bytes whose action is not done yet are expected again. Owed bytes are written first.
    pub fn decide(&mut self, bytes: &[u8]) -> OutboundAction {
        let known = self.decided.iter().map(|(_, bytes)| bytes).sum::<usize>();
        let mut at = known.min(bytes.len());
        while at < bytes.len() {
            if self.left == 0 && !self.begin(&bytes[at..]) {
                break;
            }
            let count = self.left.min(bytes.len() - at);
            self.left -= count;
            at += count;
            match self.decided.back_mut() {
                Some((passes, more)) if *passes == self.passes => *more += count,
                Some(_) | None => self.decided.push_back((self.passes, count)),
            }
        }
        match self.decided.front() {
            Some((true, count)) => OutboundAction::Write(*count),
            Some((false, count)) => OutboundAction::Drop(*count),
            None => {
                self.head.extend(bytes);
                OutboundAction::Kept
            }
        }
    }

    /// Notes the number of bytes of the action that were written or dropped.
    pub fn done(&mut self, bytes: usize) {
        if let Some((_, count)) = self.decided.front_mut() {
            *count -= bytes.min(*count);
            if *count == 0 {
                self.decided.pop_front();
            }
        }
    }

    /// Begins the frame that these bytes continue. Returns false when more of the frame has to be seen.
    fn begin(&mut self, bytes: &[u8]) -> bool {
        let mut seen = [0; SEEN_MAX];
        let kept = self.head.len();
        seen[..kept].copy_from_slice(&self.head);
        let more = bytes.len().min(SEEN_MAX - kept);
        seen[kept..kept + more].copy_from_slice(&bytes[..more]);
        let seen = &seen[..kept + more];
        let Some((total, passes)) = self.frame(seen) else { return false };
        self.left = total.saturating_sub(kept);
        self.passes = passes;
        let head = std::mem::take(&mut self.head);
        if passes {
            self.owed.extend(head);
        }
        true
    }

    /// The length of a frame and whether it passes, once enough of it is seen.
    fn frame(&mut self, seen: &[u8]) -> Option<(usize, bool)> {
        if !self.has_greeted {
            self.has_greeted = true;
            return Some((GREETING, true));
        }
        let (&[kind, c1, c0, s3, s2, s1, s0], payload) = seen.split_first_chunk::<HEAD>()?;
        let number = u16::from_be_bytes([c1, c0]);
        let size = u32::from_be_bytes([s3, s2, s1, s0]) as usize;
        let total = size + OVERHEAD;
        if number == 0 {
            let wanted = if kind == METHOD { size.min(SEEN_MAX - HEAD) } else { 0 };
            let payload = payload.get(..wanted)?;
            if let Some((_, [.., f3, f2, f1, f0])) = method(payload).filter(|(method, _)| *method == CONNECTION_TUNE_OK)
            {
                self.frame_max = Some(u32::from_be_bytes([*f3, *f2, *f1, *f0]));
            }
            return Some((total, true));
        }
        let passes = match kind {
            METHOD => {
                let (method, _) = method(payload.get(..METHOD_BYTES)?)?;
                self.channel(number).method(method)
            }
            CONTENT | BODY => self.channel(number).content,
            _ => true,
        };
        Some((total, passes))
    }

    fn channel(&mut self, number: u16) -> &mut OutboundChannel {
        let number = usize::from(number);
        if self.channels.len() <= number {
            self.channels.resize(number + 1, OutboundChannel::default());
        }
        &mut self.channels[number]
    }
}

fn method(payload: &[u8]) -> Option<(MethodId, &[u8])> {
    let (&[c1, c0, m1, m0], rest) = payload.split_first_chunk::<METHOD_BYTES>()?;
    Some(((u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0])), rest))
}

impl OutboundChannel {
    /// Whether a method passes. Sets the state that follows from the method.
    fn method(&mut self, method: MethodId) -> bool {
        let (passes, next) = match (method, self.state) {
            (CHANNEL_OPEN, _) => (true, ChannelState::Opening),
            (CHANNEL_CLOSE, ChannelState::Open | ChannelState::Opening) => (true, ChannelState::Closing),
            (CHANNEL_CLOSE_OK, ChannelState::Open | ChannelState::Opening | ChannelState::Closing) => {
                (true, ChannelState::Shut)
            }
            (_, state) => (state == ChannelState::Open, state),
        };
        *self = Self { state: next, content: passes && method == BASIC_PUBLISH };
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::super::inbound::{END, HEARTBEAT};
    use super::*;

    fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&[kind], &channel.to_be_bytes()[..], &size, payload, &[END]].concat()
    }

    fn method(channel: u16, (class, method): MethodId, rest: &[u8]) -> Vec<u8> {
        frame(METHOD, channel, &[&class.to_be_bytes(), &method.to_be_bytes(), rest].concat())
    }

    fn publish(channel: u16) -> Vec<u8> {
        let body = [frame(CONTENT, channel, &[0; 14]), frame(BODY, channel, b"body")].concat();
        [method(channel, BASIC_PUBLISH, &[0; 5]), body].concat()
    }

    /// The bytes that a broker gets of chunks, through a socket that takes `socket` bytes at a time.
    fn written(outbound: &mut Outbound, sent: &[u8], chunk: usize, socket: usize) -> Vec<u8> {
        let mut got = Vec::new();
        for mut chunk in sent.chunks(chunk) {
            while !chunk.is_empty() {
                let action = outbound.decide(chunk);
                got.extend(outbound.owed());
                outbound.wrote_owed(usize::MAX);
                let taken = match action {
                    OutboundAction::Write(bytes) => {
                        let bytes = bytes.min(socket);
                        got.extend(&chunk[..bytes]);
                        outbound.done(bytes);
                        bytes
                    }
                    OutboundAction::Drop(bytes) => {
                        outbound.done(bytes);
                        bytes
                    }
                    OutboundAction::Kept => chunk.len(),
                };
                chunk = &chunk[taken..];
            }
        }
        got
    }

    #[test]
    fn what_follows_a_close_is_dropped_until_the_channel_is_open_again() {
        let [open, ack] = [method(1, CHANNEL_OPEN, b"\0"), method(1, (60, 80), &[0; 9])];
        let [close_ok, neighbour] = [method(1, CHANNEL_CLOSE_OK, b""), publish(2)];
        let tune_ok = method(0, CONNECTION_TUNE_OK, &[7, 255, 0, 2, 0, 0, 0, 10]);
        let beginning = [b"AMQP\0\0\x09\x01", &tune_ok[..], &open, &method(2, CHANNEL_OPEN, b"\0")].concat();
        let heartbeat = frame(HEARTBEAT, 0, b"");
        let sent = [&publish(1)[..], &close_ok, &publish(1), &ack, &neighbour, &heartbeat, &open, &publish(1)].concat();
        let passes = [&publish(1)[..], &close_ok, &neighbour, &heartbeat, &open].concat();
        for chunk in [1, 2, 5, 7, 11, 13, 64, usize::MAX] {
            for socket in [1, 3, 100, usize::MAX] {
                let mut outbound = Outbound::default();
                assert_eq!(written(&mut outbound, &beginning, chunk, socket), beginning, "by {chunk} and {socket}");
                assert_eq!(outbound.frame_max, Some(131_072));
                outbound.opened(1);
                outbound.opened(2);
                assert_eq!(written(&mut outbound, &sent, chunk, socket), passes, "by {chunk} and {socket}");
                outbound.opened(1);
                assert_eq!(written(&mut outbound, &ack, chunk, socket), ack);
                let rest = [frame(CONTENT, 1, &[0; 14]), frame(BODY, 1, b"of a message that did not pass")].concat();
                assert_eq!(written(&mut outbound, &rest, chunk, socket), b"", "no content without its method");
                assert_eq!(written(&mut outbound, &publish(1), chunk, socket), publish(1));
            }
        }
    }

    #[test]
    fn a_close_of_ours_is_the_last_but_for_the_answer_to_the_brokers() {
        let mut outbound = Outbound { has_greeted: true, ..Outbound::default() };
        let open = method(1, CHANNEL_OPEN, b"\0");
        written(&mut outbound, &open, usize::MAX, usize::MAX);
        outbound.opened(1);
        let [close, close_ok] = [method(1, CHANNEL_CLOSE, &[0; 7]), method(1, CHANNEL_CLOSE_OK, b"")];
        let sent = [&publish(1)[..], &close, &publish(1), &close, &close_ok, &close_ok].concat();
        let passes = [&publish(1)[..], &close, &close_ok].concat();
        assert_eq!(written(&mut outbound, &sent, 9, 4), passes);
    }
}
