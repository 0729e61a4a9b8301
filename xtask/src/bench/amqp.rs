//! A minimal AMQP client, which reads the number of messages in a queue. The benchmark has one such connection for all rounds, because
//! a process of `rabbitmqctl` or of another client would take processor time from the measured programs.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Limit for each answer of the broker.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Limit for the payload of a frame. RabbitMQ's default is 128 KiB.
const FRAME_BYTES_MAX: usize = 1 << 20;
const METHOD_FRAME: u8 = 1;
const FRAME_END: u8 = 0xCE;
/// The channel of all commands.
const CHANNEL: u16 = 1;

/// A class and a method of AMQP 0-9-1.
type Method = (u16, u16);

const START: Method = (10, 10);
const START_OK: Method = (10, 11);
const TUNE: Method = (10, 30);
const TUNE_OK: Method = (10, 31);
const OPEN: Method = (10, 40);
const OPEN_OK: Method = (10, 41);
const CHANNEL_OPEN: Method = (20, 10);
const CHANNEL_OPEN_OK: Method = (20, 11);
const DECLARE: Method = (50, 10);
const DECLARE_OK: Method = (50, 11);

/// A connection with one channel.
pub(crate) struct QueueProbe {
    stream: TcpStream,
}

impl QueueProbe {
    /// Connects to a private node, whose URL ends with the port and the virtual host `/`.
    pub(crate) fn connect(url: &str) -> Result<Self> {
        let port = url.rsplit(':').next().and_then(|rest| rest.split('/').next());
        let port = port.and_then(|port| port.parse::<u16>().ok()).with_context(|| format!("no port in {url}"))?;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut probe = Self { stream };
        probe.answer(START)?;
        let mut login = vec![0; 4];
        login.extend(short("PLAIN")?);
        login.extend([0, 0, 0, 12]);
        login.extend(b"\0guest\0guest");
        login.extend(short("en_US")?);
        probe.send(0, START_OK, &login)?;
        let mut limits = probe.answer(TUNE)?;
        // A heartbeat of 0 switches heartbeats off.
        limits.truncate(6);
        limits.extend([0, 0]);
        probe.send(0, TUNE_OK, &limits)?;
        let mut host = short("/")?;
        host.extend([0, 0]);
        probe.send(0, OPEN, &host)?;
        probe.answer(OPEN_OK)?;
        probe.send(CHANNEL, CHANNEL_OPEN, &[0])?;
        probe.answer(CHANNEL_OPEN_OK)?;
        Ok(probe)
    }

    /// The number of messages in a queue that are ready for delivery.
    pub(crate) fn depth(&mut self, queue: &str) -> Result<u64> {
        let mut declare = vec![0, 0];
        declare.extend(short(queue)?);
        // The flag `passive`: the broker only looks at the queue. An empty table of arguments follows.
        declare.extend([1, 0, 0, 0, 0]);
        self.send(CHANNEL, DECLARE, &declare)?;
        let answer = self.answer(DECLARE_OK)?;
        let name = answer.first().copied().map(usize::from).unwrap_or_default();
        let count = answer.get(name + 1..name + 5).context("a short answer to queue.declare")?;
        Ok(count.iter().fold(0, |count, byte| count << 8 | u64::from(*byte)))
    }

    fn send(&mut self, channel: u16, method: Method, arguments: &[u8]) -> Result<()> {
        let mut frame = vec![METHOD_FRAME];
        frame.extend(channel.to_be_bytes());
        frame.extend(u32::try_from(arguments.len() + 4)?.to_be_bytes());
        frame.extend(method.0.to_be_bytes());
        frame.extend(method.1.to_be_bytes());
        frame.extend(arguments);
        frame.push(FRAME_END);
        Ok(self.stream.write_all(&frame)?)
    }

    /// The arguments of the next method, which has to be the expected one.
    fn answer(&mut self, expected: Method) -> Result<Vec<u8>> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).with_context(|| format!("no answer {expected:?} from the broker"))?;
        let bytes = usize::try_from(u32::from_be_bytes([head[3], head[4], head[5], head[6]]))?;
        if !(4..=FRAME_BYTES_MAX).contains(&bytes) {
            bail!("a frame of {bytes} bytes instead of the method {expected:?}");
        }
        let mut payload = vec![0; bytes + 1];
        self.stream.read_exact(&mut payload)?;
        payload.pop();
        let method = (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
        if head[0] != METHOD_FRAME || method != expected {
            let text = String::from_utf8_lossy(&payload[4..]).into_owned();
            bail!("the broker answered with the method {method:?} instead of {expected:?}: {text}");
        }
        payload.drain(..4);
        Ok(payload)
    }
}

/// A short string of AMQP.
fn short(text: &str) -> Result<Vec<u8>> {
    let mut bytes = vec![u8::try_from(text.len())?];
    bytes.extend(text.as_bytes());
    Ok(bytes)
}
