//! What a broker sends, frame by frame: bytes that lapin takes pass as they are, and all others are mended or refused.
//!
//! Frames of methods and of content headers are looked at whole, bodies pass as they come. The memory that it takes is
//! bounded by the largest frame, whatever the bytes say.

use std::collections::HashMap;

use super::content::{self, Damaged};
use super::fields::escaped;
use super::marker::{Lost, Marker};
use super::method::{self, CHANNEL_OPEN_OK, CONNECTION_START, Checked};
use crate::Server;

/// Kind, channel and size of the payload.
pub(super) const HEAD: usize = 7;
/// What is not payload in a frame: its head and its last byte.
pub(super) const OVERHEAD: usize = HEAD + 1;
pub(super) const END: u8 = 0xCE;
pub(super) const METHOD: u8 = 1;
pub(super) const CONTENT: u8 = 2;
pub(super) const BODY: u8 = 3;
pub(super) const HEARTBEAT: u8 = 8;
/// Of the names of protocol and version, which a broker sends that speaks another version.
pub(super) const GREETING: usize = 8;

/// The smallest frame-max of AMQP 0-9-1.
const FRAME_MAX_LEAST: usize = 4096;
/// Where nothing is agreed upon: RabbitMQ's own.
const FRAME_MAX_DEFAULT: usize = 128 << 10;
/// Of a content header that is larger than the frames of this connection, so much is read; the rest is passed over.
/// RabbitMQ sends what another connection's frames had room for, and adds headers of its own.
const CONTENT_READ: usize = 64 << 10;
/// A content header beyond that is no message.
const CONTENT_MAX: usize = 16 << 20;
/// Read at once.
const BUFFER: usize = 64 << 10;
/// lapin opens no more channels.
const CHANNELS_MAX: usize = 2048;

/// Bytes that are not AMQP 0-9-1, or break its rules: the connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The first bytes are of another protocol.
    #[error("what answers does not speak AMQP: {0}")]
    NotAmqp(String),
    /// A frame of a kind that does not exist.
    #[error("the broker sent a frame of the unknown kind {0}")]
    Kind(u8),
    /// A frame that is larger than agreed.
    #[error("the broker sent a frame of {bytes} bytes; this connection agreed upon {max}")]
    Large {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A frame that does not end where it says.
    #[error("the broker sent a frame that ends with {0:#04x} and not with 0xce")]
    End(u8),
    /// A method that does not exist, or whose fields do not fit.
    #[error("the broker sent a method that cannot be read")]
    Method,
    /// A content header without the size of the body.
    #[error("the broker sent a content header that is too short")]
    Content,
}

/// What the reader of a connection learnt on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Note {
    /// Which broker it is.
    Server(Server),
    /// A channel is open.
    Opened(u16),
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The very first byte.
    Greeting,
    /// The head of a frame.
    Head,
    /// The rest of a frame that was looked at: so many bytes.
    Pass(usize),
    /// The rest of a frame that passes as it comes, but for its last byte.
    Body(usize),
    /// The rest of a frame that was written anew, but for its last byte.
    Skip(usize),
    /// The last byte of a frame, which passes or not.
    End { passes: bool },
}

/// The reader of one connection.
#[derive(Debug)]
pub struct Inbound {
    marker: Marker,
    frame_max: usize,
    /// What came and is not handed out: the bytes from `start` to `end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    next: Next,
    /// A frame that was written anew, and how much of it is handed out.
    mended: Vec<u8>,
    mended_out: usize,
    /// What methods lost whose content has not come yet, by channel.
    lost: HashMap<u16, Lost>,
    pub(super) notes: Vec<Note>,
    over: Option<Violation>,
}

impl Inbound {
    /// For a new connection.
    #[must_use]
    pub fn new(marker: Marker) -> Self {
        Self {
            marker,
            frame_max: FRAME_MAX_DEFAULT,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            next: Next::Greeting,
            mended: Vec::new(),
            mended_out: 0,
            lost: HashMap::new(),
            notes: Vec::new(),
            over: None,
        }
    }

