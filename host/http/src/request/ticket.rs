//! Stream tickets. A browser's `EventSource` sends no `Authorization` header, so a page exchanges its token for a stream ticket
//! and writes the stream ticket into the URL of a stream. In this file, a ticket is a stream ticket.
//!
//! A ticket opens one stream, soon after it was issued. After that the ticket only resumes this stream, because an `EventSource`
//! reconnects with the same URL and the id of the last event. A ticket that a log of a proxy contains therefore opens no second
//! stream on this daemon. The daemon keeps only used tickets. The signature of a ticket shows that a daemon with the same key issued
//! the ticket.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use parking_lot::Mutex;
use sha2::Sha256;
use trunkline_event::{millis, now_ms};
use uuid::Uuid;

use crate::problem::Problem;

/// The only path that accepts a ticket.
pub(crate) const STREAM_PATH: &str = "/api/v1/events/stream";
/// The parameter with the ticket.
pub(crate) const TICKET: &str = "ticket";
/// Time within which a ticket opens a stream.
pub(crate) const OPENS_WITHIN: Duration = Duration::from_secs(60);
/// Time after the end of a connection within which the ticket resumes the stream.
const RESUMES_WITHIN: Duration = Duration::from_secs(60);
/// Used tickets that the daemon keeps.
const USED_MAX: usize = 4096;

/// Bytes of the time until which a ticket opens a stream.
const TIME_BYTES: usize = 8;
/// Bytes of a ticket before the signature: the time and a number.
const CONTENT_BYTES: usize = TIME_BYTES + NUMBER_BYTES;
const NUMBER_BYTES: usize = 16;

/// A number that no other ticket has.
type TicketNumber = [u8; NUMBER_BYTES];

/// Issues tickets, and admits the holders of tickets.
pub(crate) struct StreamTickets {
    key: [u8; 32],
    used: Mutex<HashMap<TicketNumber, TicketUse>>,
}

/// The use of one ticket. Times count milliseconds since the Unix epoch.
struct TicketUse {
    opens_until_ms: u64,
    /// The name of the stream, once the client can know the name.
    stream: Option<String>,
    connections: usize,
    /// Time at which the last connection ended.
    left_ms: u64,
}

impl TicketUse {
    fn admits(&self, last_event_id: Option<&str>, now_ms: u64) -> bool {
        match &self.stream {
            None => self.connections == 0 && now_ms <= self.opens_until_ms,
            Some(stream) => {
                let resumed = last_event_id.and_then(|id| id.split_once('.')).map(|(of, _)| of);
                resumed == Some(stream.as_str())
            }
        }
    }

    fn is_kept(&self, now_ms: u64) -> bool {
        let resumes_until_ms = self.left_ms.saturating_add(millis(RESUMES_WITHIN));
        self.connections > 0 || now_ms <= self.opens_until_ms.max(resumes_until_ms)
    }
}

impl StreamTickets {
    /// Tickets with this key. Daemons with the same key admit each other's tickets.
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key, used: Mutex::default() }
    }

    /// A new ticket, which opens a stream within [`OPENS_WITHIN`].
    pub(crate) fn issue(&self, now_ms: u64) -> String {
        let opens_until_ms = now_ms.saturating_add(millis(OPENS_WITHIN));
        let mut ticket = [&opens_until_ms.to_be_bytes()[..], &Uuid::now_v7().as_bytes()[..]].concat();
        let mac = self.mac(&ticket).finalize().into_bytes();
        ticket.extend_from_slice(&mac);
        BASE64_URL_SAFE_NO_PAD.encode(ticket)
    }

    /// Admits a connection with a ticket. `last_event_id` is the id that the client sent.
    ///
    /// # Errors
    /// 401 if the ticket is forged, too old or used; 503 if too many tickets are in use. No error contains the ticket.
    pub(crate) fn admit(
        self: &Arc<Self>,
        ticket: &str,
        last_event_id: Option<&str>,
        now_ms: u64,
    ) -> Result<TicketLease, Problem> {
        let refused = |why: &str| {
            Err(Problem::unauthorized_because(format!(
                "{why}; `POST /api/v1/events/stream/tickets` with a token issues another stream ticket"
            )))
        };
        let Some((number, opens_until_ms)) = self.read(ticket) else {
            return refused("the parameter `ticket` contains no stream ticket of this daemon");
        };
        let mut used = self.used.lock();
        used.retain(|_, ticket| ticket.is_kept(now_ms));
        if let Some(known) = used.get_mut(&number) {
            if !known.admits(last_event_id, now_ms) {
                return refused(
                    "the stream ticket was used before, and only resumes its own stream with the id of the last event",
                );
            }
            known.connections += 1;
        } else {
            if now_ms > opens_until_ms {
                return refused("the stream ticket is too old");
            }
            if used.len() >= USED_MAX {
                return Err(Problem::unavailable(format!(
                    "{USED_MAX} stream tickets are in use; open the stream again later"
                )));
            }
            used.insert(number, TicketUse { opens_until_ms, stream: None, connections: 1, left_ms: now_ms });
        }
        drop(used);
        Ok(TicketLease { tickets: self.clone(), number })
    }

    /// Number and time of a ticket with a valid signature.
    fn read(&self, ticket: &str) -> Option<(TicketNumber, u64)> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(ticket).ok()?;
        let (content, mac) = bytes.split_at_checked(CONTENT_BYTES)?;
        self.mac(content).verify_slice(mac).ok()?;
        let (time, number) = content.split_at_checked(TIME_BYTES)?;
        Some((number.try_into().ok()?, u64::from_be_bytes(time.try_into().ok()?)))
    }

    fn mac(&self, content: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of every length");
        mac.update(content);
        mac
    }
}

