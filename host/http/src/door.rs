//! What a connection wants, before it has a place: its request line is read, a probe is let through in any case, and who
//! says nothing for too long, or finds no place, is told so and turned away.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::listener::HEADERS_WITHIN;
use super::{Problem, health};
use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait;

/// What a client gets for its request line when most places are taken, and what it waits for a place then.
const PRESSED_WITHIN: Duration = Duration::from_secs(1);
/// What is read of a request before it is let in: more than the line of any probe.
const LINE_MAX_BYTES: usize = 4096;
/// A client that is turned away gets so long to take the answer, and to stop sending.
const AWAY_WITHIN: Duration = Duration::from_millis(500);
/// What is thrown away of what it sends meanwhile.
const AWAY_MAX_BYTES: usize = 64 << 10;

/// Where connections come in.
pub(super) struct Door {
    places: Arc<Semaphore>,
    /// Somebody waits for a place.
    wanted: Arc<Notify>,
    /// Those without a place, in the order in which they came.
    beside: Mutex<Beside>,
}

#[derive(Default)]
struct Beside {
    next: u64,
    visits: BTreeMap<u64, CancellationToken>,
}

/// A connection at the door.
pub(super) struct Visit {
    door: Arc<Door>,
    number: u64,
    leave: CancellationToken,
    came: Instant,
    is_pressed: bool,
}

