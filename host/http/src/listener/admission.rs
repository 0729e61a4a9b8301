//! Admission of connections. A connection gets a slot when its request line has arrived and a slot is free. A probe is
//! served without a slot. A connection that sends nothing for too long, or that finds no slot, is refused with 503.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait;

use super::limits::HEADERS_WITHIN;
use crate::api::health::PROBES;
use crate::problem::Problem;

/// Time for the request line when most slots are taken, and time to wait for a slot.
const HIGH_LOAD_WITHIN: Duration = Duration::from_secs(1);
/// Largest number of bytes that are read before a connection gets a slot. The request line of every probe is shorter.
const LINE_MAX_BYTES: usize = 4096;
/// Time for a refused client to read the response and to stop sending.
const REFUSAL_WITHIN: Duration = Duration::from_millis(500);
/// Largest number of bytes of a refused client that are read and discarded.
const REFUSAL_MAX_BYTES: usize = 64 << 10;

/// The slots, and the connections that wait for a slot.
pub(super) struct Admission {
    slots: Arc<Semaphore>,
    /// Notified when a connection waits for a slot.
    wanted: Arc<Notify>,
    /// Connections without a slot, in the order of their arrival.
    pending: Mutex<PendingList>,
}

#[derive(Default)]
struct PendingList {
    next: u64,
    displaced: BTreeMap<u64, CancellationToken>,
}

/// The share of the slots that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// There are fewer connections than slots.
    Normal,
    /// There are at least as many connections as slots.
    High,
}

/// A connection without a slot.
pub(super) struct PendingConnection {
    admission: Arc<Admission>,
    number: u64,
    displaced: CancellationToken,
    arrived: Instant,
    load: Load,
}

/// The decision about a connection.
pub(super) enum AdmissionOutcome {
    /// The connection has a slot.
    Slot(OwnedSemaphorePermit),
    /// The connection is served one probe without a slot.
    Probe,
    /// The connection is refused, for this reason.
    Refused(&'static str),
    /// The client closed the connection.
    Closed,
}

impl Admission {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(slots)), wanted: Arc::default(), pending: Mutex::default() }
    }

    /// Registers a new connection.
    pub(super) fn enter(self: &Arc<Self>, load: Load) -> PendingConnection {
        let displaced = CancellationToken::new();
        let mut pending = self.pending.lock();
        let number = pending.next;
        pending.next += 1;
        pending.displaced.insert(number, displaced.clone());
        drop(pending);
        PendingConnection { admission: self.clone(), number, displaced, arrived: Instant::now(), load }
    }

    /// Ends the oldest connection without a slot, to make room for a newer connection.
    pub(super) fn displace_oldest(&self) {
        if let Some((_, oldest)) = self.pending.lock().displaced.pop_first() {
            oldest.cancel();
        }
    }
}

impl PendingConnection {
    /// Reads the request line and decides about the connection. The result also has the bytes that were read.
    pub(super) async fn admit(&mut self, stream: &mut TcpStream) -> (Bytes, AdmissionOutcome) {
        let mut prefix = Vec::new();
        let within = match self.load {
            Load::High => HIGH_LOAD_WITHIN,
            Load::Normal => HEADERS_WITHIN,
        };
        let outcome = tokio::select! {
            read = read_line(stream, &mut prefix) => match read {
                Ok(()) => self.find_slot(&prefix).await,
                Err(_closed) => AdmissionOutcome::Closed,
            },
            () = self.displaced() => AdmissionOutcome::Refused("the connection sent no request before newer connections arrived"),
            () = wait::until(self.arrived + within) => AdmissionOutcome::Refused("the connection sent no request in time"),
        };
        if let AdmissionOutcome::Slot(_) = outcome {
            self.admission.pending.lock().displaced.remove(&self.number);
        }
        (prefix.into(), outcome)
    }

