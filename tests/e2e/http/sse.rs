//! A small client of server-sent events. It neither reconnects nor skips events by itself.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use trunkline_support::{Daemon, eventually};

/// One block between two empty lines.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sse {
    pub id: String,
    /// Empty for an event of the stream.
    pub kind: String,
    pub data: Value,
}

#[derive(Default)]
struct Received {
    status: u16,
    events: Vec<Sse>,
    /// The time of the last byte, and the quiet time before each comment.
    last: Option<Instant>,
    comments: Vec<Duration>,
    ended: bool,
    body: String,
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    received: Arc<Mutex<Received>>,
}

impl Client {
    /// Requests the stream and reads it.
    pub fn open(daemon: &Daemon, path: &str, last_id: Option<&str>) -> Self {
        let (stream, received) = (ask(daemon, path, last_id), Arc::<Mutex<Received>>::default());
        let (reader, kept) = (stream.try_clone().expect("a socket"), received.clone());
        std::thread::spawn(move || {
            read(BufReader::new(reader), &kept);
            kept.lock().expect("no panic").ended = true;
        });
        Self { stream, received }
    }

    /// The events of the stream in their order, without `ready` and `gap`.
    pub fn events(&self) -> Vec<Sse> {
        let received = self.received.lock().expect("no panic");
        received.events.iter().filter(|event| event.kind.is_empty()).cloned().collect()
    }

    /// The ids within the data of the events.
    pub fn ids(&self) -> Vec<String> {
        self.events().iter().map(|event| event.data["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// The quiet time before each comment.
    pub fn comments(&self) -> Vec<Duration> {
        self.received.lock().expect("no panic").comments.clone()
    }

    /// All blocks of one kind.
    pub fn of(&self, kind: &str) -> Vec<Sse> {
        let received = self.received.lock().expect("no panic");
        received.events.iter().filter(|event| event.kind == kind).cloned().collect()
    }

    /// The id that an `EventSource` would send when it reconnects.
    pub fn last_id(&self) -> String {
        let received = self.received.lock().expect("no panic");
        received.events.iter().rev().map(|event| event.id.clone()).find(|id| !id.is_empty()).expect("an id came")
    }

    pub async fn becomes_ready(self) -> Self {
        eventually("the stream is ready", || {
            let found = (!self.of("ready").is_empty()).then_some(());
            async move { found }
        })
        .await;
        self
    }

    pub async fn has(&self, count: usize) {
        eventually(&format!("{count} events of the stream"), || {
            let received = self.received.lock().expect("no panic");
            let came = received.events.iter().filter(|event| event.kind.is_empty()).count();
            let found = (came >= count).then_some(());
            async move { found }
        })
        .await;
    }

    /// Waits until this event is the newest one.
    pub async fn has_come_to(&self, id: &str) {
        eventually(&format!("event {id} of the stream"), || {
            let received = self.received.lock().expect("no panic");
            let newest = received.events.iter().rfind(|event| event.kind.is_empty());
            let found = newest.is_some_and(|event| event.data["id"] == id).then_some(());
            async move { found }
        })
        .await;
    }

    pub async fn has_ended(&self) {
        eventually("the end of the stream", || {
            let ended = self.received.lock().expect("no panic").ended.then_some(());
            async move { ended }
        })
        .await;
    }

    /// Status and body of an answer that is not a stream.
    pub async fn refused(self) -> (u16, Value) {
        self.has_ended().await;
        let received = self.received.lock().expect("no panic");
        (received.status, serde_json::from_str(&received.body).unwrap_or_default())
    }

    /// Closes the connection without notice.
    pub fn cut(self) {
        drop(self);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _gone = self.stream.shutdown(Shutdown::Both);
    }
}

/// Requests the stream and reads nothing.
pub fn ask(daemon: &Daemon, path: &str, last_id: Option<&str>) -> TcpStream {
    let url = daemon.url(path);
    let (address, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
    let mut stream = TcpStream::connect(address).expect("it listens");
    let last = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let connection = if path.contains("stream") { "keep-alive" } else { "close" };
    let head = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: {connection}\r\n{last}\r\n");
    stream.write_all(head.as_bytes()).expect("it is sent");
    stream
}

fn read(mut reader: impl BufRead, kept: &Mutex<Received>) {
    let mut line = String::new();
    let mut is_chunked = false;
    let mut length = 0;
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line != "\r\n" {
        let lower = line.to_ascii_lowercase();
        if let Some(status) = lower.strip_prefix("http/1.1 ") {
            kept.lock().expect("no panic").status = status[..3].parse().expect("a status");
        }
        is_chunked |= lower.trim_end() == "transfer-encoding: chunked";
        if let Some(text) = lower.strip_prefix("content-length:") {
            length = text.trim().parse().expect("a length");
        }
        line.clear();
    }
    if !is_chunked {
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_ok() {
            kept.lock().expect("no panic").body = String::from_utf8(body).expect("a text");
        }
        return;
    }
    let mut text = Vec::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).is_ok_and(|bytes| bytes == 0) {
            return;
        }
        let Ok(size) = usize::from_str_radix(line.trim(), 16) else { return };
        let mut chunk = vec![0; size + 2];
        if size == 0 || reader.read_exact(&mut chunk).is_err() {
            return;
        }
        text.extend_from_slice(&chunk[..size]);
        while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
            let rest = text.split_off(end + 2);
            note(&String::from_utf8(text).expect("UTF-8"), kept);
            text = rest;
        }
    }
}

fn note(block: &str, kept: &Mutex<Received>) {
    let (mut event, mut data) = (Sse::default(), Vec::new());
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("id", id)) => event.id = id.to_owned(),
            Some(("event", kind)) => event.kind = kind.to_owned(),
            Some(("data", text)) => data.push(text),
            Some(_) | None => {}
        }
    }
    let mut received = kept.lock().expect("no panic");
    let quiet = received.last.replace(Instant::now()).map(|last| last.elapsed()).unwrap_or_default();
    if data.is_empty() {
        assert_eq!(block, ": keep-alive\n\n");
        received.comments.push(quiet);
        return;
    }
    event.data = serde_json::from_str(&data.join("\n")).expect("JSON");
    received.events.push(event);
}
