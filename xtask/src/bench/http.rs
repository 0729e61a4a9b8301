//! A small HTTP client for load: one connection, one request at a time, and no more work for a request than necessary, because the
//! client runs on the processors of the daemon.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Limit for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// Limit for the body of an answer. `/metrics` of 500 routes has some megabytes.
const BODY_BYTES_MAX: usize = 64 << 20;

/// A connection to the daemon.
pub(crate) struct HttpConnection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl HttpConnection {
    pub(crate) fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self { stream: BufReader::new(stream), host: address.to_owned() })
    }

    /// The body of a page, whose status has to be 200.
    pub(crate) fn get(&mut self, path: &str) -> Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (status, body) = self.answer()?;
        if status != 200 {
            bail!("GET {path} gave the status {status}: {body}");
        }
        Ok(body)
    }

    /// Publishes a JSON body, which the daemon has to accept.
    pub(crate) fn post(&mut self, path: &str, body: &str) -> Result<String> {
        let (host, length) = (&self.host, body.len());
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        // One write, so that the daemon gets the request in one piece.
        self.stream.get_mut().write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        let (status, answer) = self.answer()?;
        if status != 202 {
            bail!("POST {path} gave the status {status}: {answer}");
        }
        Ok(answer)
    }

    fn answer(&mut self) -> Result<(u16, String)> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.context("no status line")?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            is_chunked |= line == "transfer-encoding: chunked";
        }
        let mut body = Vec::new();
        if is_chunked {
            loop {
                let bytes = usize::from_str_radix(self.line()?.trim(), 16)?;
                self.read(bytes, &mut body)?;
                self.line()?;
                if bytes == 0 {
                    break;
                }
            }
        } else {
            self.read(length, &mut body)?;
        }
        Ok((status, String::from_utf8(body)?))
    }

    fn read(&mut self, bytes: usize, body: &mut Vec<u8>) -> Result<()> {
        let begin = body.len();
        if begin + bytes > BODY_BYTES_MAX {
            bail!("the answer has more than {BODY_BYTES_MAX} bytes");
        }
        body.resize(begin + bytes, 0);
        Ok(self.stream.read_exact(&mut body[begin..])?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the daemon closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }
}

/// The sum of the series of `/metrics` whose name and labels begin with a text.
pub(crate) fn metric(connection: &mut HttpConnection, begin: &str) -> Result<f64> {
    let text = connection.get("/metrics")?;
    let values = text.lines().filter_map(|line| line.strip_prefix(begin)?.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(values.sum())
}