    /// Takes a slot that is free, or that becomes free within a second. Connections that wait for their next request end, so
    /// that their slots become free.
    async fn find_slot(&self, prefix: &[u8]) -> AdmissionOutcome {
        if let Ok(slot) = self.admission.slots.clone().try_acquire_owned() {
            return AdmissionOutcome::Slot(slot);
        }
        if is_probe(prefix) {
            return AdmissionOutcome::Probe;
        }
        let slot = self.admission.slots.clone().acquire_owned();
        self.admission.wanted.notify_waiters();
        tokio::select! {
            Ok(slot) = slot => AdmissionOutcome::Slot(slot),
            () = self.displaced() => AdmissionOutcome::Refused("all slots for connections are in use"),
            () = wait::after(HIGH_LOAD_WITHIN) => AdmissionOutcome::Refused("all slots for connections are in use"),
        }
    }

    /// Ends when this connection must make room for a newer connection.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Ends at the next time that a connection finds no free slot.
    pub(super) fn slot_wanted(&self) -> OwnedNotified {
        self.admission.wanted.clone().notified_owned()
    }

    /// Sends 503, and closes the connection so that the client can read the response.
    pub(super) async fn refuse(&self, mut stream: TcpStream, why: &'static str) {
        telemetry::http_turned_away(why);
        let is_hurried = self.displaced.is_cancelled();
        let sending = async {
            stream.write_all(&unavailable(why)).await?;
            stream.shutdown().await?;
            if is_hurried {
                return Ok(());
            }
            // If received bytes are not read, the close becomes a reset. A reset can overtake the response.
            let (mut discarded, mut part) = (0, [0; 4096]);
            while discarded < REFUSAL_MAX_BYTES {
                match stream.read(&mut part).await? {
                    0 => break,
                    bytes => discarded += bytes,
                }
            }
            Ok::<_, Error>(())
        };
        tokio::select! {
            _sent = sending => {}
            () = wait::after(REFUSAL_WITHIN) => {}
            () = self.displaced(), if !is_hurried => {}
        }
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        self.admission.pending.lock().displaced.remove(&self.number);
    }
}

async fn read_line(stream: &mut TcpStream, prefix: &mut Vec<u8>) -> Result<()> {
    while line(prefix).is_none() && prefix.len() < LINE_MAX_BYTES {
        if stream.read_buf(prefix).await? == 0 {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
    }
    Ok(())
}

/// The complete request line. Empty lines before the request line are skipped (RFC 9112, section 2.2).
fn line(prefix: &[u8]) -> Option<&[u8]> {
    let first = prefix.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let prefix = &prefix[first..];
    let end = prefix.iter().position(|byte| *byte == b'\n')?;
    Some(prefix[..end].trim_ascii_end())
}

fn is_probe(prefix: &[u8]) -> bool {
    let Some(line) = line(prefix).and_then(|line| std::str::from_utf8(line).ok()) else { return false };
    let [method, target, version] = line.split(' ').collect::<Vec<_>>()[..] else { return false };
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    matches!(method, "GET" | "HEAD") && version.starts_with("HTTP/1.") && PROBES.contains(&path)
}

/// A whole 503 response.
fn unavailable(why: &str) -> Vec<u8> {
    let problem = Problem::unavailable(format!("the listener does not accept the connection: {why}"));
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
    fn the_oldest_connection_makes_room() {
        let admission = Arc::new(Admission::new(1));
        let pending: Vec<PendingConnection> = (0..3).map(|_| admission.enter(Load::High)).collect();
        let displaced = || pending.iter().map(|pending| pending.displaced.is_cancelled()).collect::<Vec<_>>();
        admission.displace_oldest();
        assert_eq!(displaced(), [true, false, false]);
        admission.displace_oldest();
        assert_eq!(displaced(), [true, true, false]);
        drop(pending);
        assert!(admission.pending.lock().displaced.is_empty());
        admission.displace_oldest();
    }
}
