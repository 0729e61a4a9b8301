//! A producer that writes its frames by hand, because no client library sends what it has to send.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const METHOD: u8 = 1;
const CONTENT: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xCE;
const BODY_FRAME_MAX: usize = 131_064;

/// Class and method.
type Method = (u16, u16);

/// A `shortstr`.
pub fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("a shortstr")], text].concat()
}

/// A `longstr`, or the inside of a table or an array.
pub fn long(inside: &[u8]) -> Vec<u8> {
    [&u32::try_from(inside.len()).expect("a longstr").to_be_bytes(), inside].concat()
}

/// An entry of a table with a `longstr`.
pub fn entry(name: &[u8], text: &[u8]) -> Vec<u8> {
    [&short(name)[..], b"S", &long(text)].concat()
}

/// A property by the bit of its flag, as it stands on the wire.
pub type Property = (u32, Vec<u8>);

pub const CONTENT_TYPE: u32 = 15;
pub const CONTENT_ENCODING: u32 = 14;
pub const HEADERS: u32 = 13;
pub const MODE: u32 = 12;
pub const CORRELATION_ID: u32 = 10;
pub const REPLY_TO: u32 = 9;
pub const MESSAGE_ID: u32 = 7;
pub const TYPE: u32 = 5;
pub const APP_ID: u32 = 3;
pub const CLUSTER_ID: u32 = 2;

/// Flags and properties.
pub fn properties(given: &[Property]) -> Vec<u8> {
    let mut sorted = given.to_vec();
    sorted.push((MODE, vec![2]));
    sorted.sort_by_key(|(bit, _)| std::cmp::Reverse(*bit));
    let flags = sorted.iter().fold(0_u16, |flags, (bit, _)| flags | 1 << bit);
    let values = sorted.into_iter().flat_map(|(_, value)| value);
    flags.to_be_bytes().into_iter().chain(values).collect()
}

/// Connected, with one channel in confirm mode.
pub struct Producer {
    stream: TcpStream,
}

impl Producer {
    /// By a URL with user and password, on the virtual host `/`.
    pub async fn connect(url: &str) -> Self {
        let (user, rest) = url.strip_prefix("amqp://").and_then(|rest| rest.split_once('@')).expect("a URL");
        let (user, password) = user.split_once(':').expect("a user with a password");
        let address = rest.split('/').next().expect("an address");
        let mut producer = Self { stream: TcpStream::connect(address).await.expect("the broker is there") };
        producer.stream.write_all(b"AMQP\0\0\x09\x01").await.expect("written");
        producer.expect((10, 10)).await;
        let answer = [b"\0", user.as_bytes(), b"\0", password.as_bytes()].concat();
        producer.send(0, (10, 11), &[&long(b""), &short(b"PLAIN"), &long(&answer), &short(b"en_US")]).await;
        producer.expect((10, 30)).await;
        producer.send(0, (10, 31), &[&[7, 255], &131_072_u32.to_be_bytes(), &[0, 0]]).await;
        producer.call(0, (10, 40), &[&short(b"/"), &[0, 0]]).await;
        producer.call(1, (20, 10), &[&[0]]).await;
        producer.call(1, (85, 10), &[&[0]]).await;
        producer
    }

    /// Publishes flags and properties as they are, and waits until the broker has confirmed the message.
    pub async fn publish(&mut self, exchange: &[u8], key: &[u8], properties: &[u8], body: &[u8]) {
        self.send(1, (60, 40), &[&[0, 0], &short(exchange), &short(key), &[0]]).await;
        let size = u64::try_from(body.len()).expect("short").to_be_bytes();
        self.write(CONTENT, 1, &[&[0, 60, 0, 0][..], &size, properties].concat()).await;
        for body in body.chunks(BODY_FRAME_MAX) {
            self.write(BODY, 1, body).await;
        }
        self.expect((60, 80)).await;
    }

    async fn call(&mut self, channel: u16, method: Method, fields: &[&[u8]]) {
        self.send(channel, method, fields).await;
        self.expect((method.0, method.1 + 1)).await;
    }

    async fn send(&mut self, channel: u16, (class, method): Method, fields: &[&[u8]]) {
        let payload = [&class.to_be_bytes(), &method.to_be_bytes(), &fields.concat()[..]].concat();
        self.write(METHOD, channel, &payload).await;
    }

    async fn write(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let frame = [&[kind], &channel.to_be_bytes()[..], &long(payload), &[END]].concat();
        self.stream.write_all(&frame).await.expect("the broker reads");
    }

    /// Waits for a method, which has to be the next one.
    async fn expect(&mut self, method: Method) {
        let reading = async {
            loop {
                let mut head = [0; 7];
                self.stream.read_exact(&mut head).await.expect("an answer");
                let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
                let mut payload = vec![0; usize::try_from(size).expect("short") + 1];
                self.stream.read_exact(&mut payload).await.expect("an answer");
                if head[0] == METHOD {
                    break payload;
                }
            }
        };
        let within = trunkline_support::patience().max(Duration::from_secs(20));
        let payload = tokio::time::timeout(within, reading).await.expect("an answer in time");
        let got = (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
        assert_eq!(got, method, "{}", String::from_utf8_lossy(&payload[4..]));
    }
}
