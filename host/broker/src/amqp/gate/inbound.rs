//! The bytes from the broker, frame by frame. Bytes that lapin takes pass unchanged; others are rewritten or refused.
//!
//! Frames of methods and content headers are checked whole. Bodies pass as they arrive. Memory is bounded by the largest frame,
//! whatever lengths the bytes claim.

use std::collections::HashMap;

use super::content::{self, DamagedContent};
use super::fields::escaped;
use super::loss_header::{LossHeader, Losses};
use super::method::{self, CHANNEL_OPEN_OK, CONNECTION_START, MethodCheck};
use crate::BrokerServer;

/// Kind, channel and size of the payload.
pub(super) const HEAD: usize = 7;
/// Bytes of a frame beside the payload: the head and the last byte.
pub(super) const OVERHEAD: usize = HEAD + 1;
pub(super) const END: u8 = 0xCE;
pub(super) const METHOD: u8 = 1;
pub(super) const CONTENT: u8 = 2;
pub(super) const BODY: u8 = 3;
pub(super) const HEARTBEAT: u8 = 8;
/// Bytes of the protocol header, which a broker sends that speaks another version.
pub(super) const GREETING: usize = 8;

/// The smallest frame-max of AMQP 0-9-1.
const FRAME_MAX_LEAST: usize = 4096;
/// The frame-max before an agreement, which is RabbitMQ's default.
const FRAME_MAX_DEFAULT: usize = 128 << 10;
/// Bytes that are read of a content header larger than the frames of this connection. The rest is skipped. RabbitMQ sends
/// content headers that fitted the frames of another connection, and adds headers of its own.
const CONTENT_READ: usize = 64 << 10;
/// The largest content header. A larger one ends the connection.
const CONTENT_MAX: usize = 16 << 20;
/// Size of the read buffer.
const BUFFER: usize = 64 << 10;
/// The largest number of channels that lapin opens.
const CHANNELS_MAX: usize = 2048;

/// Bytes that are not AMQP 0-9-1 or break its rules. The connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolViolation {
    /// The first bytes are of another protocol.
    #[error("the peer does not speak AMQP: {0}")]
    NotAmqp(String),
    /// A frame of a kind that does not exist.
    #[error("the broker sent a frame of the unknown kind {0}")]
    Kind(u8),
    /// A frame that is larger than agreed.
    #[error("the broker sent a frame of {bytes} bytes; the limit of this connection is {max} bytes")]
    Large {
        /// The length of the frame.
        bytes: usize,
        /// The agreed frame-max.
        max: usize,
    },
    /// A frame without the end byte at the place that its length gives.
    #[error("the broker sent a frame that ends with {0:#04x} instead of 0xce")]
    End(u8),
    /// A method that does not exist, or whose fields do not fit.
    #[error("the broker sent a method that cannot be read")]
    Method,
    /// A content header without the size of the body.
    #[error("the broker sent a content header that is too short")]
    Content,
}

/// A fact that the reader of a connection learns from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReaderEvent {
    /// Product and version of the broker.
    Server(BrokerServer),
    /// A channel is open.
    Opened(u16),
}

/// The part of the bytes from the broker that is expected next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The very first byte.
    Greeting,
    /// The head of a frame.
    Head,
    /// The rest of a frame that was checked, with its number of bytes.
    Pass(usize),
    /// The rest of a frame that passes as it arrives, without its last byte.
    Body(usize),
    /// The rest of a frame that was rewritten, without its last byte.
    Skip(usize),
    /// The last byte of a frame, and whether it passes.
    End { passes: bool },
}

/// The reader of one connection.
#[derive(Debug)]
pub struct Inbound {
    loss_header: LossHeader,
    frame_max: usize,
    /// Received bytes that lapin has not read yet are those from `start` to `end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    expected: Expected,
    /// A frame that was rewritten, and the number of its bytes that lapin has read.
    rewritten: Vec<u8>,
    rewritten_out: usize,
    /// Losses of methods whose content header has not arrived yet, by channel.
    lost: HashMap<u16, Losses>,
    pub(super) events: Vec<ReaderEvent>,
    over: Option<ProtocolViolation>,
}

impl Inbound {
    /// For a new connection.
    #[must_use]
    pub fn new(loss_header: LossHeader) -> Self {
        Self {
            loss_header,
            frame_max: FRAME_MAX_DEFAULT,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            expected: Expected::Greeting,
            rewritten: Vec::new(),
            rewritten_out: 0,
            lost: HashMap::new(),
            events: Vec::new(),
            over: None,
        }
    }