/// A connection that was admitted with a ticket. The connection ends when the lease is dropped.
pub(crate) struct TicketLease {
    tickets: Arc<StreamTickets>,
    number: TicketNumber,
}

impl TicketLease {
    /// Notes the name of the stream. From now on the ticket only resumes this stream.
    pub(crate) fn opened(&self, stream: &str) {
        if let Some(known) = self.tickets.used.lock().get_mut(&self.number) {
            known.stream = Some(stream.to_owned());
        }
    }
}

impl Drop for TicketLease {
    fn drop(&mut self) {
        if let Some(known) = self.tickets.used.lock().get_mut(&self.number) {
            known.connections = known.connections.saturating_sub(1);
            known.left_ms = now_ms();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets() -> Arc<StreamTickets> {
        Arc::new(StreamTickets::new([7; 32]))
    }

    /// The reason of a refusal.
    fn why(admitted: Result<TicketLease, Problem>) -> String {
        admitted.err().expect("a refusal").detail().to_owned()
    }

    #[test]
    fn a_ticket_opens_one_stream_and_resumes_it() {
        let (tickets, now) = (tickets(), now_ms());
        let ticket = tickets.issue(now);
        let first = tickets.admit(&ticket, None, now).expect("admitted");
        assert!(why(tickets.admit(&ticket, None, now)).contains("used before"), "a second client at the same time");
        first.opened("s-1");
        drop(first);
        for last in [None, Some("s-2.0"), Some("s-1"), Some("s-1x.0")] {
            assert!(why(tickets.admit(&ticket, last, now)).contains("used before"), "{last:?}");
        }
        // A client reconnects soon after the end of its connection, and the next connection lasts a day.
        let later = now + millis(RESUMES_WITHIN) - 1000;
        let again = tickets.admit(&ticket, Some("s-1.00ff"), later).expect("resumed");
        let much_later = now + 24 * 3600 * 1000;
        let handed_over = tickets.admit(&ticket, Some("s-1.0"), much_later).expect("the old connection hangs");
        drop((again, handed_over));
        assert!(why(tickets.admit(&ticket, Some("s-1.0"), much_later)).contains("too old"));
        assert!(tickets.used.lock().is_empty(), "the ticket is forgotten");
    }

    #[test]
    fn a_connection_without_a_stream_costs_no_ticket() {
        let (tickets, now) = (tickets(), now_ms());
        let ticket = tickets.issue(now);
        // For example, the pattern was invalid.
        drop(tickets.admit(&ticket, None, now).expect("admitted"));
        drop(tickets.admit(&ticket, Some("s-1.0"), now).expect("a new ticket resumes the stream of an older one"));
    }

    #[test]
    fn forged_and_old_tickets_are_refused() {
        let (tickets, now) = (tickets(), now_ms());
        let ticket = tickets.issue(now);
        let other = Arc::new(StreamTickets::new([8; 32]));
        assert!(why(other.admit(&ticket, None, now)).contains("no stream ticket of this daemon"));
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&ticket).expect("base64");
        bytes[0] ^= 1;
        let longer = BASE64_URL_SAFE_NO_PAD.encode(&bytes);
        for bad in ["", "a", "!", &ticket[1..], &longer, &format!("{ticket}AA")] {
            assert!(why(tickets.admit(bad, None, now)).contains("no stream ticket of this daemon"), "{bad}");
        }
        let end = now + millis(OPENS_WITHIN);
        assert!(why(tickets.admit(&ticket, None, end + 1)).contains("too old"));
        let same_key = Arc::new(StreamTickets::new([7; 32]));
        assert!(same_key.admit(&ticket, None, end).is_ok(), "another daemon with the same key");
    }

    #[test]
    fn used_tickets_are_bounded() {
        let (tickets, now) = (tickets(), now_ms());
        let held: Vec<_> =
            (0..USED_MAX).map(|_| tickets.admit(&tickets.issue(now), None, now).expect("admitted")).collect();
        assert!(why(tickets.admit(&tickets.issue(now), None, now)).contains("stream tickets are in use"));
        drop(held);
        assert!(tickets.admit(&tickets.issue(now + 600_000), None, now + 600_000).is_ok());
    }
}
