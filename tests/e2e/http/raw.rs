//! HTTP by hand: requests that no client library would send, and connections under the control of a test.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use trunkline_support::Daemon;

/// The bytes of a connection until its end.
#[derive(Debug)]
pub struct Answer {
    /// 0 without an answer.
    pub status: u16,
    pub head: String,
    pub body: String,
    /// Until the end of the connection.
    pub took: Duration,
}

impl Answer {
    /// The problem document.
    pub fn problem(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A connection to a daemon.
pub fn connect(daemon: &Daemon) -> TcpStream {
    TcpStream::connect(daemon.url("").trim_start_matches("http://")).expect("it listens")
}

/// A connection on which a text was sent.
pub fn begun(daemon: &Daemon, text: &str) -> TcpStream {
    let mut stream = connect(daemon);
    stream.write_all(text.as_bytes()).expect("sent");
    stream
}

/// Sends a request and reads until the daemon closes the connection.
pub fn exchange(daemon: &Daemon, request: &str) -> Answer {
    read(begun(daemon, request))
}

/// Reads until the daemon closes the connection, or sends nothing for a minute.
pub fn read(mut stream: TcpStream) -> Answer {
    let began = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the connection is still open"),
        // A reset is an end too.
        Ok(_) | Err(_) => {}
    }
    let text = String::from_utf8(bytes).expect("a text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Answer { status, head: head.to_owned(), body: body.to_owned(), took: began.elapsed() }
}