/// What becomes of it.
pub(super) enum Entry {
    /// Served like any other.
    Place(OwnedSemaphorePermit),
    /// Served once, without a place.
    Probe,
    /// Turned away, for this reason.
    Away(&'static str),
    /// The client has gone by itself.
    Gone,
}

impl Door {
    pub(super) fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), wanted: Arc::default(), beside: Mutex::default() }
    }

    /// A connection has come; `is_pressed` when there are as many as there are places.
    pub(super) fn enter(self: &Arc<Self>, is_pressed: bool) -> Visit {
        let leave = CancellationToken::new();
        let mut beside = self.lock();
        let number = beside.next;
        beside.next += 1;
        beside.visits.insert(number, leave.clone());
        drop(beside);
        Visit { door: self.clone(), number, leave, came: Instant::now(), is_pressed }
    }

    /// Makes room: who came first of those without a place goes.
    pub(super) fn turn_oldest_away(&self) {
        if let Some((_, oldest)) = self.lock().visits.pop_first() {
            oldest.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Beside> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    /// Reads the request line, and decides. What was read of the request is given back.
    pub(super) async fn hear(&mut self, stream: &mut TcpStream) -> (Bytes, Entry) {
        let mut begun = Vec::new();
        let within = if self.is_pressed { PRESSED_WITHIN } else { HEADERS_WITHIN };
        let entry = tokio::select! {
            read = read_line(stream, &mut begun) => match read {
                Ok(()) => self.find_place(&begun).await,
                Err(_gone) => Entry::Gone,
            },
            () = self.asked_to_leave() => Entry::Away("others came, and it has said nothing"),
            () = wait::until(self.came + within) => Entry::Away("it has said nothing for too long"),
        };
        if let Entry::Place(_) = entry {
            self.door.lock().visits.remove(&self.number);
        }
        (begun.into(), entry)
    }

    /// A place if there is one, or when one is left within a second. Connections that only wait for a next request leave
    /// theirs.
    async fn find_place(&self, begun: &[u8]) -> Entry {
        if let Ok(place) = self.door.places.clone().try_acquire_owned() {
            return Entry::Place(place);
        }
        if is_probe(begun) {
            return Entry::Probe;
        }
        let place = self.door.places.clone().acquire_owned();
        self.door.wanted.notify_waiters();
        tokio::select! {
            Ok(place) = place => Entry::Place(place),
            () = self.asked_to_leave() => Entry::Away("every place is taken"),
            () = wait::after(PRESSED_WITHIN) => Entry::Away("every place is taken"),
        }
    }

    /// Ends when others need the room.
    pub(super) async fn asked_to_leave(&self) {
        self.leave.cancelled().await;
    }

    /// Ends when somebody finds no place, from now on.
    pub(super) fn place_is_wanted(&self) -> OwnedNotified {
        self.door.wanted.clone().notified_owned()
    }

    /// Tells the client, and ends the connection in a way that lets it read that.
    pub(super) async fn turn_away(&self, mut stream: TcpStream, why: &'static str) {
        telemetry::http_turned_away(why);
        let is_hurried = self.leave.is_cancelled();
        let telling = async {
            stream.write_all(&answer(why)).await?;
            stream.shutdown().await?;
            if is_hurried {
                return Ok(());
            }
            // What was sent and not read would make the end a reset, and a reset overtakes the answer.
            let (mut thrown_away, mut part) = (0, [0; 4096]);
            while thrown_away < AWAY_MAX_BYTES {
                match stream.read(&mut part).await? {
                    0 => break,
                    bytes => thrown_away += bytes,
                }
            }
            Ok::<_, Error>(())
        };
        tokio::select! {
            _told = telling => {}
            () = wait::after(AWAY_WITHIN) => {}
            () = self.asked_to_leave(), if !is_hurried => {}
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.door.lock().visits.remove(&self.number);
    }
}

async fn read_line(stream: &mut TcpStream, begun: &mut Vec<u8>) -> Result<()> {
    while line(begun).is_none() && begun.len() < LINE_MAX_BYTES {
        if stream.read_buf(begun).await? == 0 {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
    }
    Ok(())
}

/// The request line when it is whole; empty lines before it are passed over (RFC 9112, section 2.2).
fn line(begun: &[u8]) -> Option<&[u8]> {
    let first = begun.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let begun = &begun[first..];
    let end = begun.iter().position(|byte| *byte == b'\n')?;
    Some(begun[..end].trim_ascii_end())
}

fn is_probe(begun: &[u8]) -> bool {
    let Some(line) = line(begun).and_then(|line| std::str::from_utf8(line).ok()) else { return false };
    let [method, target, version] = line.split(' ').collect::<Vec<_>>()[..] else { return false };
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    matches!(method, "GET" | "HEAD") && version.starts_with("HTTP/1.") && health::PROBES.contains(&path)
}

/// 503 as a whole answer.
fn answer(why: &str) -> Vec<u8> {
    let problem = Problem::unavailable(format!("the listener takes no further connection: {why}"));
    // A document made of strings and numbers cannot fail to be written.
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let head = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-type: application/problem+json";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_known_by_their_line() {
        for line in [
            "GET /livez HTTP/1.1\r\n",
            "\r\n\r\nGET /livez HTTP/1.1\r\nhost: x",
            "HEAD /readyz HTTP/1.0\r\n",
            "GET /metrics?name[]=up HTTP/1.1\r\n",
            "GET /health/live HTTP/1.1\n",
        ] {
            assert!(is_probe(line.as_bytes()), "{line}");
        }
        for line in [
            "GET /livez HTTP/1.1",
            "POST /livez HTTP/1.1\r\n",
            "GET /livez/ HTTP/1.1\r\n",
            "GET /livezz HTTP/1.1\r\n",
            "GET  /livez HTTP/1.1\r\n",
            "GET /api/v1/events/stream?/livez HTTP/1.1\r\n",
            "GET http://localhost/livez HTTP/1.1\r\n",
            "GET /livez\r\n",
            "\r\n",
        ] {
            assert!(!is_probe(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn whoever_came_first_makes_room() {
        let door = Arc::new(Door::new(1));
        let visits: Vec<Visit> = (0..3).map(|_| door.enter(true)).collect();
        let away = || visits.iter().map(|visit| visit.leave.is_cancelled()).collect::<Vec<_>>();
        door.turn_oldest_away();
        assert_eq!(away(), [true, false, false]);
        door.turn_oldest_away();
        assert_eq!(away(), [true, true, false]);
        drop(visits);
        assert!(door.lock().visits.is_empty());
        door.turn_oldest_away();
    }
}
