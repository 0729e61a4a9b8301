//! Connections: how many there may be at once, how long a client may take to say what it wants and to take the answer,
//! and their end.
//!
//! `axum::serve` bounds none of it, so a few clients that send their headers byte by byte would hold the listener. A
//! connection takes a place only when its request line is there (`door`), and probes are answered without one, so that
//! neither many idle clients nor many slow ones keep a liveness probe from its answer.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::door::{self, Door, Visit};
use super::patience::Patient;
use trunkline_telemetry::wait::{Loop, Retry};

/// Connections that are served at once.
const SERVED_MAX: usize = 512;
/// Connections beside them, of which it is not known yet what they want, or which are only told that there is no place.
const BESIDE_MAX: usize = 128;
/// From the first moment of a connection, or from its last answer, to the end of a request's headers.
pub(super) const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// A client that takes nothing of its answer for so long has gone, or wants to hold us.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// What open connections get once the daemon stops: a client that takes nothing must not hold that either.
const END_WITHIN: Duration = Duration::from_secs(5);
/// Bounds the headers of a request, and what of an answer is buffered beside the kernel's own buffers.
const BUFFER_MAX_BYTES: usize = 64 << 10;
/// What a probe without a place gets for its headers, and to take anything of its answer.
const PROBE_STEP_WITHIN: Duration = Duration::from_secs(1);
/// What it gets for everything.
const PROBE_WITHIN: Duration = Duration::from_secs(5);

/// A failure to accept is seen for so long at least, although the next connection may be taken at once.
const SHOWN_FOR: Duration = Duration::from_secs(10);

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// With a place.
    pub(super) served: usize,
    /// Without one.
    pub(super) beside: usize,
}

impl Room {
    /// At most half of the descriptors that the process may have: the others are the broker's, the files' and the plugins'.
    pub(super) fn of(descriptors: Option<u64>) -> Self {
        let half = descriptors.map_or(usize::MAX, |most| usize::try_from(most / 2).unwrap_or(usize::MAX));
        let all = half.clamp(10, SERVED_MAX + BESIDE_MAX);
        let beside = all * BESIDE_MAX / (SERVED_MAX + BESIDE_MAX);
        Self { served: all - beside, beside }
    }

    const fn all(self) -> usize {
        self.served + self.beside
    }
}

/// Serves until `stop`, then answers what is under way and returns.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    let room = Room::of(getrlimit(Resource::Nofile).current);
    let door = Arc::new(Door::new(room.served));
    let mut connections = JoinSet::new();
    let mut accepting = Accepting::new(&listener);
    loop {
        while connections.try_join_next().is_some() {}
        let is_full = connections.len() >= room.all();
        if is_full {
            // Who has said nothing for longest makes room; that takes no time.
            door.turn_oldest_away();
        }
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ended = connections.join_next(), if is_full => continue,
            stream = accepting.next(&door), if !is_full => stream,
        };
        let is_pressed = connections.len() >= room.served;
        let (visit, router, stop) = (door.enter(is_pressed), router.clone(), stop.clone());
        connections.spawn(async move { attend(stream, visit, router, stop).await });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Takes connections, also while the process has no descriptor left.
struct Accepting<'l> {
    listener: &'l TcpListener,
    retry: Retry,
    failed_at: Option<Instant>,
    /// Given up for a connection when there is no other descriptor, so that one after the other is heard all the same.
    spare: Option<std::fs::File>,
}

impl<'l> Accepting<'l> {
    fn new(listener: &'l TcpListener) -> Self {
        Self { listener, retry: Retry::new(Loop::Accept, ""), failed_at: None, spare: None }
    }

    /// Ends when the last failure is long enough ago. Also where nobody comes: nobody is kept waiting then.
    async fn works_again(&mut self) {
        let Some(failed_at) = self.failed_at else { return std::future::pending().await };
        trunkline_telemetry::wait::until(failed_at + SHOWN_FOR).await;
        self.failed_at = None;
        self.retry.succeeded();
    }

