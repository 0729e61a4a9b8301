//! A producer that writes its AMQP frames by hand, for messages that no client library can send.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const METHOD: u8 = 1;
const CONTENT: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xCE;
const BODY_FRAME_MAX: usize = 131_064;
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The class and the number of a method.
type FrameMethod = (u16, u16);

/// A property as it stands on the wire, with the bit of its flag.
pub type FrameProperty = (u32, Vec<u8>);

/// The bit of `content-type`.
pub const CONTENT_TYPE: u32 = 15;
/// The bit of `content-encoding`.
pub const CONTENT_ENCODING: u32 = 14;
/// The bit of `headers`.
pub const HEADERS: u32 = 13;
/// The bit of `delivery-mode`.
const MODE: u32 = 12;
/// The bit of `correlation-id`.
pub const CORRELATION_ID: u32 = 10;
/// The bit of `reply-to`.
pub const REPLY_TO: u32 = 9;
/// The bit of `message-id`.
pub const MESSAGE_ID: u32 = 7;
/// The bit of `type`.
pub const TYPE: u32 = 5;
/// The bit of `app-id`.
pub const APP_ID: u32 = 3;
/// The bit of `cluster-id`.
pub const CLUSTER_ID: u32 = 2;

/// A `shortstr`; a longer value is cut to 255 bytes.
#[must_use]
pub fn short(text: &[u8]) -> Vec<u8> {
    let text = &text[..text.len().min(255)];
    [&[u8::try_from(text.len()).unwrap_or(u8::MAX)], text].concat()
}

/// A `longstr`, or the content of a table or an array, of at most 4 GiB.
#[must_use]
pub fn long(inside: &[u8]) -> Vec<u8> {
    [&u32::try_from(inside.len()).unwrap_or(u32::MAX).to_be_bytes(), inside].concat()
}

/// An entry of a table with a `longstr`.
#[must_use]
pub fn entry(name: &[u8], text: &[u8]) -> Vec<u8> {
    [&short(name)[..], b"S", &long(text)].concat()
}

/// An entry `deep` that is an array (`A`) or a table (`F`), nested `levels` times.
#[must_use]
pub fn nested(kind: u8, levels: u32) -> Vec<u8> {
    let name = if kind == b'F' { short(b"n") } else { Vec::new() };
    // Building from the inside out would copy all bytes for each level.
    let step = u32::try_from(name.len()).unwrap_or_default() + 5;
    let mut value = Vec::new();
    for level in (0..levels).rev() {
        value.extend((level * step).to_be_bytes());
        if level > 0 {
            value.extend(&name);
            value.push(kind);
        }
    }
    [&short(b"deep")[..], &[kind], &value].concat()
}

/// Flags and properties of a persistent message.
#[must_use]
pub fn properties(given: &[FrameProperty]) -> Vec<u8> {
    let mut sorted = given.to_vec();
    sorted.push((MODE, vec![2]));
    sorted.sort_by_key(|(bit, _)| std::cmp::Reverse(*bit));
    let flags = sorted.iter().fold(0_u16, |flags, (bit, _)| flags | 1 << bit);
    let values = sorted.into_iter().flat_map(|(_, value)| value);
    flags.to_be_bytes().into_iter().chain(values).collect()
}

/// A connection with one channel in confirm mode.
pub struct FrameProducer {
    stream: TcpStream,
}

impl FrameProducer {
    /// Connects by a URL with user and password, to the virtual host `/`.
    ///
    /// # Errors
    /// When the broker is away or refuses.
    pub async fn connect(url: &str) -> Result<Self> {
        let (user, rest) = url.strip_prefix("amqp://").and_then(|rest| rest.split_once('@')).context("no URL")?;
        let (user, password) = user.split_once(':').context("no password")?;
        let address = rest.split('/').next().context("no address")?;
        let mut producer = Self { stream: TcpStream::connect(address).await? };
        producer.stream.write_all(b"AMQP\0\0\x09\x01").await?;
        producer.expect((10, 10)).await?;
        let answer = [b"\0", user.as_bytes(), b"\0", password.as_bytes()].concat();
        producer.send(0, (10, 11), &[&long(b""), &short(b"PLAIN"), &long(&answer), &short(b"en_US")]).await?;
        producer.expect((10, 30)).await?;
        producer.send(0, (10, 31), &[&[7, 255], &131_072_u32.to_be_bytes(), &[0, 0]]).await?;
        producer.call(0, (10, 40), &[&short(b"/"), &[0, 0]]).await?;
        producer.call(1, (20, 10), &[&[0]]).await?;
        producer.call(1, (85, 10), &[&[0]]).await?;
        Ok(producer)
    }

    /// Declares an exchange of type fanout and binds a queue to it.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn fanout(&mut self, exchange: &[u8], queue: &str) -> Result<()> {
        let none = long(b"");
        self.call(1, (40, 10), &[&[0, 0], &short(exchange), &short(b"fanout"), &[0b10], &none]).await?;
        let queue = short(queue.as_bytes());
        self.call(1, (50, 20), &[&[0, 0], &queue, &short(exchange), &short(b""), &[0], &none]).await
    }

    /// Publishes flags and properties unchanged, and waits for the broker's confirm.
    ///
    /// # Errors
    /// When the broker does not confirm the message.
    pub async fn publish(&mut self, exchange: &[u8], key: &[u8], properties: &[u8], body: &[u8]) -> Result<()> {
        self.send(1, (60, 40), &[&[0, 0], &short(exchange), &short(key), &[0]]).await?;
        let size = u64::try_from(body.len())?.to_be_bytes();
        self.write(CONTENT, 1, &[&[0, 60, 0, 0][..], &size, properties].concat()).await?;
        for body in body.chunks(BODY_FRAME_MAX) {
            self.write(BODY, 1, body).await?;
        }
        self.expect((60, 80)).await
    }

    async fn call(&mut self, channel: u16, method: FrameMethod, fields: &[&[u8]]) -> Result<()> {
        self.send(channel, method, fields).await?;
        self.expect((method.0, method.1 + 1)).await
    }

    async fn send(&mut self, channel: u16, (class, method): FrameMethod, fields: &[&[u8]]) -> Result<()> {
        let payload = [&class.to_be_bytes(), &method.to_be_bytes(), &fields.concat()[..]].concat();
        self.write(METHOD, channel, &payload).await
    }

    async fn write(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Result<()> {
        let frame = [&[kind], &channel.to_be_bytes()[..], &long(payload), &[END]].concat();
        Ok(self.stream.write_all(&frame).await?)
    }

    /// Waits for a method, which has to be the next one.
    async fn expect(&mut self, method: FrameMethod) -> Result<()> {
        let reading = async {
            loop {
                let mut head = [0; 7];
                self.stream.read_exact(&mut head).await?;
                let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
                let mut payload = vec![0; usize::try_from(size)? + 1];
                self.stream.read_exact(&mut payload).await?;
                if head[0] == METHOD {
                    return Ok::<_, anyhow::Error>(payload);
                }
            }
        };
        let payload = tokio::time::timeout(ANSWER_WITHIN, reading).await.context("no answer in time")??;
        let word = |at: usize| payload.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        let got = (word(0), word(2));
        ensure!(got == (Some(method.0), Some(method.1)), "{got:?}: {}", String::from_utf8_lossy(&payload));
        Ok(())
    }
}
