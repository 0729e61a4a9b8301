//! One connection, from its first byte to its end.

use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use trunkline_telemetry::wait;

use super::admission::{AdmissionOutcome, PendingConnection};
use super::limits::{BUFFER_MAX_BYTES, END_WITHIN, HEADERS_WITHIN, PROBE_STEP_WITHIN, PROBE_WITHIN, WRITE_WITHIN};
use super::write_timeout::WriteTimeout;

/// Serves a connection until its client closes it, a time limit passes, or the daemon stops.
pub(super) async fn serve_connection(
    mut stream: TcpStream,
    mut pending: PendingConnection,
    router: Router,
    stop: CancellationToken,
) {
    let _unset = stream.set_nodelay(true);
    let (prefix, outcome) = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        admitted = pending.admit(&mut stream) => admitted,
    };
    match outcome {
        AdmissionOutcome::Closed => {}
        AdmissionOutcome::Refused(why) => pending.refuse(stream, why).await,
        AdmissionOutcome::Probe => {
            let connection = http(PROBE_STEP_WITHIN).keep_alive(false).serve_connection(
                TokioIo::new(WriteTimeout::new(stream, prefix, PROBE_STEP_WITHIN)),
                TowerToHyperService::new(router),
            );
            tokio::select! {
                ended = connection => log_end(ended),
                () = pending.displaced() => {}
                () = stop.cancelled() => {}
                () = wait::until(Instant::now() + PROBE_WITHIN) => {}
            }
        }
        AdmissionOutcome::Slot(slot) => {
            let wanted = pending.slot_wanted();
            let stream = WriteTimeout::new(stream, prefix, WRITE_WITHIN);
            let connection =
                http(HEADERS_WITHIN).serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            tokio::pin!(connection, wanted);
            let mut is_last_request = false;
            let ended = loop {
                tokio::select! {
                    ended = connection.as_mut() => break Some(ended),
                    () = &mut wanted, if !is_last_request => {
                        // Between two requests the connection ends at once, during a request after its response.
                        connection.as_mut().graceful_shutdown();
                        is_last_request = true;
                    }
                    () = stop.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        break tokio::time::timeout(END_WITHIN, connection).await.ok();
                    }
                }
            };
            drop(slot);
            match ended {
                Some(ended) => log_end(ended),
                None => tracing::debug!("the daemon ends the connection of a client, because the daemon is stopping"),
            }
        }
    }
}

fn http(headers_within: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(headers_within).max_buf_size(BUFFER_MAX_BYTES);
    http
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "the connection of a client ended with an error");
    }
}