    /// Sets the largest frame that both sides agreed on; 0 means no bound.
    pub fn agree(&mut self, frame_max: u32) {
        self.frame_max = match usize::try_from(frame_max) {
            Ok(0) | Err(_) => FRAME_MAX_DEFAULT,
            Ok(bytes) => bytes.max(FRAME_MAX_LEAST),
        };
    }

    /// Bytes of memory that are held for frames.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.buffer.capacity() + self.rewritten.capacity()
    }

    /// The space for the broker's bytes, which [`Inbound::filled`] then counts. It is never empty after [`Inbound::take`]
    /// returned 0.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start.., 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// Notes the number of bytes that were put into the space.
    pub fn filled(&mut self, bytes: usize) {
        self.end = self.buffer.len().min(self.end + bytes);
    }

    /// Copies bytes for lapin into `out` and returns their number; 0 when more bytes from the broker are needed.
    ///
    /// # Errors
    /// The broker's violation, from then on with every call.
    pub fn take(&mut self, out: &mut [u8]) -> Result<usize, ProtocolViolation> {
        let mut done = 0;
        while done < out.len() && self.over.is_none() {
            match self.step(&mut out[done..]) {
                Ok(Some(bytes)) => done += bytes,
                Ok(None) => break,
                Err(violation) => self.over = Some(violation),
            }
        }
        match &self.over {
            // Bytes before the violation are still returned.
            Some(violation) if done == 0 => Err(violation.clone()),
            Some(_) | None => Ok(done),
        }
    }

    fn waiting(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Takes one step. Returns the number of bytes for lapin; none when more bytes from the broker are needed.
    fn step(&mut self, out: &mut [u8]) -> Result<Option<usize>, ProtocolViolation> {
        if !self.rewritten.is_empty() {
            return Ok(Some(self.hand_out_rewritten(out)));
        }
        let waiting = self.waiting();
        if waiting.is_empty() {
            return Ok(None);
        }
        match self.expected {
            Expected::Greeting => self.greeting(),
            Expected::Head => self.frame(),
            Expected::Pass(left) | Expected::Body(left) => {
                let bytes = left.min(waiting.len()).min(out.len());
                out[..bytes].copy_from_slice(&waiting[..bytes]);
                self.start += bytes;
                self.expected = match (self.expected, left - bytes) {
                    (Expected::Body(_), 0) => Expected::End { passes: true },
                    (Expected::Body(_), left) => Expected::Body(left),
                    (_, 0) => Expected::Head,
                    (_, left) => Expected::Pass(left),
                };
                Ok(Some(bytes))
            }
            Expected::Skip(left) => {
                let bytes = left.min(waiting.len());
                self.start += bytes;
                self.expected =
                    if bytes == left { Expected::End { passes: false } } else { Expected::Skip(left - bytes) };
                Ok(Some(0))
            }
            Expected::End { passes } => {
                let last = waiting[0];
                if last != END {
                    return Err(ProtocolViolation::End(last));
                }
                self.start += 1;
                self.expected = Expected::Head;
                if passes {
                    out[0] = last;
                }
                Ok(Some(usize::from(passes)))
            }
        }
    }

    fn hand_out_rewritten(&mut self, out: &mut [u8]) -> usize {
        let left = &self.rewritten[self.rewritten_out..];
        let bytes = left.len().min(out.len());
        out[..bytes].copy_from_slice(&left[..bytes]);
        self.rewritten_out += bytes;
        if self.rewritten_out == self.rewritten.len() {
            (self.rewritten, self.rewritten_out) = (Vec::new(), 0);
        }
        bytes
    }

    /// A protocol header of another version passes, and lapin refuses it.
    fn greeting(&mut self) -> Result<Option<usize>, ProtocolViolation> {
        let waiting = self.waiting();
        self.expected = match waiting[0] {
            METHOD => Expected::Head,
            b'A' if waiting.len() < GREETING => return Ok(None),
            b'A' if waiting.starts_with(b"AMQP\0") => Expected::Pass(GREETING),
            _ => return Err(ProtocolViolation::NotAmqp(foreign(waiting))),
        };
        Ok(Some(0))
    }

    fn frame(&mut self) -> Result<Option<usize>, ProtocolViolation> {
        let waiting = self.waiting();
        let Some(&[kind, c1, c0, s3, s2, s1, s0]) = waiting.first_chunk::<HEAD>() else { return Ok(None) };
        let channel = u16::from_be_bytes([c1, c0]);
        let size = u32::from_be_bytes([s3, s2, s1, s0]) as usize;
        let bytes = size.saturating_add(OVERHEAD);
        let max = match kind {
            CONTENT => CONTENT_MAX,
            METHOD | BODY | HEARTBEAT => self.frame_max,
            _ => return Err(ProtocolViolation::Kind(kind)),
        };
        if bytes > max {
            return Err(ProtocolViolation::Large { bytes, max });
        }
        // Of a content header that is larger than agreed only the beginning is read, without its last byte.
        let read = if bytes > self.frame_max { bytes.min(HEAD + CONTENT_READ.max(self.frame_max)) } else { bytes };
        if kind == BODY {
            self.expected = Expected::Body(HEAD + size);
        } else if waiting.len() < read {
            self.make_room(read);
            return Ok(None);
        } else if bytes > self.frame_max {
            let lost = self.lost.remove(&channel).unwrap_or_default();
            let payload = &self.waiting()[HEAD..read.min(HEAD + size)];
            let damaged = DamagedContent { payload, bytes: size, room: self.frame_max - OVERHEAD };
            let passed_over = payload.len();
            let rewritten = content::rewrite(&damaged, lost, &self.loss_header).ok_or(ProtocolViolation::Content)?;
            self.rewritten = framed(CONTENT, channel, &rewritten);
            self.start += HEAD + passed_over;
            self.expected = Expected::Skip(size - passed_over);
        } else if waiting[bytes - 1] != END {
            return Err(ProtocolViolation::End(waiting[bytes - 1]));
        } else {
            self.whole(kind, channel, size)?;
        }
        Ok(Some(0))
    }

    /// Handles a frame that has arrived whole.
    fn whole(&mut self, kind: u8, channel: u16, size: usize) -> Result<(), ProtocolViolation> {
        let payload = &self.buffer[self.start + HEAD..self.start + HEAD + size];
        let rewritten = match kind {
            METHOD => match method::check(payload) {
                MethodCheck::Broken => return Err(ProtocolViolation::Method),
                MethodCheck::Sound => {
                    if !self.lost.is_empty() {
                        self.lost.remove(&channel);
                    }
                    match method::method(payload) {
                        Some(CONNECTION_START) => self.events.extend(method::server(payload).map(ReaderEvent::Server)),
                        Some(CHANNEL_OPEN_OK) => self.events.push(ReaderEvent::Opened(channel)),
                        Some(_) | None => {}
                    }
                    None
                }
                MethodCheck::Repaired(repaired, lost) => {
                    self.lost.remove(&channel);
                    if let Some(lost) = lost.filter(|_| self.lost.len() < CHANNELS_MAX) {
                        self.lost.insert(channel, lost);
                    }
                    Some(repaired)
                }
            },
            CONTENT => {
                let lost = if self.lost.is_empty() { None } else { self.lost.remove(&channel) };
                if lost.is_none() && content::is_sound(payload) {
                    None
                } else {
                    let damaged = DamagedContent { payload, bytes: size, room: self.frame_max - OVERHEAD };
                    let rewritten = content::rewrite(&damaged, lost.unwrap_or_default(), &self.loss_header);
                    Some(rewritten.ok_or(ProtocolViolation::Content)?)
                }
            }
            _ => None,
        };
        match rewritten {
            None => self.expected = Expected::Pass(size + OVERHEAD),
            Some(payload) => {
                self.rewritten = framed(kind, channel, &payload);
                self.start += size + OVERHEAD;
            }
        }
        Ok(())
    }

    /// Makes the buffer large enough for this number of bytes from its start.
    fn make_room(&mut self, bytes: usize) {
        if self.start + bytes > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() < bytes {
            self.buffer.reserve_exact(bytes - self.buffer.len());
            self.buffer.resize(bytes, 0);
        }
    }
}

fn framed(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + OVERHEAD);
    frame.push(kind);
    frame.extend(channel.to_be_bytes());
    frame.extend(u32::try_from(payload.len()).unwrap_or_default().to_be_bytes());
    frame.extend(payload);
    frame.push(END);
    frame
}

/// The protocol of a peer that does not speak AMQP, by its first bytes.
fn foreign(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 60;
    /// The records of TLS for an alert and for a handshake.
    const TLS: [u8; 2] = [0x15, 0x16];
    if bytes.starts_with(b"HTTP") {
        return "the peer is an HTTP server: use the port of AMQP (usually 5672), not the port of the management plugin (usually 15672)".to_owned();
    }
    if TLS.contains(&bytes[0]) {
        return "the peer speaks TLS: write `amqps://` in the broker's URL, or use the port of plain AMQP".to_owned();
    }
    format!("the peer sent `{}`", escaped(bytes, SHOWN_MAX))
}

#[cfg(test)]
mod tests;
