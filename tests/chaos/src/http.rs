//! A small HTTP/1.1 client: one connection that is kept alive, one request at a time. It uses little processor time,
//! because the producer, the daemon and the broker share two cores.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The limit for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const ANSWER_MAX_BYTES: usize = 4 << 20;

/// One connection.
pub struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// Status and body.
pub type Answer = (u16, String);

impl Client {
    /// Connects with the first request, and again after a failed one.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::new() }
    }

    /// `GET`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()).await
    }

    /// `POST` of a JSON text.
    ///
    /// # Errors
    /// When there is no answer. The daemon may have carried out the request.
    pub async fn post(&mut self, path: &str, body: &str) -> Result<Answer> {
        self.post_bytes(path, body.as_bytes()).await
    }

    /// `POST` of bytes with the content type JSON.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub async fn post_bytes(&mut self, path: &str, body: &[u8]) -> Result<Answer> {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        self.send([head.as_bytes(), body].concat()).await
    }

    async fn send(&mut self, request: Vec<u8>) -> Result<Answer> {
        let answered = tokio::time::timeout(ANSWER_WITHIN, self.exchange(&request)).await;
        let answer = answered.unwrap_or_else(|_elapsed| Err(anyhow::anyhow!("no answer within {ANSWER_WITHIN:?}")));
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        // A daemon that refuses a body may answer and close the connection before the whole body was sent.
        let written = stream.write_all(request).await;
        self.buffer.clear();
        loop {
            if let Some(answer) = parse(&self.buffer)? {
                self.stream = Some(stream);
                return Ok(answer);
            }
            if self.buffer.len() > ANSWER_MAX_BYTES {
                bail!("the answer is too long");
            }
            if stream.read_buf(&mut self.buffer).await? == 0 {
                written?;
                bail!("the connection ended before the answer did");
            }
        }
    }
}

/// The answer, once it is complete.
fn parse(bytes: &[u8]) -> Result<Option<Answer>> {
    let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..head_end])?;
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).context("no status")?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    };
    let length = head.lines().find_map(header).context("no content-length")?;
    let body = &bytes[head_end + 4..];
    if body.len() < length {
        return Ok(None);
    }
    Ok(Some((status, String::from_utf8_lossy(&body[..length]).into_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole() {
        let text = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\nx: y\r\n\r\nhello";
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end]).unwrap(), None);
        }
        assert_eq!(parse(text).unwrap(), Some((202, "hello".to_owned())));
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "no length");
    }
}