    /// The next connection. Safe to drop while waiting.
    async fn next(&mut self, door: &Door) -> TcpStream {
        loop {
            if self.spare.is_none() {
                self.spare = std::fs::File::open("/dev/null").ok();
            }
            let listener = self.listener;
            let accepted = tokio::select! {
                biased;
                () = self.works_again() => continue,
                accepted = listener.accept() => accepted,
            };
            let error = match accepted {
                Ok((stream, _)) => return stream,
                Err(error) => error,
            };
            let is_of_one = matches!(
                error.kind(),
                ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
            );
            if is_of_one {
                tracing::debug!(%error, "a connection ended before it was accepted");
                continue;
            }
            door.turn_oldest_away();
            self.failed_at = Some(Instant::now());
            let pause = self.retry.failed(&error.to_string());
            if self.spare.take().is_some() {
                continue;
            }
            tracing::warn!(%error, "a connection could not be accepted");
            // The loop has no bound: it waits and never gives up.
            if let Ok(pause) = pause {
                trunkline_telemetry::wait::after(pause).await;
            }
        }
    }
}

/// One connection, from its first byte to its end.
async fn attend(stream: TcpStream, mut visit: Visit, router: Router, stop: CancellationToken) {
    let mut stream = stream;
    let _unset = stream.set_nodelay(true);
    let (begun, entry) = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        heard = visit.hear(&mut stream) => heard,
    };
    match entry {
        door::Entry::Gone => {}
        door::Entry::Away(why) => visit.turn_away(stream, why).await,
        door::Entry::Probe => {
            let connection = http(PROBE_STEP_WITHIN)
                .keep_alive(false)
                .serve_connection(TokioIo::new(Patient::new(stream, begun, PROBE_STEP_WITHIN)), service(router));
            tokio::select! {
                ended = connection => told(ended),
                () = visit.asked_to_leave() => {}
                () = stop.cancelled() => {}
                () = trunkline_telemetry::wait::until(Instant::now() + PROBE_WITHIN) => {}
            }
        }
        door::Entry::Place(place) => {
            let wanted = visit.place_is_wanted();
            let stream = Patient::new(stream, begun, TAKEN_WITHIN);
            let connection = http(HEADERS_WITHIN).serve_connection(TokioIo::new(stream), service(router));
            tokio::pin!(connection, wanted);
            let mut is_last = false;
            let ended = loop {
                tokio::select! {
                    ended = connection.as_mut() => break Some(ended),
                    () = &mut wanted, if !is_last => {
                        // Between two requests it ends now, in the middle of one after the answer.
                        connection.as_mut().graceful_shutdown();
                        is_last = true;
                    }
                    () = stop.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        break tokio::time::timeout(END_WITHIN, connection).await.ok();
                    }
                }
            };
            drop(place);
            match ended {
                Some(ended) => told(ended),
                None => tracing::debug!("a client's connection is cut: the daemon stops"),
            }
        }
    }
}

fn http(headers_within: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(headers_within).max_buf_size(BUFFER_MAX_BYTES);
    http
}

fn service(router: Router) -> TowerToHyperService<Router> {
    TowerToHyperService::new(router)
}

fn told(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended badly");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_descriptors_are_for_connections() {
        let room = |descriptors| Room::of(Some(descriptors));
        assert_eq!(Room::of(None), Room { served: 512, beside: 128 });
        assert_eq!(room(1_000_000), Room::of(None));
        assert_eq!(room(1024), Room { served: 410, beside: 102 });
        for descriptors in 64..2048 {
            let Room { served, beside } = room(descriptors);
            assert!(served > beside && beside > 4, "{descriptors}: {served} and {beside}");
            assert!(served + beside <= usize::try_from(descriptors / 2).expect("few"), "{descriptors}");
        }
        assert_eq!(room(4), Room { served: 8, beside: 2 });
    }
}
