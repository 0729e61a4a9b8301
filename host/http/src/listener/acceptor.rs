//! The loop that accepts connections and starts a task for each connection.
//!
//! `axum::serve` limits neither the number nor the duration of connections. A few clients that send their headers byte by byte
//! would therefore block the listener. A connection gets a slot only when its request line has arrived (`admission`). The
//! daemon answers probes without a slot. Neither many idle clients nor many slow clients keep a liveness probe from its response.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trunkline_telemetry::RepeatLimit;
use trunkline_telemetry::wait::{self, Loop, RetryLoop};

use super::admission::{Admission, Load};
use super::connection::serve_connection;
use super::limits::ConnectionLimits;

/// `listener-failed` stays raised for at least this time after a failure, although the next connection may be accepted at
/// once.
const FAILURE_SHOWN_FOR: Duration = Duration::from_secs(10);

/// Serves until `stop`, then finishes the requests in progress and returns.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    let limits = ConnectionLimits::for_descriptors(getrlimit(Resource::Nofile).current);
    let admission = Arc::new(Admission::new(limits.served));
    let mut connections = JoinSet::new();
    let mut acceptor = Acceptor::new(&listener);
    loop {
        while connections.try_join_next().is_some() {}
        let is_full = connections.len() >= limits.all();
        if is_full {
            // The connection that has waited longest without a request is refused at once, to make room.
            admission.displace_oldest();
        }
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ended = connections.join_next(), if is_full => continue,
            stream = acceptor.next(&admission), if !is_full => stream,
        };
        let load = if connections.len() >= limits.served { Load::High } else { Load::Normal };
        let (pending, router, stop) = (admission.enter(load), router.clone(), stop.clone());
        connections.spawn(async move { serve_connection(stream, pending, router, stop).await });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Accepts connections, also while the process has no descriptor left.
struct Acceptor<'l> {
    listener: &'l TcpListener,
    retry: RetryLoop,
    lines: RepeatLimit,
    failed_at: Option<Instant>,
    /// A spare descriptor, closed for a connection when there is no other descriptor. Connections are then served one
    /// after the other.
    spare: Option<std::fs::File>,
}

impl<'l> Acceptor<'l> {
    fn new(listener: &'l TcpListener) -> Self {
        let retry = RetryLoop::new(Loop::Accept, "");
        Self { listener, retry, lines: RepeatLimit::default(), failed_at: None, spare: None }
    }

    /// Ends [`FAILURE_SHOWN_FOR`] after the last failure, even if no client connects.
    async fn works_again(&mut self) {
        let Some(failed_at) = self.failed_at else { return std::future::pending().await };
        wait::until(failed_at + FAILURE_SHOWN_FOR).await;
        self.failed_at = None;
        self.lines.clear();
        self.retry.succeeded();
    }

    /// The next connection. Safe to drop while waiting.
    async fn next(&mut self, admission: &Admission) -> TcpStream {
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
            let is_of_one_client = matches!(
                error.kind(),
                ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
            );
            if is_of_one_client {
                tracing::debug!(%error, "a connection ended before the listener accepted the connection");
                continue;
            }
            admission.displace_oldest();
            self.failed_at = Some(Instant::now());
            let pause = self.retry.failed(&error.to_string());
            if self.spare.take().is_some() {
                continue;
            }
            if let Some(left_out) = self.lines.allows(&error.to_string()) {
                tracing::warn!(%error, left_out, "the HTTP listener could not accept a connection; the daemon tries again");
            }
            // The loop has no limit on the number of retries.
            if let Ok(pause) = pause {
                wait::after(pause).await;
            }
        }
    }
}