    /// The largest frame that both sides agreed upon; 0 when there is no bound.
    pub fn agree(&mut self, frame_max: u32) {
        self.frame_max = match usize::try_from(frame_max) {
            Ok(0) | Err(_) => FRAME_MAX_DEFAULT,
            Ok(bytes) => bytes.max(FRAME_MAX_LEAST),
        };
    }

    /// Bytes of memory that it holds for frames.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.buffer.capacity() + self.mended.capacity()
    }

    /// Where the broker's bytes go that [`Inbound::filled`] then counts; never empty when [`Inbound::take`] gave nothing.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start.., 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes were put into the space.
    pub fn filled(&mut self, bytes: usize) {
        self.end = self.buffer.len().min(self.end + bytes);
    }

    /// Hands out what lapin may read; 0 when more of the broker's bytes are wanted.
    ///
    /// # Errors
    /// What the broker did wrong, with every call from then on: nothing passes any more.
    pub fn take(&mut self, out: &mut [u8]) -> Result<usize, Violation> {
        let mut done = 0;
        while done < out.len() && self.over.is_none() {
            match self.step(&mut out[done..]) {
                Ok(Some(bytes)) => done += bytes,
                Ok(None) => break,
                Err(violation) => self.over = Some(violation),
            }
        }
        match &self.over {
            // What was right before it is still handed out.
            Some(violation) if done == 0 => Err(violation.clone()),
            Some(_) | None => Ok(done),
        }
    }

    fn waiting(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Does the next thing, and gives the bytes that it handed out; none when more of the broker's bytes are wanted.
    fn step(&mut self, out: &mut [u8]) -> Result<Option<usize>, Violation> {
        if !self.mended.is_empty() {
            return Ok(Some(self.hand_out_mended(out)));
        }
        let waiting = self.waiting();
        if waiting.is_empty() {
            return Ok(None);
        }
        match self.next {
            Next::Greeting => self.greeting(),
            Next::Head => self.frame(),
            Next::Pass(left) | Next::Body(left) => {
                let bytes = left.min(waiting.len()).min(out.len());
                out[..bytes].copy_from_slice(&waiting[..bytes]);
                self.start += bytes;
                self.next = match (self.next, left - bytes) {
                    (Next::Body(_), 0) => Next::End { passes: true },
                    (Next::Body(_), left) => Next::Body(left),
                    (_, 0) => Next::Head,
                    (_, left) => Next::Pass(left),
                };
                Ok(Some(bytes))
            }
            Next::Skip(left) => {
                let bytes = left.min(waiting.len());
                self.start += bytes;
                self.next = if bytes == left { Next::End { passes: false } } else { Next::Skip(left - bytes) };
                Ok(Some(0))
            }
            Next::End { passes } => {
                let last = waiting[0];
                if last != END {
                    return Err(Violation::End(last));
                }
                self.start += 1;
                self.next = Next::Head;
                if passes {
                    out[0] = last;
                }
                Ok(Some(usize::from(passes)))
            }
        }
    }

    fn hand_out_mended(&mut self, out: &mut [u8]) -> usize {
        let left = &self.mended[self.mended_out..];
        let bytes = left.len().min(out.len());
        out[..bytes].copy_from_slice(&left[..bytes]);
        self.mended_out += bytes;
        if self.mended_out == self.mended.len() {
            (self.mended, self.mended_out) = (Vec::new(), 0);
        }
        bytes
    }

    /// Another version's greeting passes, for lapin to refuse.
    fn greeting(&mut self) -> Result<Option<usize>, Violation> {
        let waiting = self.waiting();
        self.next = match waiting[0] {
            METHOD => Next::Head,
            b'A' if waiting.len() < GREETING => return Ok(None),
            b'A' if waiting.starts_with(b"AMQP\0") => Next::Pass(GREETING),
            _ => return Err(Violation::NotAmqp(foreign(waiting))),
        };
        Ok(Some(0))
    }

    fn frame(&mut self) -> Result<Option<usize>, Violation> {
        let waiting = self.waiting();
        let Some(&[kind, c1, c0, s3, s2, s1, s0]) = waiting.first_chunk::<HEAD>() else { return Ok(None) };
        let channel = u16::from_be_bytes([c1, c0]);
        let size = u32::from_be_bytes([s3, s2, s1, s0]) as usize;
        let bytes = size.saturating_add(OVERHEAD);
        let max = match kind {
            CONTENT => CONTENT_MAX,
            METHOD | BODY | HEARTBEAT => self.frame_max,
            _ => return Err(Violation::Kind(kind)),
        };
        if bytes > max {
            return Err(Violation::Large { bytes, max });
        }
        // A content header is read without its last byte where the frame is larger than agreed, and only its beginning.
        let read = if bytes > self.frame_max { bytes.min(HEAD + CONTENT_READ.max(self.frame_max)) } else { bytes };
        if kind == BODY {
            self.next = Next::Body(HEAD + size);
        } else if waiting.len() < read {
            self.make_room(read);
            return Ok(None);
        } else if bytes > self.frame_max {
            let lost = self.lost.remove(&channel).unwrap_or_default();
            let payload = &self.waiting()[HEAD..read.min(HEAD + size)];
            let damaged = Damaged { payload, bytes: size, room: self.frame_max - OVERHEAD };
            let passed_over = payload.len();
            let mended = content::rewrite(&damaged, lost, &self.marker).ok_or(Violation::Content)?;
            self.mended = framed(CONTENT, channel, &mended);
            self.start += HEAD + passed_over;
            self.next = Next::Skip(size - passed_over);
        } else if waiting[bytes - 1] != END {
            return Err(Violation::End(waiting[bytes - 1]));
        } else {
            self.whole(kind, channel, size)?;
        }
        Ok(Some(0))
    }

    /// A frame that is there as a whole.
    fn whole(&mut self, kind: u8, channel: u16, size: usize) -> Result<(), Violation> {
        let payload = &self.buffer[self.start + HEAD..self.start + HEAD + size];
        let mended = match kind {
            METHOD => match method::check(payload) {
                Checked::Broken => return Err(Violation::Method),
                Checked::Sound => {
                    if !self.lost.is_empty() {
                        self.lost.remove(&channel);
                    }
                    match method::method(payload) {
                        Some(CONNECTION_START) => self.notes.extend(method::server(payload).map(Note::Server)),
                        Some(CHANNEL_OPEN_OK) => self.notes.push(Note::Opened(channel)),
                        Some(_) | None => {}
                    }
                    None
                }
                Checked::Repaired(repaired, lost) => {
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
                    let damaged = Damaged { payload, bytes: size, room: self.frame_max - OVERHEAD };
                    let mended = content::rewrite(&damaged, lost.unwrap_or_default(), &self.marker);
                    Some(mended.ok_or(Violation::Content)?)
                }
            }
            _ => None,
        };
        match mended {
            None => self.next = Next::Pass(size + OVERHEAD),
            Some(payload) => {
                self.mended = framed(kind, channel, &payload);
                self.start += size + OVERHEAD;
            }
        }
        Ok(())
    }

    /// Makes the buffer large enough for so many bytes from its start.
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

/// What a peer speaks that does not speak AMQP, by its first bytes.
fn foreign(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 60;
    /// The records of TLS for an alert and for a handshake.
    const TLS: [u8; 2] = [0x15, 0x16];
    if bytes.starts_with(b"HTTP") {
        return "it is an HTTP server; RabbitMQ's management has port 15672, AMQP 5672".to_owned();
    }
    if TLS.contains(&bytes[0]) {
        return "it speaks TLS: write `amqps://` in the broker's URL, or take the port of plain AMQP".to_owned();
    }
    format!("it says `{}`", escaped(bytes, SHOWN_MAX))
}

#[cfg(test)]
mod tests;
